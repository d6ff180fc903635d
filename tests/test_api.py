"""The result of `distill` and `finetune`."""

from pathlib import Path

import numpy as np

from eyas import Classifier, TrainedModel

TEXTS = ["a great film", "i found it awful"]


def test_trained_model_predicts_as_classifier(students: dict[tuple[str, bool], Path]) -> None:
    trained, classifier = TrainedModel(students["cnn", False]), Classifier.from_pretrained(students["cnn", False])
    assert [found["label"] for found in trained(TEXTS)] == ["positive", "negative"]
    assert trained.predict(TEXTS).tolist() == ["positive", "negative"]
    np.testing.assert_array_equal(trained.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
