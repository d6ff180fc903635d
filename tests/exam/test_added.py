"""Students that were made before sit in an exam; a dry run says how long it takes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eyas.errors import DataError
from eyas.exam.plan_file import make_plan
from eyas.exam.results import Requirements, candidates, load_exam
from eyas.exam.run import run_exam
from eyas.report import write_page
from eyas.report.cascades import sentence, together
from eyas.report.terminal import reachable, verdicts

Run = Callable[..., tuple[int, str, str]]
PLAIN = {"seeds": [0], "baselines": False, "cost": {"texts": 10, "rounds": 1}}


@pytest.mark.process
def test_added_student_sits_in_the_exam_as_it_is(
    students: dict[tuple[str, bool], Path], teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    data = {"source": str(toy_data), "name": "films", "augment": "none"}
    new = [{"architecture": "static", "embedding_size": 16}]
    add, short = [str(students["cnn", False])], {"num_train_epochs": 1}
    plan = make_plan(data=data, teacher=str(teacher_folder), students=new, add=add, arguments=short, **PLAIN)
    folder = run_exam(plan, tmp_path / "exam", jobs=0)
    table = candidates(load_exam(folder)).set_index("model")
    row = table.loc[students["cnn", False].name]
    assert row["recipe"] == "made before"
    assert row["score"] == 1.0
    assert row["other_parameters"] > 0
    page = write_page(folder).read_text()
    assert f"Ship {students['cnn', False].name}, made before" in page
    for name in ("in capitals", "with a typo", "without its \u201cnot\u201d"):
        assert name in page


def test_page_shows_the_cascade_of_the_winner(exam: Path) -> None:
    table = candidates(load_exam(exam))
    table = table[table["dataset"] == table["dataset"].iloc[0]].copy()
    student = table[(table["kind"] == "student") & (table["model"].str.startswith("static"))].index[0]
    table["winner"] = table.index == student
    table.loc[table["kind"] == "teacher", "latency_ms"] = 10.0  # the toy teacher is as fast as its student
    table.loc[student, "latency_ms"] = 0.1
    (pair,) = together(exam, table)
    curve = pair.curve.sort_values("answered")
    teacher = table[(table["kind"] == "teacher") & (table["precision"] == "fp32")].iloc[0]
    assert curve["score"].iloc[0] == pytest.approx(teacher["score"])
    assert curve["score"].iloc[-1] == pytest.approx(table.loc[student, "score"])
    assert curve["latency_ms"].iloc[0] == pytest.approx(10.1)
    assert curve["latency_ms"].iloc[-1] == pytest.approx(0.1)
    assert "times its speed" in sentence(pair, "test") or "no threshold" in sentence(pair, "test")


def test_added_folder_is_checked(toy_data: Path) -> None:
    with pytest.raises(DataError, match=r"add: .*distill or finetune wrote, got 'nowhere'"):
        make_plan(data=str(toy_data), teacher="t", add=["nowhere"])


def test_added_folder_has_a_name_of_its_own(students: dict[tuple[str, bool], Path], toy_data: Path) -> None:
    folder = students["cnn", False]
    with pytest.raises(DataError, match="is both a student and an added folder"):
        make_plan(
            data=str(toy_data), teacher="t", students=[{"architecture": "cnn", "name": folder.name}], add=[str(folder)]
        )


def test_exam_without_a_finished_student_still_ends(exam: Path, tmp_path: Path, run: Run) -> None:
    folder = Path(shutil.copytree(exam, tmp_path / "exam"))
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    kept = [row if row["kind"] != "student" else {**row, "status": "failed", "error": "broken"} for row in rows]
    (folder / "results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in kept))
    for name, table, verdict in verdicts(folder, Requirements()):
        assert verdict == "No student finished this exam.", name
        assert reachable(table, Requirements()) == Requirements()


def test_dry_run_says_how_long_the_exam_takes(teacher_folder: Path, toy_data: Path, run: Run) -> None:
    options = ("--seeds", 1, "--student", "static", "--augment", "none", "--dry-run")
    code, out, err = run("exam", "--teacher", teacher_folder, "--data", toy_data, *options)
    assert code == 0, err
    assert "6 trials: about" in out
    assert "of labeling" in out


@pytest.mark.process
def test_exam_ends_with_its_verdict_and_the_command_that_ships(
    teacher_folder: Path, toy_data: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--seeds", 1, "--student", "static", "--augment", "none", "--epochs", 3)
    code, out, err = run("exam", "--teacher", teacher_folder, "--data", toy_data, *options)
    assert code == 0, err
    assert "static, logit-mse" in out
    command = next(line for line in out.splitlines() if line.startswith("Next: eyas best exam"))
    code, _, err = run(*command.removeprefix("Next: eyas ").split())
    assert code == 0, err
    assert json.loads((tmp_path / "shipped" / "manifest.json").read_text())["calibration"]["decisions"] == 60
