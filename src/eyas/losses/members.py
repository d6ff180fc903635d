"""Losses between the members of an ensemble. `member_logits` is [members, batch, labels]."""

import torch
from torch import Tensor
from torch.nn import functional as F

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


class ResidualLoss(Loss):
    """A student and its assistants add up to the teacher: squared error of logits.

    An ensemble's logits are the mean of its members', so each member has its share of the sum. The first member, the
    student, learns the teacher's logits; the others, its assistants, what it lacks. In the paper they are features.

    Args:
        assistants: whether the assistants learn, and not the student.
    """

    paper = "Residual knowledge distillation, Gao et al. 2020 (arXiv 2002.09168)"
    student_fields = frozenset({"logits", "member_logits"})
    teacher_fields = frozenset({"logits"})
    adds_members = True

    def __init__(self, assistants: bool, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.assistants = assistants

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        shares = student["member_logits"] / len(student["member_logits"])
        found = shares[0].detach() + shares[1:].sum(0) if self.assistants else shares[0]
        return F.mse_loss(found, teacher["logits"])


class DiversityLoss(Loss):
    """Minus the squared distance of the members' predictions from their mean."""

    paper = "Negative correlation, Liu & Yao 1999, eq. 4"
    student_fields = frozenset({"logits", "member_logits"})

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        members = student["member_logits"]
        task = self.task_of(batch, student)
        probs = [choices.softmax(-1) for choices in distributions(task, members)] or [members]
        return -torch.stack([(own - own.mean(0)).square().sum(-1).mean() for own in probs]).mean()
