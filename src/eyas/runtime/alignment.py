"""Words <-> subwords. The unit of tagging is the word: teacher and student read it at its first subword."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from eyas.errors import DataError
from eyas.text import SEPARATOR, word_places

# Neighboring windows overlap by this share of their length, so that no word is read at an edge.
OVERLAP = 0.25
# Maximum number of cached words: about 20 MB.
REMEMBERED = 100_000


@dataclass(frozen=True)
class Pieces:
    """A sentence as subwords, without special tokens.

    Args:
        ids: token ids.
        words: [tokens] the word of each token.
        first: [words] the first token of each word.
    """

    ids: np.ndarray
    words: np.ndarray
    first: np.ndarray


@dataclass(frozen=True)
class Window:
    """A part of a sentence that fits into a model.

    Args:
        ids: token ids, special tokens included.
        sentence: index of the sentence.
        words: the words read in this window.
        positions: the token at which each word is read.
    """

    ids: list[int]
    sentence: int
    words: np.ndarray
    positions: np.ndarray


class WordEncoder:
    """Splits words into subwords, and caches them; every word gets at least one.

    Args:
        tokenizer: a `tokenizers.Tokenizer`.
        unknown: the token for words for which the tokenizer returns no token.
    """

    def __init__(self, tokenizer: Tokenizer, unknown: str) -> None:
        state = json.loads(tokenizer.to_str())
        self.tokenizer = Tokenizer.from_str(json.dumps({**state, "truncation": None, "padding": None}))
        self.unknown: tuple[int, ...] = (self.tokenizer.token_to_id(unknown) or 0,)
        self.continues = continuing(self.tokenizer)
        self.before, self.after = special_ids(self.tokenizer)
        parts = splitting_steps(state)
        # A byte-level tokenizer marks words by the space before them.
        marked = any(part.get("type") == "ByteLevel" and not part.get("add_prefix_space") for part in parts)
        self._space = " " if marked else ""
        self._added = {token["content"]: (token["id"],) for token in state["added_tokens"]}
        self._splits_signs = any(part.get("type") == "BertPreTokenizer" for part in parts)
        self._known: dict[str, tuple[int, ...]] = {}

    def pieces(self, sentences: Sequence[Sequence[str]]) -> list[Pieces]:
        """Subwords of each sentence; raises DataError if a sentence is a string, not a list of words."""
        for number, words in enumerate(sentences):
            if isinstance(words, str):
                raise DataError(f"Text {number} is a string ({words!r:.60}), expected a list of words.")
        known = self._with({word for words in sentences for word in words})
        return [_joined([known[word] for word in words]) for words in sentences]

    def split(self, text: str) -> list[tuple[int, int]]:
        """Split a raw text into words: (start, end) in characters."""
        if not self._splits_signs:  # punctuation would stay with the word before it
            return word_places(text)
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        words: dict[int, tuple[int, int]] = {}
        for number, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
            word = -1 if number is None else number
            words[word] = (words[word][0] if word in words else start, end)
        return [
            (start + first, start + last)
            for start, end in words.values()
            for first, last in word_places(text[start:end])
        ]

    def _with(self, words: set[str]) -> dict[str, tuple[int, ...]]:
        """The cache, with the subwords of `words` added. A full cache is cleared first."""
        if len(self._known) > REMEMBERED:
            self._known = {}
        known = self._known
        new = sorted(word for word in words if word not in known)  # a set minus the keys would walk them all
        rows = [[self._space + word] for word in new]
        encodings = self.tokenizer.encode_batch_fast(rows, is_pretokenized=True, add_special_tokens=False)
        for word, encoding in zip(new, encodings, strict=True):
            known[word] = tuple(encoding.ids) or self.unknown
        for word in words & self._added.keys():  # one token, even if a space before it would be another
            known[word] = self._added[word]
        if SEPARATOR in words - self._added.keys():
            separator = self.tokenizer.token_to_id(SEPARATOR)
            known[SEPARATOR] = (tuple(self.after[-1:]) or self.unknown) if separator is None else (separator,)
        return known

    def windows(self, sentences: Sequence[Sequence[str]], max_length: int) -> Iterator[Window]:
        """Windows of at most `max_length` tokens. Neighbors overlap, and a word is read far from the edges.

        Every window starts with the question, unless it fills more than half of a window.
        """
        for number, (words, pieces) in enumerate(zip(sentences, self.pieces(sentences), strict=True)):
            asked = int(pieces.first[words.index(SEPARATOR)]) + 1 if SEPARATOR in words else 0
            yield from self._windows(pieces, number, max_length, asked)

    def _windows(self, pieces: Pieces, number: int, max_length: int, asked: int) -> Iterator[Window]:
        room = max(max_length - len(self.before) - len(self.after), 1)
        asked = asked if len(pieces.ids) > room >= 2 * asked else 0
        question, length, room = pieces.ids[:asked].tolist(), len(pieces.ids) - asked, room - asked
        overlap = int(room * OVERLAP) if length > room else 0
        starts = range(0, max(length - overlap, 1), room - overlap)
        for start in starts:
            end = start + room
            left = start + overlap // 2 if start else -asked  # the first window reads the question too
            right = end - (overlap - overlap // 2) if start != starts[-1] else length
            words = np.flatnonzero((pieces.first - asked >= left) & (pieces.first - asked < right))
            if len(words):
                ids = [*self.before, *question, *pieces.ids[asked + start : asked + end].tolist(), *self.after]
                yield Window(ids, number, words, pieces.first[words] - start + len(self.before))


def splitting_steps(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a pre-tokenizer, from the content of tokenizer.json."""
    splitter = state.get("pre_tokenizer") or {}
    steps: list[dict[str, Any]] = splitter.get("pretokenizers", [splitter])
    return steps


def pad(rows: Sequence[Sequence[int]], padding: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and attention mask, [rows, longest] int64, padded on the right."""
    mask = np.arange(max(map(len, rows))) < np.array([[len(row)] for row in rows])
    ids = np.full(mask.shape, padding, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return ids, mask.astype(np.int64)


def _joined(words: list[tuple[int, ...]]) -> Pieces:
    lengths = np.array([len(word) for word in words], dtype=np.int64)
    ids = np.fromiter(chain.from_iterable(words), np.int64, int(lengths.sum()))
    return Pieces(ids, np.repeat(np.arange(len(words)), lengths), np.cumsum(lengths) - lengths)


def special_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    whole, inner = tokenizer.encode("a").ids, tokenizer.encode("a", add_special_tokens=False).ids
    start = next((i for i in range(len(whole)) if whole[i : i + len(inner)] == inner), 0)
    return whole[:start], whole[start + len(inner) :]


def continuing(tokenizer: Tokenizer) -> np.ndarray:
    """[vocabulary] bool: tokens that continue a word and never start one; all False if the tokenizer marks neither."""
    state = json.loads(tokenizer.to_str())
    kind, model = state["model"]["type"], state["model"]
    special = {token["content"] for token in state["added_tokens"]}
    vocabulary = tokenizer.get_vocab()
    if kind == "WordPiece":
        marked = {name for name in vocabulary if name.startswith(model["continuing_subword_prefix"])}
    elif kind in ("BPE", "Unigram"):
        starts = {name for name in vocabulary if name.startswith(("\u0120", "\u2581"))}
        # If the ends of words are marked instead, a subword does not show whether it starts a word.
        marked = vocabulary.keys() - starts if starts else set()
    else:
        marked = set()
    result = np.zeros(max(vocabulary.values(), default=-1) + 1, dtype=bool)  # ids may have gaps
    result[[vocabulary[name] for name in marked - special]] = True
    return result
