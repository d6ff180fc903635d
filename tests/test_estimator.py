"""Distillation as a scikit-learn estimator."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from conftest import toy_rows
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import eyas
from eyas.errors import ModelError

SMALL = eyas.StudentSettings("static", embedding_size=16, max_length=48)
ROWS = toy_rows(120)
TEXTS, LABELS = [row["text"] for row in ROWS], [row["label"] for row in ROWS]
TEST = toy_rows(40, 1000)
TEST_TEXTS, TEST_LABELS = [row["text"] for row in TEST], [row["label"] for row in TEST]


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> str:
    return str(teacher_folder)


@pytest.fixture(scope="module")
def fitted(teacher: str) -> eyas.DistilledClassifier:
    return eyas.DistilledClassifier(teacher, SMALL, epochs=30).fit(TEXTS)


def test_estimator_fits_without_labels(fitted: eyas.DistilledClassifier) -> None:
    assert fitted.classes_.tolist() == ["negative", "positive"]
    assert fitted.score(TEST_TEXTS, TEST_LABELS) > 0.7
    chances = fitted.predict_proba(TEST_TEXTS)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-6)
    assert fitted.predict(TEST_TEXTS).tolist() == ["positive" if chance > 0.5 else "negative" for _, chance in chances]


def test_estimator_can_be_pickled(fitted: eyas.DistilledClassifier) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(TEST_TEXTS), fitted.predict_proba(TEST_TEXTS))


def test_estimator_predicts_labels_as_given(teacher: str, tmp_path: Path) -> None:
    numbers = [int(label == "positive") for label in LABELS]
    names = {"negative": "0", "positive": "1"}  # fit compares them as strings
    model = eyas.DistilledClassifier(teacher, SMALL, epochs=30, label_map=names, out=tmp_path / "out")
    model.fit(np.array(TEXTS), numbers)
    assert model.classes_.tolist() == [0, 1]
    assert model.score(TEST_TEXTS, [int(label == "positive") for label in TEST_LABELS]) > 0.7
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.process
def test_estimator_works_in_grid_search_over_pipeline(teacher: str) -> None:
    steps: Any = make_pipeline(
        FunctionTransformer(lambda texts: [text.lower() for text in texts]),
        eyas.DistilledClassifier(teacher, SMALL, epochs=0.1),
    )
    search = GridSearchCV(steps, {"distilledclassifier__recipe": ["logit-mse", "hard-labels"]}, cv=2, scoring="roc_auc")
    search.fit(TEXTS, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(TEST_TEXTS).shape == (40,)


def test_estimator_can_be_cloned(teacher: str) -> None:
    model = eyas.DistilledClassifier(teacher, "bilstm", epochs=2)
    assert clone(model).get_params() == {
        "teacher": teacher, "student": "bilstm", "recipe": None, "epochs": 2, "seed": 0, "label_map": None, "out": None
    }  # fmt: skip
    with pytest.raises(NotFittedError):
        model.predict(TEXTS)


def test_estimator_refuses_teacher_of_another_task(tag_teacher_folder: Path) -> None:
    with pytest.raises(ModelError, match="does tagging"):
        eyas.DistilledClassifier(tag_teacher_folder).fit(TEXTS)


def test_rare_class_stays_in_training(teacher: str) -> None:
    """Two of sixty texts are positive; a tenth held out at random could have both."""
    texts, labels = TEXTS[:60], ["negative"] * 58 + ["positive"] * 2
    for seed in range(3):
        model = eyas.DistilledClassifier(teacher, SMALL, recipe="hard-labels", epochs=0.1, seed=seed)
        assert model.fit(texts, labels).classes_.tolist() == ["negative", "positive"]


def test_class_that_only_the_teacher_knows_keeps_its_type(tiny_bert: Path, tmp_path: Path) -> None:
    labels = dict(enumerate(["bad", "good", "so-so"]))
    AutoModelForSequenceClassification.from_pretrained(tiny_bert, id2label=labels).save_pretrained(tmp_path / "three")
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "three")
    teacher = tmp_path / "three"
    names = {"bad": 0, "good": 1, "so-so": 2}
    model = eyas.DistilledClassifier(teacher, SMALL, epochs=0.1, label_map=names)
    model.fit(TEXTS, [int(label == "positive") for label in LABELS])
    assert model.classes_.tolist() == [0, 1, 2]
    assert np.issubdtype(model.predict(TEST_TEXTS).dtype, np.integer)


@pytest.mark.parametrize(
    ("texts", "labels", "settings", "said"),
    [
        (TEXTS, LABELS[:-1], {}, r"The labels have shape \(119,\), expected one for each of 120 texts"),
        (TEXTS, [[label] for label in LABELS], {}, r"shape \(120, 1\)"),
        (TEXTS[0], None, {}, "texts is one string"),
        ([*TEXTS[:5], None], None, {}, "Text 5 is NoneType, expected str"),
        (TEXTS, [*LABELS[:-1], None], {}, "Text 119 has no label"),
        (TEXTS, [*LABELS[:-1], pandas.NA], {}, "Text 119 has no label"),
        (TEXTS[:1], LABELS[:1], {}, "at least two classes"),
        (TEXTS, LABELS, {"epochs": 0}, "num_train_epochs is 0"),
        (TEXTS, LABELS, {"seed": -1}, r"seed \(--seed\) is -1, expected 0"),
    ],
)
def test_bad_input_is_refused(texts: Any, labels: Any, settings: dict[str, Any], said: str, teacher: str) -> None:
    with pytest.raises(eyas.EyasError, match=said):
        eyas.DistilledClassifier(teacher, SMALL, **settings).fit(texts, labels)
