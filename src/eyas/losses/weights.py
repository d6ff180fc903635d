"""Weights that are learned instead of chosen."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eyas.losses.base import Fields, Loss
from eyas.tasks import Task

# Adam moves a parameter by about its learning rate a step, whatever the slope; the logarithms have units to go.
SCALE = 50.0


class LearnedWeights(Loss):
    """The sum of exp(-s) * term + s, with a learned s for each term (Kendall et al. 2018, section 3.2).

    s is the logarithm of the term's variance: a term that can't be brought down loses its weight.

    Args:
        losses: the terms; their own weights still count.
    """

    def __init__(self, losses: Sequence[Loss]) -> None:
        super().__init__()
        self.losses = list(losses)
        self.student_fields = frozenset().union(*(loss.student_fields for loss in losses))
        self.teacher_fields = frozenset().union(*(loss.teacher_fields for loss in losses))
        self.projection: _Learned = _Learned(len(self.losses))

    def check(self, task: Task) -> None:
        for loss in self.losses:
            loss.check(task)

    @property
    def mappings(self) -> list[Any]:
        return [mapping for loss in self.losses for mapping in loss.mappings]

    @property
    def learned(self) -> list[nn.Module]:
        return [self.projection]  # what its terms learn is in there

    def prepare(self, student: Any, teacher: Any) -> None:
        for number, loss in enumerate(self.losses):
            loss.prepare(student, teacher)
            self.projection.add_module(str(number), nn.ModuleList(loss.learned))

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        terms = torch.stack([loss.weighted(student, teacher, batch, progress) for loss in self.losses])
        log_variances = SCALE * self.projection.scaled_log_variances
        return (torch.exp(-log_variances) * terms + log_variances).sum()


class _Learned(nn.Module):
    """The logarithms of the terms' variances over `SCALE`, and below them what the terms learn themselves."""

    def __init__(self, terms: int) -> None:
        super().__init__()
        self.scaled_log_variances = nn.Parameter(torch.zeros(terms))
        # So that they take no more than their share of what gradients are clipped by.
        self.scaled_log_variances.register_hook(lambda slope: slope / SCALE)
