"""Losses between the members of an ensemble. `member_logits` is [members, batch, labels]."""

import torch
from torch import Tensor

from eyas.losses.base import Fields, Loss
from eyas.losses.distributions import SoftTargetLoss
from eyas.losses.schedules import Schedule
from eyas.models.objective import distributions


class MutualLoss(Loss):
    """Each member learns from every other.

    The mean Kullback-Leibler divergence over ordered pairs of members. Only one member of a pair gets gradients.
    """

    paper = "Mutual learning, Zhang et al. 2018, eq. 5; Niyaz & Bathula 2021"
    student_fields = frozenset({"logits", "member_logits"})

    def __init__(self, temperature: float | Schedule = 1.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.divergence = SoftTargetLoss(temperature)

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        members = student["member_logits"].unbind()
        pairs = [(own, peer.detach()) for own in members for peer in members if peer is not own]
        terms = [self.divergence({"logits": own}, {"logits": peer}, batch, progress) for own, peer in pairs]
        return torch.stack(terms).mean() if terms else torch.zeros(())


class DiversityLoss(Loss):
    """Minus the squared distance of the members' predictions from their mean."""

    paper = "Negative correlation, Liu & Yao 1999, eq. 4"
    student_fields = frozenset({"logits", "member_logits"})

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        members = student["member_logits"]
        task = self.task_of(batch, student)
        probs = [choices.softmax(-1) for choices in distributions(task, members)] or [members]
        return -torch.stack([(own - own.mean(0)).square().sum(-1).mean() for own in probs]).mean()
