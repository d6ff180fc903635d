"""Is A better than B? The paired bootstrap over examples."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SAMPLES = 2000


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
    means = _samples(len(gap), seed) @ gap / len(gap)
    low, high = np.quantile(means, [0.025, 0.975])
    return Comparison(float(gap.mean()), float(low), float(high), float((means <= 0).mean()))


@lru_cache(maxsize=1)
def _samples(rows: int, seed: int) -> np.ndarray:
    """[SAMPLES, rows] how often each example is drawn; the same for all comparisons on a split."""
    random = np.random.default_rng(seed)
    drawn = (np.bincount(random.integers(0, rows, rows), minlength=rows) for _ in range(SAMPLES))
    return np.stack([counts.astype(np.float32) for counts in drawn])
