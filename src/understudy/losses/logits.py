"""Losses against the teacher's logits (the soft targets)."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from understudy.losses.base import Fields, Loss
from understudy.losses.schedules import Schedule, at
from understudy.models.objective import distributions


class LogitMSELoss(Loss):
    """Mean squared error of raw logits, without temperature (Ba & Caruana 2014; Tang et al. 2019, eq. 2).

    The mean is over classes and batch. A CRF has no logits but log-probabilities of tags given the sentence: they are
    matched by Kullback-Leibler divergence instead (Wang et al. 2020, "Structure-level KD", token posteriors).
    """

    teacher_fields: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        if batch.get("posteriors"):
            return _divergence(student["logits"], teacher["logits"])
        return F.mse_loss(student["logits"], teacher["logits"])


class SoftTargetLoss(Loss):
    """Kullback-Leibler divergence of softened predictions, times temperature squared (Hinton et al. 2015, 2.1).

    The mean is over the batch, and over the decisions where a text needs several (aspects, labels that are there or
    not); a regression, which has none, is taught by squared error. Patient KD's code divides by the classes as well:
    its weights are on another scale.

    Args:
        temperature: a number or a schedule, above 0.
    """

    teacher_fields: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __init__(self, temperature: float | Schedule = 2.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        temperature = at(self.temperature, progress)
        task = self.task_of(batch, student)
        pairs = zip(distributions(task, student["logits"]), distributions(task, teacher["logits"]), strict=True)
        terms = [_divergence(ours / temperature, theirs / temperature) for ours, theirs in pairs]
        if not terms:
            return F.mse_loss(student["logits"], teacher["logits"])
        return torch.stack(terms).mean() * temperature**2


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """KL(theirs || ours) of logits [..., choices], summed over choices, mean over the rest."""
    choices = ours.shape[-1]
    ours, theirs = F.log_softmax(ours, -1).view(-1, choices), F.log_softmax(theirs, -1).view(-1, choices)
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
