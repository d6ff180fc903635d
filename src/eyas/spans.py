"""Tags <-> spans. Reads BIO like conlleval and seqeval's default mode; a tag without a prefix is a one-word span."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Tags of words whose tag is unknown, such as those that a tool could not align.
MISSING = ("-", "_")


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


@dataclass(frozen=True)
class Scheme:
    """How tags mark spans.

    Args:
        name: IOB2, BIOES ...
        change: each tag of the scheme -> the same as B-, I-, or O.
        ends: the tags that end a span, if only ends are marked (IOE).
        marks_starts: whether every span starts with a tag of its own; if not, the tag before decides.
    """

    name: str
    change: Mapping[str, str]
    ends: frozenset[str] = frozenset()
    marks_starts: bool = True

    @property
    def is_bio(self) -> bool:
        """Whether the tags are BIO already."""
        return self.marks_starts and all(tag == bio for tag, bio in self.change.items())

    def to_bio(self, tags: Sequence[str]) -> list[str]:
        """The tags of a sentence in BIO; tags outside the scheme stay as they are."""
        found = [self.change.get(tag, tag) for tag in tags]
        if self.marks_starts:
            return found
        before, ended = "O", False
        for place, (tag, bio) in enumerate(zip(tags, list(found), strict=True)):
            prefix, kind = split_tag(bio)
            if prefix == "I" and (ended or before == "O" or split_tag(before)[1] != kind):
                found[place] = f"B{bio[1:]}"
            before, ended = bio, tag in self.ends
        return found


# What the letters of each scheme mean in BIO.
_SCHEMES = {"IOB2": "BI", "IOE": "IE", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW"}
_MEANING = {"B": "B", "S": "B", "U": "B", "W": "B", "I": "I", "M": "I", "E": "I", "L": "I"}
# (separator, whether the letter comes first): B-PER, PER-B, B_PER ...
_NOTATIONS = [("", True)] + [(sign, first) for sign in "-_:/." for first in (True, False)]


def find_scheme(tags: Collection[str]) -> Scheme | None:
    """The scheme of a set of tags, some of which may not belong to it; None for tags without one (parts of speech)."""
    outside = set(tags) & {"O", "o"} or set(tags) & set(MISSING)
    read = {notation: _letters(set(tags) - outside, *notation) for notation in _NOTATIONS}
    notation, letters = max(read.items(), key=lambda item: len(item[1]))
    bare, odd = notation[0] == "", set(tags) - outside - letters.keys() - set(MISSING)
    used = {letter.upper() for letter, _ in letters.values()}
    meanings = {_MEANING[letter] for letter in used}
    usual = notation == ("-", True) and all(letter.isupper() for letter, _ in letters.values())
    of_kind: dict[str, set[str]] = {}
    for letter, kind in letters.values():
        of_kind.setdefault(kind, set()).add(_MEANING[letter.upper()] if letter.upper() != "S" else "S")
    proven = any({"B", "I"} <= found for found in of_kind.values())
    if bare:  # may be parts of speech, unless they begin and continue a span
        cuts_words = {"B", "E", "S"} <= used <= set("BIMES")
        fits = not odd and (cuts_words or (bool(outside) and (meanings == {"B", "I"} or used == {"I"})))
    elif usual and used <= {"B", "I"}:
        fits = bool(letters)
    else:
        fits = proven or (bool(outside) and len(letters) > len(odd) and (usual or "I" in meanings))
    if not fits:
        return None
    name = next((name for name, known in _SCHEMES.items() if used <= set(known)), "BIOES and BILOU")
    change = {tag: _MEANING[letter.upper()] + (f"-{kind}" if kind else "") for tag, (letter, kind) in letters.items()}
    ends = {tag for tag, (letter, _) in letters.items() if letter in "Ee"} if name == "IOE" else set()
    return Scheme(name, change | dict.fromkeys(outside, "O"), frozenset(ends), name != "IOE")


def _letters(tags: set[str], sign: str, first: bool) -> dict[str, tuple[str, str]]:
    """Each tag that is a letter of a scheme, with a type if there is a `sign` between them: (letter, type)."""
    found = {}
    for tag in tags:
        parts = tag.partition(sign) if first and sign else tag.rpartition(sign) if sign else (tag, "", "")
        letter, kind = (parts[0], parts[2]) if first else (parts[2], parts[0])
        if letter.upper() in _MEANING and bool(kind) == bool(sign):
            found[tag] = (letter, kind)
    return found


def marks_starts(sentences: Iterable[Sequence[str]]) -> bool:
    """Whether a span of these BIO tags starts with B-. In IOB1, only one that follows another of its type does."""
    for tags in sentences:
        before = ("O", "")
        for tag in tags:
            this = split_tag(tag)
            if this[0] == "B" and (before[0] == "O" or before[1] != this[1]):
                return True
            before = this
    return False


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
    """Change I- tags that do not continue a span to B-; the spans stay the same."""
    result = list(tags)
    for place in broken_places(tags):
        result[place] = f"B{tags[place][1:]}"
    return result


def continuations(labels: Sequence[str]) -> np.ndarray:
    """[labels] int: for each tag, the tag of the word's next subword: `I-X` for `B-X`, otherwise the same tag."""
    places = {label: index for index, label in enumerate(labels)}
    return np.array(
        [places.get(f"I{label[1:]}", index) if split_tag(label)[0] == "B" and label[:1] == "B" else index
         for index, label in enumerate(labels)]
    )  # fmt: skip
