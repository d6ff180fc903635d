"""Exams train one student for several data sets."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import EXAM_TASKS, PLANTED, plan_of
from toys import write_jsonl

from eyas.errors import DataError, ModelError
from eyas.exam.estimate import _pace, estimate
from eyas.exam.plan import Plan
from eyas.exam.plan_file import make_plan
from eyas.exam.results import load_exam
from eyas.exam.run import _run_missing, planned_trials, run_exam
from eyas.exam.trials import homes_of
from eyas.exam.workers import ThisProcess
from eyas.models.loading import is_part
from eyas.report import write_page
from eyas.report.training import training_curves
from eyas.settings import NO_START

BERT = {"architecture": "bert", "layers": 1}


def test_one_student_has_a_row_for_each_task(exam: Path, toys: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exam, tmp_path / "exam"))
    before = len(list((folder / "trials").iterdir()))
    plan = plan_of(toys, EXAM_TASKS).model_copy(update={"together": True})
    run_exam(plan, folder, jobs=0)
    assert len(list((folder / "trials").iterdir())) == before + len(EXAM_TASKS)  # all others were finished
    (whole,) = (path.parent for path in folder.glob("trials/*/together/config.json"))
    assert all(is_part(whole / name) for name in EXAM_TASKS)
    rows = load_exam(folder).query("model == 'static-e16 together'").set_index("dataset")
    assert set(rows.index) == set(EXAM_TASKS)
    assert dict(rows["recipe"]) == {"films": "logit-mse", "tags": "dist"}  # the default of each
    assert (rows["score"] > 0.8).all()
    assert rows["start"].isna().all()  # narrower than the general students
    assert rows["steps"].nunique() == 1  # of the same training
    assert all("validation score" in set(training_curves(folder, [key])["name"]) for key in rows["key"])
    assert "static-e16 together" in write_page(folder).read_text()


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
        ({"data": [{"source": "x", "name": "2020", "teacher": "t"}, {"source": "y", "teacher": "t"}]}, "got 2020, y"),
        ({"tune": 3}, "together is for plans without tune"),
        ({"students": ["ensemble:cnn,bilstm"]}, "together: A student of several tasks is one of static, cnn"),
        ({"recipes": ["tinybert"], "students": [BERT]}, "together: .*in one stage"),
        ({"data": [{"source": n, "teacher": ["t", "u"]} for n in "xy"]}, "without several teachers"),
        ({"data": [{"source": n, "teacher": "t", "unlabeled": ["z"]} for n in "xy"]}, "without unlabeled"),
        ({"data": [{"source": n, "teacher": "t", "mixup": 0.4} for n in "xy"]}, "does not take mixup"),
        ({"students": ["cnn", {"architecture": "static", "name": "cnn together"}]}, "named like another"),
    ],
)
def test_plans_refuse_what_several_tasks_do_not_take(
    other: dict[str, Any], expected: str, toys: dict[str, Path]
) -> None:
    with pytest.raises(DataError, match=expected):
        _plan(toys, **other)


def test_students_that_fit_no_task_of_the_data_are_refused(toys: dict[str, Path], toy_fields: Path) -> None:
    data = [{"source": str(toys["films"]), "name": "films", "teacher": "t"}]
    data.append({"source": str(toy_fields), "name": "clicks", "task": "fields", "teacher": "u"})
    with pytest.raises(ModelError, match="together: .*rows of fields"):
        planned_trials(_plan(toys, data=data, students=["cnn", "dagfm"]))


def test_trials_of_a_student_differ_by_task_and_by_data(toys: dict[str, Path]) -> None:
    data = [{"source": str(toys["films"]), "name": name, "teacher": "t", "augment": "none"} for name in ("a", "b")]
    trials = [trial for trial in planned_trials(_plan(toys, data=data)) if trial.together]
    keys = [trial.key("films films") for trial in trials]
    assert len(set(keys)) == 2
    assert set(homes_of(zip(trials, keys, strict=True)).values()) == {keys[0]}
    assert {trial.key("films other") for trial in trials}.isdisjoint(keys)


def test_students_start_as_they_do_alone(toys: dict[str, Path]) -> None:
    trials = [trial for trial in planned_trials(_plan(toys, embeddings=["teacher", "random"])) if trial.student]
    assert {trial.student.init for trial in trials if trial.student} == {NO_START}


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


def test_dry_runs_count_the_training_of_several_tasks(toys: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    measure = _pace  # a step takes a second where it takes any time at all
    monkeypatch.setattr("eyas.exam.estimate._pace", lambda *given: float(measure(*given) > 0))
    plan = plan_of(toys, EXAM_TASKS).model_copy(update={"together": True, "arguments": {"max_steps": 2400}})
    found = estimate([trial for trial in planned_trials(plan) if trial.together])
    assert " 40 min of training" in found
    assert "not counted" not in found


def test_dry_runs_do_not_ask_the_teacher_which_texts_to_select(
    toys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of 160 new texts are selected beside the 240 of films: 20 steps of 16, and as many of the twin."""
    labeled: list[Any] = []
    monkeypatch.setattr("eyas.exam.estimate._pace", lambda *_: 60.0)
    monkeypatch.setattr("eyas.exam.estimate._labeling", lambda *_: 0.0)
    monkeypatch.setattr("eyas.teachers.AlignedTeacher.label", lambda *given: labeled.append(given))
    more = write_jsonl(tmp_path / "more.jsonl", [{"text": f"a{n} b{n} c{n} d{n} e{n}"} for n in range(160)])
    films = {"source": str(toys["films"]), "name": "films", "augment": "none", "select": "confident:0.5"}
    arguments = {"num_train_epochs": 1, "per_device_train_batch_size": 16}
    plan = _plan(
        toys, data=[{**films, "unlabeled": str(more)}], teacher=str(PLANTED / "films"), together=False,
        arguments=arguments, students=["static"],
    )  # fmt: skip
    assert " 40 min of training" in estimate(planned_trials(plan))
    assert not labeled


def test_dry_runs_say_what_they_do_not_count(toys: dict[str, Path]) -> None:
    source = str(toys["films"])
    data = {"source": source, "name": "films", "domains": {"films": source, "books": source}}
    plan = _plan(toys, data=[data], teacher="demo", together=False)
    assert "films, whose teacher is fine-tuned on domains first, is not counted" in estimate(planned_trials(plan))
