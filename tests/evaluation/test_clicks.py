"""Scores of click predictions, and their intervals."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from eyas.evaluation.bootstrap import score, score_interval, sums
from eyas.evaluation.metrics import task_metrics
from eyas.tasks import Task

TASK = Task("fields", ("0", "1"))


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    """Logits with ties, and labels."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    click = np.round(labels + random.normal(0, 1.2, 400), 1)
    return np.stack([-click / 2, click / 2], 1), labels


def test_scores_are_those_of_scikit_learn(scored: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = scored
    found = task_metrics(TASK, logits, np.concatenate([labels[:-1], [-1]]))
    chances = 1 / (1 + np.exp(-2 * logits[:-1, 1]))
    assert found["auc"] == pytest.approx(roc_auc_score(labels[:-1], chances))
    assert found["log_loss"] == pytest.approx(log_loss(labels[:-1], chances))


def test_auc_of_one_class_is_that_of_chance(scored: tuple[np.ndarray, np.ndarray]) -> None:
    assert task_metrics(TASK, scored[0], np.ones(400, int))["auc"] == 0.5


@pytest.mark.process
def test_interval_is_that_of_a_bootstrap_of_rows(scored: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = scored
    parts = sums(TASK, logits, labels, np.ones(400, int))
    assert score("auc", parts.sum(0)) == pytest.approx(roc_auc_score(labels, logits[:, 1]))
    random = np.random.default_rng(1)
    drawn = (random.integers(0, 400, 400) for _ in range(1000))
    expected = np.quantile([roc_auc_score(labels[rows], logits[rows, 1]) for rows in drawn], [0.025, 0.975])
    np.testing.assert_allclose(score_interval([parts], "auc"), expected, atol=0.006)
