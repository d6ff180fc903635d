"""Tags <-> spans. BIO as conlleval and seqeval's default mode read it; tags without a prefix are one span a word."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """A typed span of words, `end` behind its last."""

    kind: str
    start: int
    end: int


def split_tag(tag: str) -> tuple[str, str]:
    """`B-PER` -> ("B", "PER"), `B` -> ("B", ""), `O` -> ("O", ""), `NN` -> ("B", "NN"): a tag without a prefix
    stands for its own word."""
    if tag in ("O", "B", "I"):
        return tag, ""
    prefix, dash, kind = tag.partition("-")
    return (prefix, kind) if dash and prefix in ("B", "I") else ("B", tag)


def spans_of(tags: Sequence[str]) -> list[Span]:
    """Spans of one sentence. An `I-` that continues nothing starts a span, as in conlleval."""
    spans: list[Span] = []
    kind, start = "", -1
    for place, tag in enumerate([*tags, "O"]):
        prefix, this = split_tag(tag)
        goes_on = prefix == "I" and start >= 0 and this == kind
        if start >= 0 and not goes_on:
            spans.append(Span(kind, start, place))
            start = -1
        if prefix != "O" and not goes_on:
            kind, start = this, place
    return spans


def to_bio(tags: Sequence[str]) -> list[str]:
    """BIOES (and BILOU) as BIO: S- and U- begin, E- and L- go on."""
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
    # Bare letters may be parts of speech, unless they begin and end something.
    return "O" in tags and marked and (bool(typed) or bool("B" in prefixes and prefixes & {"E", "L"}))


def broken_places(tags: Sequence[str]) -> list[int]:
    """Words whose I- tag continues nothing."""
    places = []
    before = ("O", "")
    for place, tag in enumerate(tags):
        this = split_tag(tag)
        if this[0] == "I" and (before[0] == "O" or before[1] != this[1]):
            places.append(place)
        before = this
    return places


def repaired(tags: Sequence[str]) -> list[str]:
    """The same tags with B- where an I- continued nothing (of BIOES, S- where an E- did); the spans do not change."""
    change = {"I": "B", "E": "S", "L": "U"}
    result = list(tags)
    for place in broken_places([to_bio([tag])[0] if "-" in tag else tag for tag in tags]):
        result[place] = f"{change[tags[place][0]]}{tags[place][1:]}"
    return result


def continuations(labels: Sequence[str]) -> np.ndarray:
    """[labels] int: for each tag, the one of the next piece of the same word: `I-X` for `B-X`, else itself."""
    places = {label: index for index, label in enumerate(labels)}
    return np.array(
        [places.get(f"I{label[1:]}", index) if split_tag(label)[0] == "B" and label[:1] == "B" else index
         for index, label in enumerate(labels)]
    )  # fmt: skip
