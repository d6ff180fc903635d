"""Exams train one student for several data sets."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import EXAM_TASKS, plan_of

from eyas.errors import DataError
from eyas.exam.plan import Plan
from eyas.exam.plan_file import make_plan
from eyas.exam.results import candidates, load_exam
from eyas.exam.run import _run_missing, planned_trials, run_exam
from eyas.exam.workers import ThisProcess
from eyas.models.loading import is_part
from eyas.report import write_page

BERT = {"architecture": "bert", "layers": 1}


def test_one_student_has_a_row_for_each_task(exam: Path, toys: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exam, tmp_path / "exam"))
    before = len(list((folder / "trials").iterdir()))
    plan = plan_of(toys, EXAM_TASKS).model_copy(update={"together": True})
    run_exam(plan, folder, jobs=0)
    assert len(list((folder / "trials").iterdir())) == before + len(EXAM_TASKS)  # all others were finished
    (whole,) = (path.parent for path in folder.glob("trials/*/student/config.json") if "tasks" in _config(path))
    assert all(is_part(whole / name) for name in EXAM_TASKS)
    rows = load_exam(folder).query("model == 'static-e16 together'").set_index("dataset")
    assert set(rows.index) == set(EXAM_TASKS)
    assert dict(rows["recipe"]) == {"films": "logit-mse", "tags": "dist"}  # the default of each
    assert (rows["score"] > 0.8).all()
    assert rows["start"].isna().all()  # narrower than the general students
    assert rows["steps"].nunique() == 1  # of the same training
    alone = candidates(load_exam(folder)).query("model == 'static-e16'").set_index("dataset")
    assert set(alone["recipe"]) == {"logit-mse", "dist"}
    assert "static-e16 together" in write_page(folder).read_text()


def _config(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _plan(toys: dict[str, Path], **other: Any) -> Plan:
    data = [{"source": str(toys[name]), "name": name, "teacher": name} for name in ("films", "tags")]
    return make_plan(**{"data": data, "students": ["cnn"], "together": True, "seeds": [0], **other})


def test_students_and_recipes_that_cannot_do_several_tasks_are_left_out(toys: dict[str, Path]) -> None:
    plan = _plan(toys, students=["cnn", "ensemble:cnn,bilstm", BERT], recipes=["logit-mse", "tinybert"])
    together = [trial for trial in planned_trials(plan) if trial.together]
    assert {(trial.model, trial.recipe) for trial in together} == {
        (f"{name} together", "logit-mse") for name in ("cnn", "bert-l1")
    }


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"data": [{"source": "x", "teacher": "t"}]}, "together needs several data sets.*got x"),
        ({"data": [{"source": "x", "name": "a b", "teacher": "t"}, {"source": "y", "teacher": "t"}]}, "got a b, y"),
        ({"tune": 3}, r"together is for students without tune: leave one out \(films\)"),
        ({"students": ["ensemble:cnn,bilstm"]}, "together: A student of several tasks is one of static, cnn"),
        ({"recipes": ["tinybert"], "students": [BERT]}, "together: .*in one stage"),
        ({"data": [{"source": n, "teacher": ["t", "u"]} for n in "xy"]}, "without several teachers"),
        ({"data": [{"source": n, "teacher": "t", "unlabeled": ["z"]} for n in "xy"]}, "without unlabeled"),
        ({"data": [{"source": n, "teacher": "t", "mixup": 0.4} for n in "xy"]}, "does not take mixup"),
    ],
)
def test_plans_refuse_what_several_tasks_do_not_take(
    other: dict[str, Any], expected: str, toys: dict[str, Path]
) -> None:
    with pytest.raises(DataError, match=expected):
        _plan(toys, **other)


def test_two_names_of_one_student_are_trained_once(toys: dict[str, Path], tmp_path: Path) -> None:
    started: list[str] = []

    class Workers(ThisProcess):
        def run(self, tasks: Any) -> Any:
            started.extend(arguments[1] for _, arguments in tasks)
            return iter(())

    plan = _plan(toys, students=["cnn", {"architecture": "cnn", "name": "again"}], together=False)
    trials = [(trial, trial.key("data")) for trial in planned_trials(plan)]
    _run_missing(Workers(), trials, tmp_path)
    assert len(started) == len(set(started)) == len({key for _, key in trials}) < len(trials)
    assert started == list(dict.fromkeys(key for _, key in trials))  # in the order of the plan


def test_other_data_are_another_training(toys: dict[str, Path]) -> None:
    trials = [trial for trial in planned_trials(_plan(toys)) if trial.together]
    keys = {trial.key("films tags") for trial in trials}
    assert len(keys) == 2
    assert {trial.key("films other") for trial in trials}.isdisjoint(keys)
