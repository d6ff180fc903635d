"""Confidence that means what it says: a temperature for the logits, and which answers to leave out."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.optimize import minimize_scalar

from eyas.data.datasets import is_labeled, labels_of, task_of
from eyas.evaluation.evaluate import Predicts, aligned_logits
from eyas.evaluation.metrics import answered, expected_calibration_error
from eyas.tasks import softmax

# Decisions below which no temperature is fitted, and texts that it is fitted on at most.
FEWEST, MOST_TEXTS = 50, 5000
LOWEST, HIGHEST = 0.05, 20.0
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)


def calibration(model: Predicts, dataset: Dataset) -> dict[str, Any] | None:
    """The temperature of `model`, fitted on labeled texts, and what it does to them.

    Args:
        dataset: validation texts; those without a label do not count.

    Returns:
        `temperature`, `decisions` (how many it was fitted on), `error` and `error_before` (expected calibration error
        with and without it), `answered`: for each threshold the share of decisions with at least this confidence and
        the accuracy on them. None if the task has no decisions, or there are fewer than 50.
    """
    if not task_of(dataset).decides:
        return None
    labeled = dataset.select(np.flatnonzero(is_labeled(dataset))[:MOST_TEXTS])
    task, gold = task_of(labeled), task_of(labeled).decided(labels_of(labeled))
    if (gold >= 0).sum() < FEWEST:
        return None
    logits, gold = task.decisions(aligned_logits(model, labeled))[gold >= 0], gold[gold >= 0]
    fitted = round(fit_temperature(logits, gold), 4)
    errors = {each: round(expected_calibration_error(softmax(logits / each), gold), 4) for each in (1.0, fitted)}
    temperature = min(errors, key=lambda each: errors[each])  # likelihood and calibration error may disagree
    chances = softmax(logits / temperature)
    return {
        "temperature": temperature,
        "decisions": len(gold),
        "error": errors[temperature],
        "error_before": errors[1.0],
        "answered": [[least, *map(_short, answered(chances, gold, least))] for least in THRESHOLDS],
    }


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the lowest negative log-likelihood (Guo et al. 2017, section 4.2).

    One more decision is added, shared evenly among its choices, as Platt (1999, section 2.2) does: the temperature of
    a model without mistakes would otherwise be 0.

    Args:
        logits: [decisions, choices]; choices that are not available are -1e9.
        labels: [decisions] int.
    """
    raw, gold = torch.from_numpy(logits.astype(np.float64)), torch.from_numpy(labels)
    is_open = raw > -1e8
    spread = is_open / is_open.sum(1, keepdim=True) / (len(raw) + 1)
    target = torch.nn.functional.one_hot(gold, raw.shape[1]) * (len(raw) / (len(raw) + 1)) + spread

    def loss(log_temperature: float) -> float:
        chances = torch.log_softmax(raw / np.exp(log_temperature), 1)
        return float(-(target * chances)[is_open].sum() / len(raw))

    return float(np.exp(minimize_scalar(loss, bounds=np.log([LOWEST, HIGHEST]), method="bounded").x))


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
