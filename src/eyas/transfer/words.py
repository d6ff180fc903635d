"""A text as words that can be replaced; the whitespace between them is kept."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from eyas.data.rows import UNLABELED
from eyas.text import SEPARATOR

# Scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Chinese characters. Each character is a word.
DENSE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_IS_DENSE = re.compile(f"[{DENSE}]")
_ASCII_WORD = re.compile(r"(\s*)(\w+(?:['-]\w+)*|[^\w\s])")


@cache
def _any_word() -> re.Pattern[str]:
    """Matches a word or symbol of any script, with combining marks such as accents and vowel signs."""
    marks = "".join(c for c in map(chr, range(0x300, 0xFFFF)) if unicodedata.category(c) in ("Mn", "Mc"))
    letter = rf"(?:(?![{DENSE}])[\w{marks}])"
    return re.compile(rf"(\s*)([{DENSE}][{marks}]*|{letter}+(?:['\u2019-]{letter}+)*|[^\w\s])")


def is_dense(word: str) -> bool:
    """Whether a word is in a script without spaces."""
    return bool(_IS_DENSE.match(word))


def in_case_of(word: str, other: str) -> str:
    """`other` in the case of `word`: lower, UPPER or Title; unchanged for any other."""
    if word.islower():
        return other.lower()
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other[:1].upper() + other[1:] if word[:1].isupper() else other


def in_place_of(word: str, others: Sequence[str], count: int) -> list[str]:
    """The first `count` of `others` in the case of `word`, each once, without the word itself."""
    cased = dict.fromkeys(in_case_of(word, other) for other in others)
    return [other for other in cased if other.lower() != word.lower()][:count]


@dataclass(frozen=True)
class Words:
    """A text, or a sentence that is already split.

    Args:
        words: in order.
        before: the whitespace before each word; empty for a sentence, whose words are joined by single spaces.
        tags: each word's tag, -1 = none; empty without tags.
        fixed: the number of leading words that never change: a question and its separator.
    """

    words: tuple[str, ...]
    before: tuple[str, ...] = ()
    tags: tuple[int, ...] = ()
    fixed: int = 0

    def __len__(self) -> int:
        return len(self.words)

    def __str__(self) -> str:
        if not self.before:
            return " ".join(self.words)
        return "".join(part for pair in zip(self.before, self.words, strict=True) for part in pair).strip()

    @property
    def free(self) -> range:
        """Indices of the words that may change."""
        return range(self.fixed, len(self.words))

    def replaced(self, words: dict[int, str]) -> "Words":
        """A copy with some words replaced, by index; replaced words lose their tags."""
        chosen = tuple(words.get(place, word) for place, word in enumerate(self.words))
        tags = tuple(UNLABELED if place in words else tag for place, tag in enumerate(self.tags))
        return Words(chosen, self.before, tags, self.fixed)

    def span(self, start: int, end: int) -> "Words":
        """The fixed words, then the words from `start` to `end`."""

        def part(values: Sequence[Any]) -> tuple[Any, ...]:
            return (*values[: self.fixed], *values[start:end])

        words = Words(part(self.words), part(self.before), part(self.tags), self.fixed)
        if not self.tags or start <= self.fixed:
            return words
        tags = list(words.tags)
        tags[self.fixed : self.fixed + 1] = [UNLABELED] * (end > start)  # the start of its entity may be cut off
        return replace(words, tags=tuple(tags))


def split_text(text: str) -> Words:
    """A text as words and symbols; joining them restores the text, except for whitespace at its ends."""
    found = (_ASCII_WORD if text.isascii() else _any_word()).findall(text)
    return Words(tuple(word for _, word in found), tuple(space for space, _ in found))


def sentence(tokens: Sequence[str], tags: Sequence[int]) -> Words:
    """A sentence of a tagging data set; with a question, only words after the separator may change."""
    fixed = tokens.index(SEPARATOR) + 1 if SEPARATOR in tokens else 0
    return Words(tuple(tokens), (), tuple(tags), fixed)


def texts_as_words(columns: dict[str, Any]) -> Iterator[tuple[Words, ...]]:
    """The texts of each row of a column batch: one, or two for a pair."""
    if "tokens" in columns:
        for tokens, tags in zip(columns["tokens"], columns["label"], strict=True):
            yield (sentence(tokens, tags),)
        return
    sides = [columns[name] for name in ("text", "text_pair") if name in columns]
    for texts in zip(*sides, strict=True):
        yield tuple(split_text(text) for text in texts)
