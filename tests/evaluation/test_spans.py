"""Span F1 compared with seqeval, on random tags of every kind."""

import numpy as np
import pytest

from eyas.evaluation.metrics import span_metrics
from eyas.exam.bootstrap import score, sums
from eyas.spans import Span, broken_places, continuations, is_bioes, repaired, spans_of, to_bio
from eyas.tasks import Task

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def test_spans_of_finds_spans() -> None:
    assert spans_of(["B-PER", "I-PER", "O", "I-LOC", "I-PER", "B-PER"]) == [
        Span("PER", 0, 2),
        Span("LOC", 3, 4),
        Span("PER", 4, 5),
        Span("PER", 5, 6),
    ]
    assert spans_of(["B", "I", "O", "I"]) == [Span("", 0, 2), Span("", 3, 4)]
    assert spans_of(["NN", "VB"]) == [Span("NN", 0, 1), Span("VB", 1, 2)]
    assert spans_of([]) == []


def test_span_f1_equals_seqeval() -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    random = np.random.default_rng(0)
    for _ in range(50):
        sizes = random.integers(1, 12, 20)
        gold, found = ([random.choice(TAGS, size).tolist() for size in sizes] for _ in range(2))
        ours = span_metrics(gold, found)
        assert ours["span_f1"] == seqeval.f1_score(gold, found)
        assert ours["span_macro_f1"] == pytest.approx(seqeval.f1_score(gold, found, average="macro"), abs=1e-12)


def test_score_from_sums_equals_span_f1() -> None:
    random = np.random.default_rng(1)
    task, lengths = Task("tagging", tuple(TAGS)), random.integers(1, 9, 30)
    labels, logits = random.integers(-1, 5, lengths.sum()), random.normal(size=(lengths.sum(), 5))
    cuts = np.cumsum(lengths)[:-1]
    known = [part >= 0 for part in np.split(labels, cuts)]
    names = np.array(TAGS)
    gold = [names[part[keep]].tolist() for part, keep in zip(np.split(labels, cuts), known, strict=True)]
    found = [names[part[keep]].tolist() for part, keep in zip(np.split(logits.argmax(1), cuts), known, strict=True)]
    total = sums(task, logits, labels, lengths).sum(0)
    assert float(score("span_f1", total)) == pytest.approx(span_metrics(gold, found)["span_f1"])


def test_tag_schemes_are_converted_to_bio() -> None:
    assert to_bio(["S-PER", "O", "B-LOC", "I-LOC", "E-LOC"]) == ["B-PER", "O", "B-LOC", "I-LOC", "I-LOC"]
    assert to_bio(["U-PER", "L-LOC"]) == ["B-PER", "I-LOC"]
    assert is_bioes(["O", "B-X", "E-X", "S-X"])
    assert not is_bioes(["O", "B-X", "I-X"])
    assert is_bioes(["O", "B", "I", "E", "S"])
    assert to_bio(["S", "O", "B", "E"]) == ["B", "O", "B", "I"]
    assert not is_bioes(["O", "S", "U"])
    assert not is_bioes(["B-X", "S-X"])  # parts of speech that only look like it
    tags = ["O", "I-PER", "I-PER", "I-LOC", "B-LOC", "I-LOC"]
    assert broken_places(tags) == [1, 3]
    assert repaired(tags) == ["O", "B-PER", "I-PER", "B-LOC", "B-LOC", "I-LOC"]
    assert spans_of(repaired(tags)) == spans_of(tags)
    assert continuations(["O", "B-PER", "I-PER", "NN", "B-ODD"]).tolist() == [0, 2, 2, 3, 4]
