"""Taggers whose teachers do not have BERT's tokenizer: byte-level, end-of-word marks, Unigram."""

from pathlib import Path

import numpy as np
import pytest
from conftest import PLANTED, Once, teach
from planting import plant
from transformers import pipeline

from eyas import Classifier, Predictor, StudentSettings, evaluate, export_model, load_data

STUDENTS = {
    "byte-level": StudentSettings("cnn", embedding_size=16, hidden_size=48),
    "ends": StudentSettings("cnn", embedding_size=16, hidden_size=48, crf=True),
    "unigram": StudentSettings("cnn-lstm", embedding_size=16, hidden_size=96),
}


@pytest.fixture(scope="module", params=STUDENTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def student(kind: str, once: Once, toy_tags: Path) -> Path:
    def make(out: Path) -> None:
        plant(teach(PLANTED / kind, toy_tags, out, STUDENTS[kind]), load_data(toy_tags)["train"])

    return once(f"tagger-{kind}", make)


def test_tagger_is_accurate_with_every_tokenizer(student: Path, kind: str, toy_tags: Path) -> None:
    test = load_data(toy_tags)["test"]
    found = evaluate(Classifier.from_pretrained(student), test, Classifier.from_pretrained(PLANTED / kind))
    assert found["teacher_span_f1"] > 0.8
    assert found["span_f1"] > 0.8  # 0 without knowing where words start


def test_tagger_logits_do_not_depend_on_batch(student: Path) -> None:
    classifier, words = Classifier.from_pretrained(student), ["anna", "went", "to", "st.", "ives", "."]
    alone, among = classifier.logits([words]), classifier.logits([["rome"], words, ["unseen"] * 30])
    np.testing.assert_allclose(among[1:7], alone, atol=1e-5)


@pytest.mark.process
def test_exported_tagger_equals_classifier(student: Path, tmp_path: Path) -> None:
    export_model(student, tmp_path / "shipped", min_agreement=1.0)
    predictor, classifier = Predictor(tmp_path / "shipped"), Classifier.from_pretrained(student)
    for text in ("mr. k and anna live in rome 7", "anna went to new york.", "zzz"):
        assert predictor.tag(text)["tags"] == classifier.tag(text)["tags"]
    spans = predictor.tag("in rome, anna was seen")["spans"]  # the comma is a word of its own
    assert [(span["word"], span["start"], span["end"]) for span in spans] == [("rome", 3, 7), ("anna", 9, 13)]


@pytest.mark.parametrize("kind", ["byte-level"], indirect=True)
def test_pipeline_offsets_equal_classifier_offsets(student: Path) -> None:
    """A byte-level tokenizer includes the space before a word in its subwords, but not in their offsets."""
    tagger = pipeline("token-classification", model=str(student), aggregation_strategy="simple")
    classifier = Classifier.from_pretrained(student)
    for text in ("anna and bo lee live in rome 7", "nobody lives in new york now", "in rome , anna was seen"):
        ours = classifier.tag(text)["spans"]
        assert ours
        assert [(s["start"], s["end"]) for s in tagger(text)] == [(s["start"], s["end"]) for s in ours]
