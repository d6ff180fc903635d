"""Text without labels: what of it is new, and what of it is like the training texts."""

import logging
import math
import re
import zlib
from collections import Counter

import numpy as np
from datasets import Dataset, DatasetDict

from eyas.data.datasets import ids_of, is_pair
from eyas.data.tokenization import batches_of_texts
from eyas.errors import DataError
from eyas.text import SEPARATOR

logger = logging.getLogger("eyas")

_WORD = re.compile(r"\w+")
# MinHash of word 3-grams: texts that share 9 of 10 are found with 97 %, half with 12 %, a third with 2 %.
GRAM, BANDS, ROWS_PER_BAND = 3, 4, 5
POWERS = np.array([pow(0x9E3779B97F4A7C15, power, 2**64) for power in range(GRAM)], dtype=np.uint64)
LENGTH_BINS = 10
# So many words of the unlabelled texts are added to the training texts' counts, so that no word is impossible there.
PRIOR = 1000


def new_texts(unlabelled: Dataset, data: DatasetDict, near: bool = True) -> Dataset:
    """Each text once, without those that stand in `data`; says how many were left out.

    Args:
        near: leave out near-duplicates as well: texts that share most of their runs of three words with one before,
            or with one of `data`. Of pairs, and of questions about a sentence, many share one side: those are kept.

    Raises:
        DataError: single texts for pairs, or texts for tagged words, or the reverse; nothing is left.
    """
    train = data["train"]
    if is_pair(train) != is_pair(unlabelled):
        expected, found = ("pairs", "single texts") if is_pair(train) else ("single texts", "pairs")
        raise DataError(f"The unlabelled texts are {found}, the data has {expected}. Name columns with --text.")
    tagging = "tokens" in train.column_names
    if tagging != ("tokens" in unlabelled.column_names):
        expected, found = ("words", "texts") if tagging else ("texts", "words")
        raise DataError(
            f"The unlabelled rows are {found}, the data has {expected}. Load them with "
            f"load_unlabelled(..., tagging={tagging})."
        )
    ids, first = np.unique(ids_of(unlabelled), return_index=True)
    dropped = {"repeated": len(unlabelled) - len(ids)}
    for name, rows in data.items():
        found_here = np.isin(ids, ids_of(rows))
        dropped[f"in {name}"] = int(found_here.sum())
        ids, first = ids[~found_here], first[~found_here]
    kept = np.sort(first)
    if near and len(kept) and not (is_pair(train) or _asks(train)):
        known = np.concatenate([near_keys(rows) for rows in data.values()])
        repeated = are_near_duplicates(known, near_keys(unlabelled.select(kept)))
        dropped["nearly like another"] = int(repeated.sum())
        kept = kept[~repeated]
    counts = ", ".join(f"{count:,} {why}" for why, count in dropped.items() if count)
    logger.info("%s unlabelled texts%s.", f"{len(kept):,}", f" (left out: {counts})" if counts else "")
    if not len(kept):
        raise DataError(f"No unlabelled text is left: {counts}. Give other texts, or leave --unlabelled out.")
    return unlabelled if len(kept) == len(unlabelled) else unlabelled.select(kept)


def _asks(texts: Dataset) -> bool:
    """Whether the rows are questions about a sentence."""
    return "tokens" in texts.column_names and any(SEPARATOR in tokens for tokens in texts["tokens"])


def near_keys(texts: Dataset) -> np.ndarray:
    """[rows, bands] uint64: texts with a key in common are nearly the same (MinHash, Broder 1997)."""
    random = np.random.default_rng(0)
    size = BANDS * ROWS_PER_BAND
    factors = random.integers(1, 2**63, size, dtype=np.uint64) | np.uint64(1)
    shifts = random.integers(0, 2**63, size, dtype=np.uint64)
    mixing = random.integers(1, 2**63, ROWS_PER_BAND, dtype=np.uint64) | np.uint64(1)
    keys = [np.empty((0, BANDS), np.uint64)]
    for batch in batches_of_texts(texts, 500):
        grams = [_grams(text) for text in batch["text"]]
        flat = np.concatenate(grams)[:, None]
        starts = np.cumsum([0, *map(len, grams[:-1])])
        hashes = np.minimum.reduceat(_scrambled(flat * factors + shifts), starts)
        keys.append((hashes.reshape(len(grams), BANDS, ROWS_PER_BAND) * mixing).sum(2, dtype=np.uint64))
    return np.concatenate(keys)


