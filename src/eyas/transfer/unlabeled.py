"""Unlabeled texts: which are new, and which are most similar to the training texts."""

import logging
import math
import re
from collections import Counter
from zlib import crc32

import numpy as np
from datasets import Dataset, DatasetDict
from datasketch import MinHash

from eyas.data.datasets import ids_of, is_pair
from eyas.data.tokenization import batches_of_texts
from eyas.errors import DataError
from eyas.text import SEPARATOR
from eyas.transfer.words import DENSE

logger = logging.getLogger("eyas")

_WORD = re.compile(rf"[{DENSE}]|[^\W{DENSE}]+")
# MinHash of word 3-grams: texts that share 9 of 10 are found in 97% of cases, half in 12%, a third in 2%.
GRAM, BANDS, ROWS_PER_BAND = 3, 4, 5
# Odd numbers that make one key of a band's hashes, modulo 2^64.
MIXERS = np.random.default_rng(0).integers(1 << 63, size=ROWS_PER_BAND, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
LENGTH_BINS = 10
# Smoothing: this many words, distributed as in the unlabeled texts, are added to the training texts' counts.
PRIOR = 1000


def new_texts(unlabeled: Dataset, data: DatasetDict, near: bool = True) -> Dataset:
    """Each unlabeled text once, without those in `data`; logs how many were left out.

    Args:
        near: also leave out near-duplicates: texts that share most of their word 3-grams with an earlier text or one in
            `data`. Pairs and questions about a sentence are kept, since many share one side.

    Raises:
        DataError: single texts instead of pairs, texts instead of words, or the reverse; or no text is left.
    """
    train = data["train"]
    if is_pair(train) != is_pair(unlabeled):
        expected, found = ("pairs", "single texts") if is_pair(train) else ("single texts", "pairs")
        raise DataError(
            f"The unlabeled texts are {found}, the data has {expected}. Name the columns with "
            "Columns(text=..., text_pair=...) or --text and --text-pair."
        )
    tagging = "tokens" in train.column_names
    if tagging != ("tokens" in unlabeled.column_names):
        expected, found = ("words", "texts") if tagging else ("texts", "words")
        raise DataError(
            f"The unlabeled rows are {found}, the data has {expected}. Load them with "
            f"load_unlabeled(..., tagging={tagging})."
        )
    ids, first = np.unique(ids_of(unlabeled), return_index=True)
    dropped = {"repeated": len(unlabeled) - len(ids)}
    for name, rows in data.items():
        found_here = np.isin(ids, ids_of(rows))
        dropped[f"in {name}"] = int(found_here.sum())
        ids, first = ids[~found_here], first[~found_here]
    kept = np.sort(first)
    if near and len(kept) and not (is_pair(train) or _has_questions(train) or data.task.reads_fields):
        known = np.concatenate([near_keys(rows) for rows in data.values()])
        repeated = are_near_duplicates(known, near_keys(unlabeled.select(kept)))
        dropped["nearly identical"] = int(repeated.sum())
        kept = kept[~repeated]
    counts = ", ".join(f"{count:,} {why}" for why, count in dropped.items() if count)
    logger.info("%s unlabeled texts%s.", f"{len(kept):,}", f" (left out: {counts})" if counts else "")
    if not len(kept):
        raise DataError(f"No unlabeled text is left: {counts}. Give other texts, or leave out unlabeled (--unlabeled).")
    return unlabeled if len(kept) == len(unlabeled) else unlabeled.select(kept)


def _has_questions(dataset: Dataset) -> bool:
    """Whether the rows are questions about a sentence."""
    return "tokens" in dataset.column_names and any(SEPARATOR in tokens for tokens in dataset["tokens"])


def near_keys(dataset: Dataset) -> np.ndarray:
    """[rows, bands] uint64: texts with a key in common are near-duplicates (MinHash, Broder 1997)."""
    keys = [np.empty((0, BANDS), dtype=np.uint64)]
    for batch in batches_of_texts(dataset):
        grams = map(_grams, batch["text"])
        sketches = MinHash.generator(grams, num_perm=BANDS * ROWS_PER_BAND, hashfunc=crc32)
        hashes = np.array([sketch.hashvalues for sketch in sketches], dtype=np.uint64)
        keys.append((hashes.reshape(-1, BANDS, ROWS_PER_BAND) * MIXERS).sum(2))
    return np.concatenate(keys)


def are_near_duplicates(known: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """[rows] bool: whether a row of `keys` shares a key with `known` or with a row above."""
    result = np.zeros(len(keys), dtype=bool)
    for band in range(BANDS):
        both = np.concatenate([known[:, band], keys[:, band]])
        _, first, place = np.unique(both, return_index=True, return_inverse=True)
        result |= (first[place] < np.arange(len(both)))[len(known) :]
    return result


def _grams(text: str) -> list[bytes]:
    """The word 3-grams; for a shorter text, the whole text."""
    words = _WORD.findall(text.casefold())
    if len(words) < GRAM:
        return [" ".join(text.casefold().split()).encode()]  # too short for near-duplicates: symbols count
    return [" ".join(run).encode() for run in zip(*(words[start:] for start in range(GRAM)), strict=False)]


def most_alike(unlabeled: Dataset, train: Dataset, count: int) -> Dataset:
    """The `count` texts most similar to the training texts, in length and words.

    Each decile of the training texts' lengths gets a tenth of the places. Texts in it are ranked by how much likelier
    their words are in the training texts than in the unlabeled ones (Moore & Lewis 2010, with single words).
    """
    if count >= len(unlabeled):
        return unlabeled
    lengths, scores = _lengths(unlabeled), _likeness(unlabeled, train)
    edges = np.quantile(_lengths(train), np.linspace(0, 1, LENGTH_BINS + 1)[1:-1])
    bins = np.searchsorted(edges, lengths, side="left")
    chosen = np.zeros(len(unlabeled), dtype=bool)
    for number in range(LENGTH_BINS):
        rows = np.flatnonzero(bins == number)
        chosen[rows[np.argsort(-scores[rows], kind="stable")[: count // LENGTH_BINS]]] = True
    rest = np.flatnonzero(~chosen)
    missing = count - int(chosen.sum())
    chosen[rest[np.argsort(-scores[rest], kind="stable")[:missing]]] = True
    logger.info("Using the %s of %s unlabeled texts most similar to train.", f"{count:,}", f"{len(unlabeled):,}")
    return unlabeled.select(np.flatnonzero(chosen))


def _likeness(dataset: Dataset, train: Dataset) -> np.ndarray:
    """[rows] mean log ratio of each word's probability in `train` and in `dataset`."""
    train_counts, text_counts = _word_counts(train), _word_counts(dataset)
    here, there = sum(train_counts.values()), sum(text_counts.values())
    ratio = {
        word: math.log((train_counts[word] * there / count + PRIOR) / (here + PRIOR))
        for word, count in text_counts.items()
    }
    result = []
    for batch in batches_of_texts(dataset):
        for sides in zip(*(batch[name] for name in _columns(batch)), strict=True):
            words = _WORD.findall(" ".join(sides).casefold())
            result.append(sum(ratio[word] for word in words) / max(len(words), 1))
    return np.array(result)


def _word_counts(dataset: Dataset) -> Counter[str]:
    counts: Counter[str] = Counter()
    for batch in batches_of_texts(dataset):
        for name in _columns(batch):
            for text in batch[name]:
                counts.update(_WORD.findall(text.casefold()))
    return counts


def _lengths(dataset: Dataset) -> np.ndarray:
    """[rows] words."""
    result = []
    for batch in batches_of_texts(dataset):
        result += [sum(map(_words_in, sides)) for sides in zip(*(batch[n] for n in _columns(batch)), strict=True)]
    return np.array(result)


def _words_in(text: str) -> int:
    return len(_WORD.findall(text))


def _columns(batch: dict[str, object]) -> list[str]:
    return [name for name in ("text", "text_pair") if name in batch]
