"""From which confidence on a student may answer in place of its teacher."""

import numpy as np

from eyas.evaluation.bootstrap import ratio_samples

# Thresholds that are tried, from the safest on; the bound holds with this confidence.
GRID, CONFIDENCE = 200, 0.95


def lowest_threshold(
    sure: np.ndarray, own: np.ndarray, rest: np.ndarray, teacher: np.ndarray, metric: str, least: float
) -> float | None:
    """The lowest confidence from which on a student may answer; None if there is none.

    The threshold is lowered step by step as long as the retention is at least `least` with 95 % confidence (fixed
    sequence testing, Angelopoulos et al. 2021, section 3.2).

    Args:
        sure: [texts] confidence of the student.
        own, rest, teacher: [texts, parts] contributions to the score, as from `sums`: of the student, of what answers
            the other texts, and of the teacher.
        metric: a `Task.metric`.
    """
    best = None
    for threshold in np.unique(np.quantile(sure, np.linspace(0, 1, GRID)))[::-1]:
        if retention_bound(np.where((sure >= threshold)[:, None], own, rest), teacher, metric) < least:
            break
        best = float(threshold)
    return best


def retention_bound(own: np.ndarray, teacher: np.ndarray, metric: str) -> float:
    """What the retention is at least, with 95 % confidence, by a bootstrap over texts.

    One more text of mean size counts, on which only the teacher is right: no loss among few texts is no promise.

    Args:
        own, teacher: [texts, parts] as from `sums`.
    """
    size = max(float(teacher[:, -1].mean()), 1.0)  # the decisions of a text: one, or its words, aspects, spans
    lost = [[0.0] + [size] * (own.shape[1] - 1), [size] * own.shape[1]]
    first, second = (np.concatenate([part, [row]]) for part, row in zip((own, teacher), lost, strict=True))
    return float(np.quantile(ratio_samples([first], [second], metric), 1 - CONFIDENCE))
