"""Is A better than B? The paired bootstrap over examples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SAMPLES, BLOCK = 2000, 100
# Numbers kept between comparisons: 200 MB.
MOST_KEPT = 50_000_000


@dataclass(frozen=True)
class Comparison:
    """A minus B: the difference, its 95 % interval, and the share of samples in which A is not better."""

    difference: float
    low: float
    high: float
    p: float


def compare(right_a: np.ndarray, right_b: np.ndarray, seed: int = 0) -> Comparison:
    """Paired bootstrap of two models' accuracy (Efron & Tibshirani 1993, section 16.4; Koehn 2004).

    Args:
        right_a, right_b: [rows] the share of seeds that got each example right, of the same examples.
    """
    gap = np.asarray(right_a, np.float32) - np.asarray(right_b, np.float32)
    means = np.concatenate([block @ gap for block in _blocks(len(gap), seed)]) / len(gap)
    low, high = np.quantile(means, [0.025, 0.975])
    return Comparison(float(gap.mean()), float(low), float(high), float((means <= 0).mean()))


def _blocks(rows: int, seed: int) -> Iterable[np.ndarray]:
    """[samples, rows] how often each example is drawn, in parts; the same for all comparisons on a split."""
    return _kept(rows, seed) if rows * SAMPLES <= MOST_KEPT else _draw(rows, seed)


@lru_cache(maxsize=1)
def _kept(rows: int, seed: int) -> list[np.ndarray]:
    return list(_draw(rows, seed))


def _draw(rows: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    for _ in range(0, SAMPLES, BLOCK):
        counts = (np.bincount(random.integers(0, rows, rows), minlength=rows) for _ in range(BLOCK))
        yield np.stack([row.astype(np.float32) for row in counts])
