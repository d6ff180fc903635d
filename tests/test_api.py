"""The result of `distill` and `finetune`."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
from conftest import QUICK

import eyas
from eyas import Classifier, DistillSettings, StudentSettings, TrainedModel, evaluate, load_data
from eyas.errors import DataError

TEXTS = ["a great film", "i found it awful"]


def test_trained_model_predicts_as_classifier(students: dict[tuple[str, bool], Path]) -> None:
    trained, classifier = TrainedModel(students["cnn", False]), Classifier.from_pretrained(students["cnn", False])
    assert [found["label"] for found in trained(TEXTS)] == ["positive", "negative"]
    assert trained.predict(TEXTS).tolist() == ["positive", "negative"]
    np.testing.assert_array_equal(trained.predict_proba(TEXTS), classifier.predict_proba(TEXTS))


@pytest.mark.parametrize("recipe", ["theseus", "hard-labels"])
def test_recipes_without_a_teacher_make_no_new_texts(
    recipe: str, teacher_folder: Path, toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    student = StudentSettings("bert", layers=1, max_length=32)
    settings = DistillSettings(student, recipe, arguments=QUICK)
    folder = eyas.distill(teacher_folder, toy_data, tmp_path / "out", settings=settings).path
    assert json.loads((folder / "eyas.json").read_text())["settings"]["transfer"]["augment"] == []
    assert "also trains on new texts" not in caplog.text


def test_texts_that_a_recipe_does_not_learn_are_told(
    teacher_folder: Path, toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = DistillSettings(StudentSettings("static"), "hard-labels", arguments={"max_steps": 1})
    eyas.distill(teacher_folder, toy_data, tmp_path / "out", settings=settings, unlabeled={"text": ["a great film"]})
    assert "hard-labels learns from the labeled training texts alone" in caplog.text


def test_evaluate_scores_all_rows_of_a_table(students: dict[tuple[str, bool], Path], toy_data: Path) -> None:
    """A table in memory is not split again, as a file is."""
    trained, data = TrainedModel(students["cnn", False]), load_data(toy_data)
    expected = evaluate(Classifier.from_pretrained(students["cnn", False]), data["test"])
    frame = pandas.read_json(toy_data / "test.jsonl", lines=True)
    for table in (data["test"], frame, frame.to_dict("list"), (frame["text"], frame["label"])):
        found = trained.evaluate(table)
        assert (found["rows"], found["accuracy"]) == (60, expected["accuracy"])
    assert trained.evaluate(data)["rows"] == 60
    assert trained.evaluate(toy_data, split="validation")["rows"] == 60
    with pytest.raises(DataError, match="data is one table, all of which is scored"):
        trained.evaluate(frame, split="test")