def are_near_duplicates(known: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """[rows] bool: whether a row of `keys` shares a key with `known` or with a row above."""
    result = np.zeros(len(keys), dtype=bool)
    for band in range(BANDS):
        both = np.concatenate([known[:, band], keys[:, band]])
        _, first, place = np.unique(both, return_index=True, return_inverse=True)
        result |= (first[place] < np.arange(len(both)))[len(known) :]
    return result


def _grams(text: str) -> np.ndarray:
    """Hashes of the runs of three words, uint64; of a shorter text, of what is there."""
    found = _WORD.findall(text.casefold())
    if len(found) < GRAM:
        found = [text]  # too little to be nearly alike: signs count
    words = np.array([zlib.crc32(word.encode()) for word in found], dtype=np.uint64)
    if len(words) < GRAM:
        words = np.concatenate([words, np.zeros(GRAM - len(words), np.uint64)])
    windows = np.lib.stride_tricks.sliding_window_view(words, GRAM)
    return np.asarray((windows * POWERS).sum(1, dtype=np.uint64))


def _scrambled(values: np.ndarray) -> np.ndarray:
    """Spread over all bits, in which a product's low ones are poor."""
    values = (values ^ (values >> np.uint64(31))) * np.uint64(0x7FB5D329728EA185)
    return np.asarray(values ^ (values >> np.uint64(33)))


def most_alike(unlabelled: Dataset, train: Dataset, count: int) -> Dataset:
    """The `count` texts most like the training texts, in length as in words.

    Each tenth of the training texts' lengths gets a tenth of the places; there the likeliest texts win, by how much
    likelier their words are in training texts than in the unlabelled ones (Moore & Lewis 2010, with single words).
    """
    if count >= len(unlabelled):
        return unlabelled
    lengths, scores = _lengths(unlabelled), _likeness(unlabelled, train)
    edges = np.quantile(_lengths(train), np.linspace(0, 1, LENGTH_BINS + 1)[1:-1])
    bins = np.searchsorted(edges, lengths, side="left")
    chosen = np.zeros(len(unlabelled), dtype=bool)
    for number in range(LENGTH_BINS):
        rows = np.flatnonzero(bins == number)
        chosen[rows[np.argsort(-scores[rows], kind="stable")[: count // LENGTH_BINS]]] = True
    rest = np.flatnonzero(~chosen)
    missing = count - int(chosen.sum())
    chosen[rest[np.argsort(-scores[rest], kind="stable")[:missing]]] = True
    logger.info("%s of %s unlabelled texts are most like the training texts.", f"{count:,}", f"{len(unlabelled):,}")
    return unlabelled.select(np.flatnonzero(chosen))


def _likeness(texts: Dataset, train: Dataset) -> np.ndarray:
    """[rows] mean log ratio of each word's probability in `train` and in `texts`."""
    ours, theirs = _word_counts(train), _word_counts(texts)
    here, there = sum(ours.values()), sum(theirs.values())
    ratio = {word: math.log((ours[word] * there / count + PRIOR) / (here + PRIOR)) for word, count in theirs.items()}
    result = []
    for batch in batches_of_texts(texts):
        for sides in zip(*(batch[name] for name in _columns(batch)), strict=True):
            words = _WORD.findall(" ".join(sides).casefold())
            result.append(sum(ratio[word] for word in words) / max(len(words), 1))
    return np.array(result)


def _word_counts(texts: Dataset) -> Counter[str]:
    counts: Counter[str] = Counter()
    for batch in batches_of_texts(texts):
        for name in _columns(batch):
            for text in batch[name]:
                counts.update(_WORD.findall(text.casefold()))
    return counts


def _lengths(texts: Dataset) -> np.ndarray:
    """[rows] words."""
    result = []
    for batch in batches_of_texts(texts):
        result += [sum(map(_words_in, sides)) for sides in zip(*(batch[n] for n in _columns(batch)), strict=True)]
    return np.array(result)


def _words_in(text: str) -> int:
    return text.count(" ") + 1


def _columns(batch: dict[str, object]) -> list[str]:
    return [name for name in ("text", "text_pair") if name in batch]
