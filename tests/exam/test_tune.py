import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_EXAM

from eyas.data.datasets import load_data
from eyas.exam.plan_file import make_plan
from eyas.exam.results import load_exam
from eyas.exam.run import run_exam
from eyas.exam.trials import trials_of
from eyas.exam.tune import _open_options, _suggest, apply, search
from eyas.tasks import Task

optuna: Any = pytest.importorskip("optuna")


@pytest.mark.slow
def test_search_changes_trials_and_is_not_repeated(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    settings = {**SMALL_EXAM, "students": ["static"], "twins": False, "baselines": False, "tune": 3}
    settings["arguments"] = {"num_train_epochs": 2, "per_device_train_batch_size": 16}
    plan = make_plan(data=str(toy_data), teacher=str(teacher_folder), **settings)
    run_exam(plan, tmp_path / "exam")
    trials = load_exam(tmp_path / "exam")
    student = trials[trials["kind"] == "student"].iloc[0]
    assert student["hidden_size"] in (64, 100, 150, 200)
    journal = next((tmp_path / "exam" / "tuning").glob("*/journal.log")).read_text()
    run_exam(plan, tmp_path / "exam")
    assert len(load_exam(tmp_path / "exam")) == len(trials)
    again = next((tmp_path / "exam" / "tuning").glob("*/journal.log")).read_text()
    assert _tries(again) == _tries(journal) == 3


def _tries(journal: str) -> int:
    """Operation 4 of Optuna's journal starts a try."""
    return sum(json.loads(line)["op_code"] == 4 for line in journal.splitlines())


def test_apply_uses_settings_found_by_search() -> None:
    plan = make_plan(data="x", teacher="y", students=["cnn"], recipes=["soft-targets"])
    trial = next(
        trial for trial in trials_of(plan, {"x": Task("classification", ("a", "b"))}) if trial.recipe == "soft-targets"
    )
    found = {"learning_rate": 1e-3, "dropout": 0.4, "hidden_size": 64, "temperature": 3.0, "hard_weight": 0.2}
    tuned = apply(trial, found)
    assert tuned.arguments["learning_rate"] == 1e-3
    assert tuned.student is not None
    assert (tuned.student.dropout, tuned.student.hidden_size, tuned.student.name) == (0.4, 64, "cnn")
    assert tuned.recipe_options == {"temperature": 3.0, "hard_weight": 0.2}
    assert tuned.key("") != trial.key("")


def test_values_of_an_older_search_do_not_replace_those_of_the_plan() -> None:
    student = {"architecture": "cnn", "dropout": 0.1, "hidden_size": 32}
    plan = make_plan(data="x", teacher="y", students=[student], arguments={"learning_rate": 2e-3}, recipes=["dist"])
    trial = next(t for t in trials_of(plan, {"x": Task("classification", ("a", "b"))}) if t.recipe == "dist")
    tuned = apply(trial, {"learning_rate": 5e-3, "dropout": 0.4, "hidden_size": 64, "embedding_size": 16})
    assert tuned.arguments["learning_rate"] == 2e-3
    assert tuned.student is not None
    assert (tuned.student.dropout, tuned.student.hidden_size, tuned.student.embedding_size) == (0.1, 32, 16)


def test_search_without_open_settings_trains_nothing(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    student = {"architecture": "bert-tiny", "dropout": 0.1}
    given = {"students": [student], "arguments": {"learning_rate": 2e-3}, "recipes": ["hard-labels"]}
    plan = make_plan(data=str(toy_data), teacher=str(teacher_folder), **given)
    trial = next(t for t in trials_of(plan, {plan.datasets[0].name: load_data(toy_data).task}) if t.student)
    assert search(trial, 10, tmp_path / "search") == {}
    assert not list((tmp_path / "search").glob("try-*"))


def test_search_keeps_what_the_plan_sets() -> None:
    student = {"architecture": "cnn", "dropout": 0.1, "hidden_size": 32, "embedding_size": 16}
    plan = make_plan(data="x", teacher="y", students=[student], arguments={"learning_rate": 2e-3}, recipes=["dist"])
    trial = next(t for t in trials_of(plan, {"x": Task("classification", ("a", "b"))}) if t.recipe == "dist")
    found = _suggest(optuna.trial.FixedTrial({"temperature": 2.0, "hard_weight": 0.5}), trial, 16, True)
    assert not {"learning_rate", "dropout", "hidden_size", "embedding_size"} & found.keys()
    tuned = apply(trial, found)
    assert tuned.student is not None
    assert (tuned.arguments["learning_rate"], tuned.student.dropout) == (2e-3, 0.1)


def test_search_keeps_the_sizes_of_models_of_fields() -> None:
    """A student with the teacher's size starts from its vectors; a graph has no hidden size."""
    plan = make_plan(data={"source": "x", "task": "fields"}, teacher="y", students=["dagfm"])
    trial = next(one for one in trials_of(plan, {"x": Task("fields", ("0", "1"))}) if one.kind == "student")
    attempt = optuna.trial.FixedTrial({"learning_rate": 1e-3, "dropout": 0.2})
    assert _suggest(attempt, trial, 16, True) == {"learning_rate": 1e-3, "dropout": 0.2}


def test_search_skips_options_without_effect() -> None:
    assert _open_options("soft-targets") == ["temperature", "hard_weight"]
    assert _open_options("soft-targets loss=huber") == ["hard_weight"]
    assert _open_options("tinybert prediction=mse hidden_weight=2") == ["attention_weight"]
