"""Span F1 compared with seqeval, on random tags of every kind."""

from dataclasses import replace

import numpy as np
import pytest

from eyas.evaluation.bootstrap import score, sums
from eyas.evaluation.metrics import span_metrics
from eyas.spans import Span, broken_places, continuations, find_scheme, marks_starts, repaired, spans_of
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


KINDS = ("PER", "LOC", "B-x_S")
WRITTEN = {  # scheme: the letters of a span's first, inner and last word, and of a span of one word
    "IOB2": "BIIB",
    "IOB1": "IIII",
    "IOE1": "IIII",
    "IOE2": "IIEE",
    "BIOES": "BIES",
    "BILOU": "BILU",
    "BMES": "BMES",
    "BMEWO": "BMEW",
}


def _spans(random: np.random.Generator) -> list[Span]:
    spans, place = [], 0
    for _ in range(random.integers(0, 5)):
        start = place + int(random.integers(0, 2))
        place = start + int(random.integers(1, 5))
        spans.append(Span(str(random.choice(KINDS)), start, place))
    return spans


def _written(spans: list[Span], scheme: str, notation: str) -> list[str]:
    """The tags of a sentence in a scheme, as its definition has them."""
    length = (spans[-1].end if spans else 0) + 1
    first, inner, last, single = WRITTEN[scheme]
    letters, kinds = ["O"] * length, [""] * length
    for number, (kind, start, end) in enumerate(spans):
        letters[start:end] = [single] if end - start == 1 else [first, *[inner] * (end - start - 2), last]
        kinds[start:end] = [kind] * (end - start)
        touching = [s for s in (*spans[max(number - 1, 0) : number], *spans[number + 1 : number + 2]) if s.kind == kind]
        if scheme == "IOB1" and any(other.end == start for other in touching):
            letters[start] = "B"  # only between two spans of one type
        if scheme == "IOE1" and any(other.start == end for other in touching):
            letters[end - 1] = "E"
    pairs = zip(letters, kinds, strict=True)
    return [letter if letter == "O" else notation.format(letter, kind) for letter, kind in pairs]


@pytest.mark.parametrize("notation", ["{}-{}", "{1}-{0}", "{}_{}", "{1}_{0}", "lower"])
@pytest.mark.parametrize("scheme", WRITTEN)
def test_every_scheme_is_found_and_converted_to_bio(scheme: str, notation: str) -> None:
    random = np.random.default_rng(0)
    sentences = [_spans(random) for _ in range(100)]
    written = [_written(spans, scheme, "{}-{}" if notation == "lower" else notation) for spans in sentences]
    if notation == "lower":
        written = [[tag[:1].lower() + tag[1:] for tag in tags] for tags in written]
    found = find_scheme({tag for tags in written for tag in tags})
    assert found is not None
    bio = [found.to_bio(tags) for tags in written]
    if found.name == "IOB2" and not marks_starts(bio):
        bio = [replace(found, marks_starts=False).to_bio(tags) for tags in written]
    assert [spans_of(tags) for tags in bio] == sentences
    assert not any(broken_places(tags) for tags in bio)


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "IOE2", "BIOES", "BILOU"])
def test_written_tags_are_those_of_seqeval(scheme: str) -> None:
    schemes = pytest.importorskip("seqeval.scheme")
    random = np.random.default_rng(1)
    oracle = getattr(schemes, {"BIOES": "IOBES"}.get(scheme, scheme))
    for spans in (_spans(random) for _ in range(100)):
        read = schemes.Entities([_written(spans, scheme, "{}-{}")], oracle).entities[0]
        assert [Span(entity.tag, entity.start, entity.end) for entity in read] == spans


def test_sets_of_tags_without_scheme_stay_as_they_are() -> None:
    for tags in (["O", "S", "U"], ["B-X", "S-X"], ["NN", "VB", "O"], ["B", "I", "E", "O", "N", "V"], ["1", "2"], []):
        assert find_scheme(tags) is None, tags


def test_bare_letters_are_a_scheme_if_they_begin_and_continue_spans() -> None:
    for tags in (["O", "B", "I"], ["O", "B", "E", "S"], ["b", "i", "o"], ["I", "O"]):
        assert find_scheme(tags) is not None, tags
    found = find_scheme(["B", "M", "E", "S"])  # words of Chinese characters
    assert found is not None
    assert found.to_bio(["S", "B", "M", "E"]) == ["B", "B", "I", "I"]


def test_scheme_is_found_beside_odd_tags() -> None:
    found = find_scheme(["O", "B-PER", "I-PER", "L-PER", "U-PER", "-"])
    assert found is not None
    assert found.name == "BILOU"
    assert found.to_bio(["U-PER", "-", "B-PER", "L-PER"]) == ["B-PER", "-", "B-PER", "I-PER"]
    for tags in (
        ["B-NP", "I-NP", "E-NP", "S-NP"],
        ["B_city", "I_city", "B_road", "I_road"],
        ["city-B", "city-I"],
        ["B-PER", "I-PER", "L-PER", "U-PER", "OUT"],
        ["O", "B-PER", "I-PER", "E-PER", "S-PER", "X", "[CLS]", "[SEP]", "[PAD]"],
    ):
        proven = find_scheme(tags)  # a type that begins and continues
        assert proven is not None, tags
        assert proven.to_bio([tags[1]]) != ["S"]
    outside = find_scheme(["B-PER", "I-PER", "_"])  # a tag for words outside of spans
    assert outside is not None
    assert outside.to_bio(["_", "B-PER"]) == ["O", "B-PER"]


def test_stray_inside_tags_are_found_and_repaired() -> None:
    tags = ["O", "I-PER", "I-PER", "I-LOC", "B-LOC", "I-LOC"]
    assert broken_places(tags) == [1, 3]
    assert repaired(tags) == ["O", "B-PER", "I-PER", "B-LOC", "B-LOC", "I-LOC"]
    assert spans_of(repaired(tags)) == spans_of(tags)
    assert continuations(["O", "B-PER", "I-PER", "NN", "B-ODD"]).tolist() == [0, 2, 2, 3, 4]
