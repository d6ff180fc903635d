"""Scores of a classifier, and how it compares with its teacher."""

import numpy as np

from understudy.errors import DataError
from understudy.runtime.predictor import softmax

ECE_BINS = 15


def classification_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, macro-F1, Matthews correlation and expected calibration error.

    Args:
        logits: [rows, labels].
        labels: [rows] int; rows of -1 or -100 (unlabelled) are left out.

    Raises:
        DataError: no row is labelled.
    """
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    labelled = labels >= 0
    if not labelled.any():
        raise DataError("Nothing to score: no row has a label. Choose a labelled --split.")
    logits, labels = logits[labelled], labels[labelled]
    predictions = logits.argmax(1)
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "macro_f1": float(f1_score(labels, predictions, average="macro", zero_division=0)),
        "matthews": float(matthews_corrcoef(labels, predictions)),
        "calibration_error": expected_calibration_error(softmax(logits), labels),
    }


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over 15 bins of equal width (Guo et al. 2017, eq. 3)."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    counts = np.bincount(bins, minlength=ECE_BINS)
    gaps = np.bincount(bins, confidence - right, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / counts.sum())


def agreement(logits: np.ndarray, teacher_logits: np.ndarray) -> float:
    """Share of rows where student and teacher predict the same label."""
    return float((logits.argmax(1) == teacher_logits.argmax(1)).mean())
