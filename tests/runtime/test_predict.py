"""Answers, labels and probabilities: the same from torch and from an exported folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from eyas import Classifier, Predictor, evaluate, load_data
from eyas.errors import DataError
from eyas.kinds import Kind
from eyas.runtime.alignment import WordEncoder
from eyas.runtime.predict import PredictMixin
from eyas.tasks import Task

SINGLES = ["a great film", "i found it awful", "lovely from start to finish"]
PAIRS = [("a film", "it is great"), ("a great film", "it is awful")]


class Fixed(PredictMixin):
    """A model of single texts that returns fixed logits."""

    pair = False

    def __init__(self, kind: Kind, labels: tuple[str, ...], logits: list[list[float]]) -> None:
        self.task, self.values = Task(kind, labels), np.array(logits, dtype=np.float32)

    @property
    def words(self) -> WordEncoder:
        raise AssertionError("not a tagger")

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        return self.values


@pytest.mark.parametrize("pair", [False, True])
def test_predictor_answers_as_classifier(
    students: dict[tuple[str, bool], Path], exported: dict[tuple[str, bool, bool], Path], pair: bool
) -> None:
    texts: list[Any] = PAIRS if pair else SINGLES  # type: ignore[assignment]
    ours, shipped = Classifier.from_pretrained(students["cnn", pair]), Predictor(exported["cnn", pair, False])
    answers = ours(texts)
    assert [found["label"] for found in answers] == [found["label"] for found in shipped(texts)]
    assert ours.predict(texts).tolist() == shipped.predict(texts).tolist() == [found["label"] for found in answers]
    chances = shipped.predict_proba(texts)
    np.testing.assert_allclose(ours.predict_proba(texts), chances, atol=1e-4)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(chances.max(1), [found["score"] for found in answers], atol=1e-4)
    assert ours([]) == shipped([]) == []
    assert ours.predict([]).shape == (0,)
    assert shipped.predict_proba([]).shape == (0, 2)


LONG = " ".join(["a great film"] * 40)
CUT = "2 texts have more tokens than the 48 that the model reads: the rest of them is not read."


@pytest.mark.parametrize("name", ["cnn", "static"])
def test_texts_longer_than_a_student_reads_are_counted(
    students: dict[tuple[str, bool], Path],
    exported: dict[tuple[str, bool, bool], Path],
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    for model in (Classifier.from_pretrained(students[name, False]), Predictor(exported[name, False, False])):
        assert model.cut == 0
        model(["a great film", LONG, " ".join(["film"] * 47), LONG + " 日本語"])  # 47 and a special token
        assert model.cut == 2
        model.report_cut()
        assert CUT in caplog.text
        caplog.clear()
        model([LONG[:100]])
        model.report_cut(since=2)
        assert not caplog.text
        model(["great" + " " * 1200 + "awful awful awful"])  # cut before it is tokenized
        assert model.cut == 3


def test_each_text_of_a_pair_has_its_own_limit(
    students: dict[tuple[str, bool], Path], exported: dict[tuple[str, bool, bool], Path]
) -> None:
    most = " ".join(["film"] * 47)
    for model in (Classifier.from_pretrained(students["cnn", True]), Predictor(exported["cnn", True, False])):
        model([(most, most), (LONG, "b"), ("a", LONG)])
        assert model.cut == 2


def test_texts_longer_than_a_transformer_reads_are_counted(teacher_folder: Path) -> None:
    teacher = Classifier.from_pretrained(teacher_folder)
    teacher(["a great film", " ".join(["film"] * (teacher.max_length - 2)), " ".join(["film"] * teacher.max_length)])
    assert teacher.cut == 1


def test_evaluate_counts_cut_texts(
    exported: dict[tuple[str, bool, bool], Path], caplog: pytest.LogCaptureFixture
) -> None:
    short = {"text": "a great film", "label": "positive"}
    rows = [{"text": f"{n} {LONG}", "label": ["negative", "positive"][n % 2]} for n in range(12)]
    data = load_data({"train": Dataset.from_list(rows), "validation": Dataset.from_list([short, *rows[:2]])})
    evaluate(Predictor(exported["cnn", False, False]), data["validation"])
    assert CUT in caplog.text


def test_predict_returns_label_names(students: dict[tuple[str, bool], Path]) -> None:
    found = Classifier.from_pretrained(students["cnn", False]).predict(SINGLES)
    assert found.tolist() == ["positive", "negative", "positive"]


def test_teacher_accepts_single_texts_and_pairs(teacher_folder: Path, pair_teacher_folder: Path) -> None:
    teacher = Classifier.from_pretrained(teacher_folder)
    assert teacher.predict(np.array(SINGLES)).tolist() == ["positive", "negative", "positive"]
    teacher = Classifier.from_pretrained(pair_teacher_folder)
    chances, logits = teacher.predict_proba(PAIRS), teacher.logits(*map(list, zip(*PAIRS, strict=True)))
    np.testing.assert_allclose(np.log(chances[:, 0] / chances[:, 1]), logits[:, 0] - logits[:, 1], atol=1e-4)


def test_predict_refuses_wrong_inputs(students: dict[tuple[str, bool], Path]) -> None:
    single, pairs = (Classifier.from_pretrained(students["cnn", pair]) for pair in (False, True))
    for call in (single, single.predict, single.predict_proba):
        with pytest.raises(DataError, match=r"got the string 'great'.*\['?text"):
            call("great")
    with pytest.raises(DataError, match="Text 1 is 'awful'"):
        pairs.predict([PAIRS[0], "awful"])
    with pytest.raises(DataError, match="Text 1 is tuple"):
        single.predict(["great", ("a", "b")])


def test_predict_returns_tags(taggers: dict[str, Path]) -> None:
    tagger = Classifier.from_pretrained(taggers["bilstm"])
    assert tagger.predict([["anna", "went", "to", "rome"], []]) == [["B-PER", "O", "O", "B-LOC"], []]
    assert tagger(["anna went to rome"])[0]["spans"][1]["start"] == 13
    with pytest.raises(DataError, match="predict_proba is for whole texts"):
        tagger.predict_proba([["anna"]])


def test_predict_returns_the_answer_of_each_kind() -> None:
    topics = Fixed("multi-label", ("food", "staff"), [[2.0, -1.0], [0.5, 3.0]])
    assert topics.predict(["a", "b"]) == [["food"], ["food", "staff"]]
    np.testing.assert_allclose(topics.predict_proba(["a", "b"])[:, 1], [0.2689, 0.9526], atol=1e-4)
    aspects = Fixed("aspects", ("food=bad", "food=good", "staff=bad", "staff=good"), [[0.0, 2.0, 1.0, 0.0]])
    assert aspects.predict(["a"]) == [{"food": "good", "staff": "bad"}]
    np.testing.assert_allclose(aspects.predict_proba(["a"]), [[0.1192, 0.8808, 0.7311, 0.2689]], atol=1e-4)
    stars = Fixed("regression", ("stars",), [[3.5], [1.0]])
    np.testing.assert_array_equal(stars.predict(["a", "b"]), [3.5, 1.0])
    vectors = Fixed("vectors", ("0", "1"), [[0.5, 1.0], [0.0, 2.0]])
    np.testing.assert_array_equal(vectors.predict(["a", "b"]), [[0.5, 1.0], [0.0, 2.0]])
    for numbers in (stars, vectors):
        with pytest.raises(DataError, match="no probabilities"):
            numbers.predict_proba(["a", "b"])
