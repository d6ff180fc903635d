"""The snippets of README and docs run as printed."""

import re
import shutil
from pathlib import Path

import pytest
from toys import toy_rows, write_jsonl

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def folder(tmp_path: Path, toy_data: Path, teacher_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders that the snippets assume: reviews/ and teacher/."""
    shutil.copytree(toy_data, tmp_path / "reviews")
    shutil.copytree(teacher_folder, tmp_path / "teacher")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.process
def test_readme_python_snippets_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short, long = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len([line for line in short.splitlines() if line.strip()]) <= 4
    exec(compile(short, "README.md", "exec"), {})
    assert "'label'" in capsys.readouterr().out
    assert {path.name for path in (folder / "shipped").iterdir()} >= {"model.onnx", "manifest.json", "README.md"}
    exec(compile(long, "README.md", "exec"), {})
    assert "'retention'" in capsys.readouterr().out
    assert (folder / "student" / "model.safetensors").is_file()


def test_readme_lists_every_command() -> None:
    from typer.main import get_command

    from eyas.cli import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"^eyas ([\w-]+)", README.read_text(), re.MULTILINE))
    assert named == known


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
