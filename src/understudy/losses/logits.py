"""Losses against the teacher's logits (the soft targets)."""

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from understudy.losses.base import Fields, Loss
from understudy.losses.schedules import Schedule, at


class LogitMSELoss(Loss):
    """Mean squared error of raw logits, without temperature (Ba & Caruana 2014; Tang et al. 2019, eq. 2).

    The mean is over classes and batch.
    """

    teacher_fields: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        return F.mse_loss(student["logits"], teacher["logits"])


class SoftTargetLoss(Loss):
    """Kullback-Leibler divergence of softened predictions, times temperature squared (Hinton et al. 2015, 2.1).

    The mean is over the batch. Patient KD's code divides by the classes as well: its weights are on another scale.

    Args:
        temperature: a number or a schedule, above 0.
    """

    teacher_fields: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __init__(self, temperature: float | Schedule = 2.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        temperature = at(self.temperature, progress)
        ours = F.log_softmax(student["logits"] / temperature, -1)
        theirs = F.log_softmax(teacher["logits"] / temperature, -1)
        return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2
