"""A text as words that can be replaced, with the white space between them kept."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from eyas.data.rows import UNLABELED
from eyas.text import SEPARATOR

# Scripts that put no space between words: Thai, Lao, Burmese, Khmer, kana, Chinese characters. One sign is one word.
_DENSE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_IS_DENSE = re.compile(f"[{_DENSE}]")
_ASCII_WORD = re.compile(r"(\s*)(\w+(?:['-]\w+)*|[^\w\s])")


@cache
def _any_word() -> re.Pattern[str]:
    """A word or sign of any script, with the marks that follow its letters, as accents and vowel signs."""
    marks = "".join(c for c in map(chr, range(0x300, 0xFFFF)) if unicodedata.category(c) in ("Mn", "Mc"))
    letter = rf"(?:(?![{_DENSE}])[\w{marks}])"
    return re.compile(rf"(\s*)([{_DENSE}][{marks}]*|{letter}+(?:['\u2019-]{letter}+)*|[^\w\s])")


def is_dense(word: str) -> bool:
    """Whether a word is of a script without spaces."""
    return bool(_IS_DENSE.match(word))


@dataclass(frozen=True)
class Words:
    """A text, or a sentence that was split before.

    Args:
        words: as they stand there.
        before: the white space before each; empty for a sentence, whose words are joined by single spaces.
        tags: each word's tag, -1 = none; empty where there are no tags.
        fixed: how many words at the front are left alone: a question and its separator.
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
        """Places of the words that may change."""
        return range(self.fixed, len(self.words))

    def replaced(self, words: dict[int, str]) -> "Words":
        """With other words in some places; what stands there has no tag any more."""
        chosen = tuple(words.get(place, word) for place, word in enumerate(self.words))
        tags = tuple(UNLABELED if place in words else tag for place, tag in enumerate(self.tags))
        return Words(chosen, self.before, tags, self.fixed)

    def span(self, start: int, end: int) -> "Words":
        """The words from `start` to `end`, behind the fixed ones."""

        def part(values: Sequence[Any]) -> tuple[Any, ...]:
            return (*values[: self.fixed], *values[start:end])

        return Words(part(self.words), part(self.before), part(self.tags), self.fixed)


def split_text(text: str) -> Words:
    """A text as words and signs; joined again it is the same text, but for white space at its ends."""
    found = (_ASCII_WORD if text.isascii() else _any_word()).findall(text)
    return Words(tuple(word for _, word in found), tuple(space for space, _ in found))


def sentence(tokens: Sequence[str], tags: Sequence[int]) -> Words:
    """A sentence of a tagging set; with a question, only what follows the separator may change."""
    fixed = tokens.index(SEPARATOR) + 1 if SEPARATOR in tokens else 0
    return Words(tuple(tokens), (), tuple(tags), fixed)


def texts_as_words(columns: dict[str, Any]) -> Iterator[tuple[Words, ...]]:
    """For each row of a column batch its texts: one, or two of a pair."""
    if "tokens" in columns:
        for tokens, tags in zip(columns["tokens"], columns["label"], strict=True):
            yield (sentence(tokens, tags),)
        return
    sides = [columns[name] for name in ("text", "text_pair") if name in columns]
    for texts in zip(*sides, strict=True):
        yield tuple(split_text(text) for text in texts)
