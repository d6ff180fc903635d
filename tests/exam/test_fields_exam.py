"""An exam of models of rows of fields."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_EXAM

from eyas import Predictor
from eyas.exam.plan_file import make_plan
from eyas.exam.results import load_exam
from eyas.exam.run import run_exam
from eyas.report import write_page


@pytest.mark.process
def test_exam_compares_by_auc_and_ships(
    cin_folder: Path, toy_fields: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    data = {"source": str(toy_fields), "name": "fields", "task": "fields"}
    settings: dict[str, Any] = {**SMALL_EXAM, "students": ["dagfm"]}
    exam = run_exam(make_plan(data=data, teacher=str(cin_folder), **settings), tmp_path / "exam", jobs=0)
    trials = load_exam(exam)
    assert list(trials["status"].unique()) == ["done"]
    assert set(trials["metric"]) == {"auc"}
    assert set(trials["model"][trials["kind"] == "baseline"]) == {"values + LR"}
    scores = trials.set_index("recipe")["score"]
    assert scores["logit-mse"] > 0.9
    assert trials["score"][trials["kind"] == "baseline"].max() < 0.7  # no line separates products
    assert '"metric": "AUC"' in write_page(exam).read_text()
    code, _, _ = run("best", exam, "--min-retention", "0.8", "--export", tmp_path / "shipped")
    assert code == 0
    assert Predictor(tmp_path / "shipped")([{"user": 1, "item": "i1", "site": "s"}])[0].keys() == {"score"}
