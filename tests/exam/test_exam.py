"""A whole exam on toy data: its results, and its recovery from failures."""

import itertools
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Command
from conftest import EXAM_TASKS, QUICK, SMALL_EXAM, plan_of

from eyas import DistillSettings, StudentSettings, distill, load_exam
from eyas.errors import DataError, EyasError, OutputError
from eyas.exam.best import find_best
from eyas.exam.plan import Plan
from eyas.exam.plan_file import make_plan, to_yaml
from eyas.exam.results import COSTS, RESULT, RESULTS, Requirements, candidates, read_rows
from eyas.exam.run import planned_trials, run_exam
from eyas.exam.workers import Failure, LocalWorker, LocalWorkers, Task, ThisProcess
from eyas.report import ship
from eyas.serve import Predictor
from eyas.serve.models import Models


def _written(exam: Path) -> dict[str, int]:
    """When each trial's result was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in exam.glob(f"trials/*/{RESULT}")}


@pytest.fixture
def copy(exam: Path, tmp_path: Path) -> Path:
    """A copy of the exam that a test may change."""
    return Path(shutil.copytree(exam, tmp_path / "exam"))


def test_exam_has_a_row_for_each_trial(exam: Path) -> None:
    trials = load_exam(exam)
    assert (trials["status"] == "done").all()
    assert (trials["split"] == "test").all()
    trials = trials[trials["dataset"] == "films"]
    assert list(trials["kind"]) == ["teacher"] * 2 + ["baseline"] * 2 + ["student"] * 2
    assert (trials["rows"] == 60).all()
    teacher = trials.iloc[0]
    assert teacher["retention"] == 1
    assert teacher["times_faster"] == 1
    assert (trials["latency_ms"] > 0).all()
    assert (trials["latency_p99_ms"] >= trials["latency_ms"]).all()
    assert (trials["peak_rss_bytes"] > trials["added_rss_bytes"]).all()
    students = trials[trials["kind"] == "student"]
    assert (students["embedding_parameters"] > 0).all()
    assert set(students["recipe"]) == {"logit-mse", "hard-labels"}
    # a student and its twin have the same form
    assert students.groupby("model")["latency_ms"].nunique().eq(1).all()
    table = candidates(trials)
    assert len(table) == 6
    assert (table["seeds"] == 1).all()


def test_exam_run_again_repeats_no_trial(copy: Path, toys: dict[str, Path]) -> None:
    before, files = _written(copy), [(copy / name).read_bytes() for name in (RESULTS, COSTS)]
    run_exam(plan_of(toys, EXAM_TASKS), copy, jobs=0)
    assert _written(copy) == before
    assert [(copy / name).read_bytes() for name in (RESULTS, COSTS)] == files


def test_larger_exam_runs_only_new_trials_and_records_failure(plan: Plan, copy: Path) -> None:
    before = _written(copy)
    too_wide = {"architecture": "static", "embedding_size": 999, "name": "too wide"}
    more = plan.model_copy(update={"students": make_plan(data="x", teacher="y", students=[too_wide]).students})
    larger = more.model_copy(update={"students": (*plan.students, *more.students), "twins": False})
    run_exam(larger, copy, jobs=0)
    assert _written(copy) == before
    trials = load_exam(copy)
    failed = trials[trials["status"] == "failed"]
    assert list(failed["model"]) == ["too wide"]
    assert "999" in failed["error"].iloc[0]
    assert len(trials) == 6
    assert len(candidates(trials)) == 5


def test_shipped_student_has_the_reported_score(exam: Path, tmp_path: Path) -> None:
    found = find_best(exam, Requirements(retention=0.1), "films")
    students = load_exam(exam).query("dataset == 'films' and kind == 'student' and validation_retention >= 0.1")
    assert found["latency_ms"] == students["latency_ms"].min()
    out = ship(exam, found, tmp_path / "shipped")
    predictor = Predictor(out)
    rows = [json.loads(line) for line in Path(load_test_split(exam)).read_text().splitlines()]
    right = [a["label"] == row["label"] for a, row in zip(predictor([r["text"] for r in rows]), rows, strict=True)]
    assert sum(right) / len(right) == pytest.approx(found["score"])
    card = (out / "README.md").read_text()
    assert "# shipped\n" in card
    assert "![score against latency" in card
    assert (out / "exam.svg").read_text().startswith("<svg")
    served = Models([out]).get()
    assert served is not None
    verdict = served.describe()["exam"]
    assert isinstance(verdict, dict)
    assert verdict["retention"] == found["retention"]
    assert verdict["metric"] == "accuracy"
    assert f"{found['retention']:.1%}" in card


def load_test_split(exam: Path) -> str:
    import yaml

    return f"{yaml.safe_load((exam / 'plan.yaml').read_text())['data'][0]['source']}/test.jsonl"


def test_find_best_error_names_the_closest_student(exam: Path) -> None:
    with pytest.raises(DataError, match=r"500% .*0\.1 MB.*static-e16, (logit-mse|hard-labels)"):
        find_best(exam, Requirements(retention=5, size_bytes=1e5), "films")
    with pytest.raises(DataError, match=f"'other'.*{', '.join(EXAM_TASKS)}"):
        find_best(exam, Requirements(), "other")
    with pytest.raises(DataError, match=f"{', '.join(EXAM_TASKS)}.*--dataset"):
        find_best(exam, Requirements())


def test_exam_refuses_results_of_newer_version(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text(json.dumps({"format_version": 99}) + "\n")
    (tmp_path / "eyas.json").write_text(json.dumps({"settings": {"command": "exam"}}))
    for call in (lambda: load_exam(tmp_path), lambda: run_exam(plan, tmp_path)):
        with pytest.raises(OutputError, match=r"version 99\b"):
            call()


def test_load_exam_skips_truncated_last_line(results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = (results / RESULTS).read_text().splitlines(keepends=True)
    (tmp_path / RESULTS).write_text("".join(lines[:-1]) + lines[-1][:40])
    assert len(load_exam(tmp_path)) == len(lines) - 1
    assert RESULTS in caplog.text
    (tmp_path / RESULTS).write_text("{oh\n" + "".join(lines))
    with pytest.raises(DataError, match=rf"{RESULTS}:1\b"):
        load_exam(tmp_path)


def test_load_exam_refuses_folder_without_results(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        load_exam(tmp_path)


def test_exam_refuses_folder_with_other_content(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match=rf"{tmp_path} .*--out"):
        run_exam(plan, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_exam_refuses_bad_data_before_any_trial(
    teacher_folder: Path, toy_data: Path, toy_pairs: Path, tmp_path: Path
) -> None:
    with pytest.raises(EyasError, match="nowhere"):
        run_exam(make_plan(data="nowhere", teacher=str(teacher_folder), **SMALL_EXAM), tmp_path / "a", jobs=0)
    pair = {"source": str(toy_pairs), "label_map": {"negative": "disliked", "positive": "liked"}}
    plan = make_plan(data=[str(toy_data), pair], teacher=str(teacher_folder), **SMALL_EXAM)
    with pytest.raises(DataError, match=rf"{toy_data.name} and {toy_pairs.name}.*single texts.*pairs of texts"):
        run_exam(plan, tmp_path / "b", jobs=0)
    assert not list(tmp_path.glob("*/trials/*"))


def test_this_process_returns_failures() -> None:
    with ThisProcess() as worker:
        tasks: list[Task] = [(os.path.basename, ("a/b",)), (_exhaust, ()), (int, ("x",))]
        (_, name), (_, exhausted), (_, wrong) = worker.run(tasks)
    assert name == "b"
    assert exhausted == worker.call(_exhaust) == Failure("the machine ran out of memory")
    assert "ValueError" in wrong.error


@pytest.mark.process
def test_local_worker_returns_failure_if_killed_or_out_of_memory() -> None:
    with LocalWorker() as worker:
        assert worker.call(os._exit, 9) == Failure("its process was killed; perhaps the machine ran out of memory")
        assert worker.call(os.path.basename, "a/b") == "b"
        assert worker.call(_exhaust) == Failure("the machine ran out of memory")
        assert worker.call(int, "x") == Failure("ValueError: invalid literal for int() with base 10: 'x'")


@pytest.mark.process
def test_local_workers_run_tasks_in_parallel() -> None:
    tasks: list[Task] = [(time.sleep, (1,)), (os._exit, (1,)), (os.path.basename, ("a/b",)), (_exhaust, ())]
    with LocalWorkers(2) as workers:
        outcomes = list(workers.run(tasks))
    assert [number for number, _ in outcomes] != [0, 1, 2, 3]  # the first slept while the others ran
    found = dict(outcomes)
    assert found[0] is None
    assert found[2] == "b"
    assert isinstance(found[1], Failure)
    assert isinstance(found[3], Failure)


def _exhaust() -> None:
    raise MemoryError


def _start_exam(start: Callable[..., Command], plan: Plan, tmp_path: Path) -> Command:
    (tmp_path / "plan.yaml").write_text(to_yaml(plan))
    return start("exam", tmp_path / "plan.yaml", "--out", tmp_path / "killed")


def _disturb(start: Callable[..., Command], plan: Plan, tmp_path: Path, kills: int) -> list[dict[str, int]]:
    """Kill a running exam several times, then let it finish; returns the results written after each run."""
    chance, seen = random.Random(0), []
    for _ in range(kills):
        command = _start_exam(start, plan, tmp_path)
        command.wait_for("scored on")
        time.sleep(chance.uniform(0.0, 4.0))
        assert command.process.pid is not None
        os.kill(command.process.pid, signal.SIGKILL)
        command.process.join()
        time.sleep(0.5)  # the worker sees that its parent is gone
        seen.append(_written(tmp_path / "killed"))
    last = _start_exam(start, plan, tmp_path)
    assert last.wait(300) == 0, last.stderr.read_text()
    return [*seen, _written(tmp_path / "killed")]


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_exam_resumes_with_same_results(
    start: Callable[..., Command], plan: Plan, exam: Path, tmp_path: Path, kills: int
) -> None:
    if kills == 1:  # a part of the plan, for speed
        plan = plan.model_copy(update={"baselines": False, "twins": False})
    seen = _disturb(start, plan, tmp_path, kills)
    expected = {row["key"]: row for row in read_rows(exam / RESULTS)}
    found = read_rows(tmp_path / "killed" / RESULTS)
    assert found == [expected[row["key"]] for row in found]
    assert len(found) == (3 if kills == 1 else 6)
    for before, after in itertools.pairwise(seen):  # no trial is done twice
        assert before.items() <= after.items()
    assert (tmp_path / "killed" / "report" / "index.html").is_file()


def test_exam_refuses_folder_in_use(start: Callable[..., Command], plan: Plan, tmp_path: Path) -> None:
    first = _start_exam(start, plan, tmp_path)
    first.wait_for("scored on")
    second = _start_exam(start, plan, tmp_path)
    assert second.wait() == 2
    assert "another process" in second.stderr.read_text()
    first.process.terminate()
    assert first.wait() == 143
    assert "run the same command again" in first.stderr.read_text()


@pytest.mark.process
def test_exam_augments_as_distill_does_by_default(
    teacher_folder: Path, toy_data: Path, toy_tags: Path, tag_teacher_folder: Path, tmp_path: Path
) -> None:
    wanted = {}
    for name, teacher, data in (("films", teacher_folder, toy_data), ("tags", tag_teacher_folder, toy_tags)):
        student = StudentSettings("static", embedding_size=8)
        settings = DistillSettings(student, arguments=QUICK)
        folder = distill(teacher, data, tmp_path / name, settings=settings).path
        wanted[name] = json.loads((folder / "eyas.json").read_text())["settings"]["transfer"]["augment"]
    assert wanted == {"films": ["neighbors:10"], "tags": []}
    data = [
        {"source": str(toy_data), "name": "films", "teacher": str(teacher_folder)},
        {"source": str(toy_tags), "name": "tags", "teacher": str(tag_teacher_folder)},
    ]
    student_plan = {"architecture": "static", "embedding_size": 8}
    plan = make_plan(data=data, students=[student_plan], seeds=[0], arguments=QUICK, baselines=False, twins=False)
    assert {t.dataset.name: list(t.dataset.augment or ()) for t in planned_trials(plan)} == wanted
    rows = load_exam(run_exam(plan, tmp_path / "exam", jobs=0))
    students = rows[rows["kind"] == "student"].set_index("dataset")
    assert dict(students["transfer"]) == {"films": "neighbors:10", "tags": ""}
    assert students.loc["films", "transfer_texts"] > 5 * 240
