"""From which confidence on a student may answer in place of its teacher."""

from collections.abc import Sequence

import numpy as np

from eyas.evaluation.bootstrap import samples

# Thresholds that are tried, from the safest on; the bound holds with this confidence.
GRID, CONFIDENCE = 200, 0.95
# Thresholds that share one drawing of samples.
TOGETHER = 10


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
    thresholds = np.unique(np.quantile(sure, np.linspace(0, 1, GRID)))[::-1]
    for start in range(0, len(thresholds), TOGETHER):
        tried = thresholds[start : start + TOGETHER]
        mixed = [np.where((sure >= threshold)[:, None], own, rest) for threshold in tried]
        for threshold, bound in zip(tried, retention_bounds(mixed, teacher, metric), strict=True):
            if bound < least:
                return best
            best = float(threshold)
    return best


def retention_bounds(answers: Sequence[np.ndarray], teacher: np.ndarray, metric: str) -> list[float]:
    """What the retention of each is at least, with 95 % confidence, by a bootstrap over texts.

    One more text of mean size counts, on which only the teacher is right: no loss among few texts is no promise.

    Args:
        answers, teacher: [texts, parts] each, as from `sums`.

    Returns:
        0 for all if the teacher's score is not above 0 in all samples: nothing is promised then.
    """
    size = max(float(teacher[:, -1].mean()), 1.0)  # the decisions of a text: one, or its words, aspects, spans
    wrong, right = [0.0] + [size] * (teacher.shape[1] - 1), [size] * teacher.shape[1]
    *kept, whole = samples(
        [[np.concatenate([own, [wrong]])] for own in answers] + [[np.concatenate([teacher, [right]])]], metric
    )
    if not (whole > 0).all():
        return [0.0] * len(kept)
    return [float(np.quantile(own / whole, 1 - CONFIDENCE)) for own in kept]
