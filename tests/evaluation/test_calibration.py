"""A temperature that makes probabilities true, and labels left out where the model is not sure."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import teach
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from eyas import Classifier, Predictor, evaluate, export_model, load_data
from eyas.errors import DataError
from eyas.evaluation.calibration import calibration, fit_temperature
from eyas.evaluation.metrics import answered
from eyas.runtime.answers import abstained
from eyas.tasks import CLOSED, Task, softmax


class Logits(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier whose inputs are its logits."""

    classes_ = np.arange(4)

    def fit(self, logits: np.ndarray, labels: np.ndarray) -> "Logits":
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def decision_function(self, logits: np.ndarray) -> np.ndarray:
        return logits

    def predict(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(logits.argmax(1))


def drawn(rows: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `scale` times too large, and labels drawn from the true probabilities."""
    random = np.random.default_rng(0)
    true = random.normal(size=(rows, 4)) * 2
    return true * scale, np.array([random.choice(4, p=row) for row in softmax(true)])


@pytest.mark.parametrize("scale", [3.0, 0.5])
def test_temperature_is_that_of_scikit_learn(scale: float) -> None:
    logits, labels = drawn(2000, scale)
    expected = CalibratedClassifierCV(FrozenEstimator(Logits()), method="temperature").fit(logits, labels)
    found = softmax(logits / fit_temperature(logits, labels))
    np.testing.assert_allclose(found, expected.predict_proba(logits), atol=2e-3)


def test_temperature_leaves_closed_choices_closed() -> None:
    logits, labels = drawn(2000, 3.0)
    wider = np.concatenate([logits, np.full_like(logits, CLOSED)], 1)
    assert fit_temperature(wider, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-3)


def test_model_without_mistakes_does_not_become_certain() -> None:
    labels = np.tile(np.arange(4), 25)
    logits = 5 * np.eye(4)[labels]
    assert 0.9 < softmax(logits / fit_temperature(logits, labels)).max() < 0.999


def test_answered_matches_manual_value() -> None:
    chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.3, 0.7]])
    assert answered(chances, np.array([0, 1, 0, 1]), 0.7) == (0.75, pytest.approx(2 / 3))
    assert answered(chances, np.array([0, 1, 0, 1]), 0.99) == (0.0, None)


def with_temperature(source: Path, temperature: float, target: Path) -> Path:
    """A copy of a model with another temperature."""
    shutil.copytree(source, target)
    config = json.loads((source / "config.json").read_text())
    config["eyas_calibration"]["temperature"] = temperature
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.process
def test_student_is_calibrated_everywhere(
    students: dict[tuple[str, bool], Path], exported: dict[tuple[str, bool, bool], Path], toy_data: Path, tmp_path: Path
) -> None:
    source = students["cnn", False]
    validation = load_data(toy_data)["validation"]
    changed = with_temperature(source, 4.0, tmp_path / "hot")
    plain, ours = Classifier.from_pretrained(source), Classifier.from_pretrained(changed)
    texts = validation["text"][:20]
    np.testing.assert_array_equal(plain.logits(texts), ours.logits(texts))
    np.testing.assert_allclose(ours.predict_proba(texts), softmax(plain.logits(texts) / 4), atol=1e-6)
    assert ours.predict(texts).tolist() == plain.predict(texts).tolist()
    export_model(changed, tmp_path / "shipped")
    shipped = Predictor(tmp_path / "shipped")
    np.testing.assert_allclose(shipped.predict_proba(texts), ours.predict_proba(texts), atol=1e-4)
    card = (tmp_path / "shipped" / "README.md").read_text()
    assert "divides the logits by 4.0" in card
    assert evaluate(ours, validation)["calibration_error"] > evaluate(plain, validation)["calibration_error"]


def test_trained_folders_hold_a_temperature(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    student = Classifier.from_pretrained(teach(teacher_folder, toy_data, tmp_path / "student"))
    found = student.model.config.eyas_calibration
    assert found["decisions"] == 60
    assert student.task.temperature == found["temperature"]
    assert found["error"] <= found["error_before"]
    shares = [share for _, share, _ in found["answered"]]
    assert shares == sorted(shares, reverse=True)


def test_small_validation_split_has_no_temperature(students: dict[tuple[str, bool], Path], toy_data: Path) -> None:
    student = Classifier.from_pretrained(students["cnn", False])
    assert calibration(student, load_data(toy_data)["validation"].select(range(49))) is None


def test_unsure_answers_have_no_label() -> None:
    sure, unsure = {"label": "good", "score": 0.9}, {"label": "bad", "score": 0.6}
    assert abstained(sure, 0.8) == sure
    assert abstained(unsure, 0.8) == {"label": None, "score": 0.6, "guess": "bad"}
    both = {"aspects": {"food": sure, "price": unsure}}
    assert abstained(both, 0.8)["aspects"]["price"] == {"label": None, "score": 0.6, "guess": "bad"}


def test_exported_model_abstains(
    students: dict[tuple[str, bool], Path], toy_data: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    texts = list(load_data(toy_data)["test"]["text"])
    source = with_temperature(students["static", False], 8.0, tmp_path / "student")
    plain = Classifier.from_pretrained(source)
    least = float(np.median(plain.predict_proba(texts).max(1)))
    export_model(source, tmp_path / "shipped", abstain_below=least)
    shipped = Predictor(tmp_path / "shipped")
    found, sure = shipped(texts), plain.predict_proba(texts).max(1) >= least
    assert [answer["label"] is not None for answer in found] == sure.tolist()
    assert [answer.get("guess", answer["label"]) for answer in found] == plain.predict(texts).tolist()
    assert set(shipped.predict(texts)) == {None, "negative", "positive"}
    assert None not in Predictor(tmp_path / "shipped", abstain_below=0).predict(texts)
    scores = evaluate(shipped, load_data(toy_data)["test"], abstain_below=least)
    assert scores["answered"] == pytest.approx(sure.mean())
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    lines = run("predict", "--model", tmp_path / "shipped", tmp_path / "texts.txt")[1].splitlines()
    assert [json.loads(line)["label"] is None for line in lines] == (~sure).tolist()


def test_taggers_do_not_abstain(taggers: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"tagging .*--abstain-below"):
        Classifier.from_pretrained(taggers["bilstm"]).abstain(0.8)
    with pytest.raises(DataError, match=r"is 1\.5, expected"):
        Classifier.from_pretrained(taggers["bilstm"]).abstain(1.5)


def test_evaluate_prints_intervals(
    students: dict[tuple[str, bool], Path], teacher_folder: Path, toy_data: Path, run: Callable[..., Any]
) -> None:
    shown = run("evaluate", "--model", students["static", False], "--data", toy_data, "--teacher", teacher_folder)[1]
    for name in ("accuracy", "retention"):
        found = re.search(rf"^{name} +([\d.]+) .*interval ([\d.]+) to ([\d.]+)", shown, re.MULTILINE)
        assert found is not None
        value, low, high = map(float, found.groups())
        assert low <= value <= high


def test_task_ignores_temperature_in_comparisons() -> None:
    assert Task("classification", ("a", "b"), 2.0) == Task("classification", ("a", "b"))
