"""Words of similar meaning, by their static vectors."""

import json
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn

from eyas.data.embeddings import read_vectors
from eyas.errors import DataError, ModelError
from eyas.runtime.alignment import WordEncoder, continuing
from eyas.transfer.words import Words, in_place_of, is_dense

# Similarities computed at a time: about 160 MB, including the sort.
SIMILARITIES = 10_000_000
# Neighbors found for each that is kept: the same word in another case does not count.
CASES = 3


class Vocabulary:
    """Words with a vector each.

    Args:
        words: in the case in which they are looked up.
        vectors: [words, size].
        size: neighbors per word.
    """

    def __init__(self, words: Sequence[str], vectors: np.ndarray, size: int = 15) -> None:
        self.words, self.size = list(words), size
        self._index = {word: row for row, word in enumerate(self.words)}
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
        self._known: dict[str, list[str]] = {}
        self._cased: dict[str, list[str]] = {}

    @classmethod
    def of_model(
        cls, model: Any, tokenizer: Any, known: Collection[str], size: int = 15, several: bool = False
    ) -> "Vocabulary":
        """The whole words among a model's tokens (see `whole_words`), with its input vectors.

        Args:
            several: also the known words of several tokens, each with the mean of their vectors.
        """
        table = cast(nn.Embedding, model.get_input_embeddings()).weight.detach().float().cpu().numpy()
        words = whole_words(tokenizer, known)
        if len(words) <= size:
            raise ModelError(f"The tokenizer has {len(words)} whole words, too few for neighbors. Use a vector file.")
        vectors = table[list(words.values())]
        if not several:
            return cls(list(words), vectors, size)
        others = sorted({word for word in known if _is_word(word)} - words.keys())
        pieces = WordEncoder(tokenizer.backend_tokenizer, tokenizer.unk_token).pieces([[word] for word in others])
        spelled = [word for word, piece in zip(others, pieces, strict=True) if len(piece.ids) > 1]
        means = [table[piece.ids].mean(0) for piece in pieces if len(piece.ids) > 1]
        return cls([*words, *spelled], np.vstack([vectors, *means]), size)

    @classmethod
    def of_file(cls, path: str | Path, wanted: Collection[str] | None = None, size: int = 15) -> "Vocabulary":
        """Read a file of word vectors; `wanted` are the words to read, by default all."""
        words, vectors = read_vectors(path, wanted)
        if len(words) <= size:
            raise DataError(f"{path}: {len(words)} words, too few for {size} neighbors each.")
        return cls(words, vectors, size)

    def neighbors(self, word: str) -> list[str]:
        """The nearest words by cosine, nearest first, in the case of `word`; empty for an unknown word."""
        known = word if word in self._index else word.lower()
        if known not in self._index:
            return []
        if known not in self._known:
            self.learn([known])
        if word not in self._cased:
            self._cased[word] = in_place_of(word, self._known[known], self.size)
        return self._cased[word]

    def learn(self, words: Collection[str]) -> None:
        """Find the neighbors of many words at once."""
        candidates = {w if w in self._index else w.lower() for w in words}
        rows = sorted(self._index[word] for word in candidates if word in self._index and word not in self._known)
        size = max(SIMILARITIES // len(self.words), 1)
        most = min(CASES * self.size, len(self.words) - 1)
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            similar = self._vectors[part] @ self._vectors.T
            similar[np.arange(len(part)), part] = -2.0  # not the word itself
            nearest = np.argpartition(-similar, most - 1, 1)[:, :most]
            order = np.argsort(-np.take_along_axis(similar, nearest, 1), 1, kind="stable")
            for row, places in zip(part, np.take_along_axis(nearest, order, 1), strict=True):
                self._known[self.words[row]] = [self.words[place] for place in places]


class Neighbors:
    """Replaces words with their neighbors (the static half of TinyBERT's algorithm 1).

    Args:
        vocabulary: words and their neighbors.
        probability: of replacing a word (0.4 in the paper).
    """

    def __init__(self, vocabulary: Vocabulary, probability: float = 0.4) -> None:
        self.vocabulary, self.probability = vocabulary, probability

    def variants(self, texts: Sequence[Words], count: int, random: np.random.Generator) -> list[list[Words]]:
        """For each text `count` variants; some may be identical."""
        self.vocabulary.learn({word for text in texts for word in text.words})
        near = self.vocabulary.neighbors
        return [
            replace_words(text, [near(word) for word in text.words], self.probability, count, random) for text in texts
        ]


def whole_words(tokenizer: Any, known: Collection[str]) -> dict[str, int]:
    """The tokens that are whole words, and their ids. Single letters count only in scripts without spaces.

    Args:
        known: words that occur. If a tokenizer does not mark continuations, the first subword of a word can look like
            a word, so only known words count.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    marked = state["model"]["type"] == "WordPiece"
    lower = {word.casefold() for word in known}
    words: dict[str, int] = {}
    for row in np.flatnonzero(~continuing(tokenizer.backend_tokenizer)).tolist():
        word = tokens[row] if marked else tokenizer.convert_tokens_to_string([tokens[row]]).strip()
        if _is_word(word) and (len(word) > 1 or is_dense(word)) and (marked or word.casefold() in lower):
            words.setdefault(word, row)
    return words


def _is_word(word: str) -> bool:
    """Whether `word` is only letters and their combining marks."""
    return bool(word) and all(sign.isalpha() or unicodedata.category(sign) in ("Mn", "Mc") for sign in word)


def replace_words(
    text: Words, candidates: Sequence[Sequence[str]], probability: float, count: int, random: np.random.Generator
) -> list[Words]:
    """`count` variants; in each, every word with candidates is replaced with the given probability."""
    places = [place for place in text.free if candidates[place]]
    result = []
    for _ in range(count):
        draws, picks = random.random(len(places)), random.random(len(places))
        chosen = {
            place: candidates[place][int(pick * len(candidates[place]))]
            for place, draw, pick in zip(places, draws.tolist(), picks.tolist(), strict=True)
            if draw < probability
        }
        result.append(text.replaced(chosen))
    return result
