"""Tags <-> spans. Reads BIO like conlleval and seqeval's default mode; a tag without a prefix is a one-word span."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """A typed span of words; `end` is exclusive."""

    kind: str
    start: int
    end: int


def split_tag(tag: str) -> tuple[str, str]:
    """`B-PER` -> ("B", "PER"), `B` -> ("B", ""), `O` -> ("O", ""), `NN` -> ("B", "NN"): a tag without a prefix
    is a span of one word."""
    if tag in ("O", "B", "I"):
        return tag, ""
    prefix, dash, kind = tag.partition("-")
    return (prefix, kind) if dash and prefix in ("B", "I") else ("B", tag)


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The spans of a sentence. An `I-` that does not continue a span starts one, as in conlleval."""
    spans: list[Span] = []
    kind, start = "", -1
    for place, tag in enumerate([*tags, "O"]):
        prefix, this = split_tag(tag)
        continues = prefix == "I" and start >= 0 and this == kind
        if start >= 0 and not continues:
            spans.append(Span(kind, start, place))
            start = -1
        if prefix != "O" and not continues:
            kind, start = this, place
    return spans


def to_bio(tags: Sequence[str]) -> list[str]:
    """Convert BIOES or BILOU to BIO: S- and U- become B-, E- and L- become I-."""
    change = {"S": "B", "U": "B", "E": "I", "L": "I"}
    result = []
    for tag in tags:
        prefix, dash, kind = tag.partition("-")
        result.append(f"{change[prefix]}{dash}{kind}" if prefix in change else tag)
    return result


def is_bioes(tags: Sequence[str]) -> bool:
    """Whether a set of tags is BIOES or BILOU, not BIO."""
    typed = [tag for tag in tags if "-" in tag]
    prefixes = {tag.partition("-")[0] for tag in typed or set(tags) - {"O"}}
    marked = bool(prefixes & {"E", "L", "S", "U"}) and prefixes <= set("BIOESLU")
    # Bare letters may be parts of speech, unless some begin a span and others end one.
    return "O" in tags and marked and (bool(typed) or bool("B" in prefixes and prefixes & {"E", "L"}))


def broken_places(tags: Sequence[str]) -> list[int]:
    """The indices of words whose I- tag does not continue a span."""
    places = []
    before = ("O", "")
    for place, tag in enumerate(tags):
        this = split_tag(tag)
        if this[0] == "I" and (before[0] == "O" or before[1] != this[1]):
            places.append(place)
        before = this
    return places


def repaired(tags: Sequence[str]) -> list[str]:
    """Change I- tags that do not continue a span to B- (in BIOES, E- to S-); the spans stay the same."""
    change = {"I": "B", "E": "S", "L": "U"}
    result = list(tags)
    for place in broken_places([to_bio([tag])[0] if "-" in tag else tag for tag in tags]):
        result[place] = f"{change[tags[place][0]]}{tags[place][1:]}"
    return result


def continuations(labels: Sequence[str]) -> np.ndarray:
    """[labels] int: for each tag, the tag of the word's next subword: `I-X` for `B-X`, otherwise the same tag."""
    places = {label: index for index, label in enumerate(labels)}
    return np.array(
        [places.get(f"I{label[1:]}", index) if split_tag(label)[0] == "B" and label[:1] == "B" else index
         for index, label in enumerate(labels)]
    )  # fmt: skip
