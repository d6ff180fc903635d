"""Losses over several teachers, each of which they see: logits [rows, labels, teachers]."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import Fields, Loss
from eyas.losses.schedules import Schedule, at
from eyas.models.inside import EACH
from eyas.tasks import Task


class SeveralTeachersLoss(Loss):
    """Base class of losses over several teachers. For one label per text."""

    teacher_fields = frozenset({EACH})

    def __init__(self, temperature: float | Schedule = 1.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def check(self, task: Task) -> None:
        super().check(task)
        if not task.is_single_label or task.is_tagging:
            raise ModelError(
                f"{type(self).__name__} is for texts with one label; this is {task.describe()}. Combine the teachers "
                "by their mean (--teachers mean)."
            )

    def cross_entropies(self, student: Fields, teacher: Fields, progress: float) -> Tensor:
        """Cross-entropy of the student's softened prediction with each teacher's: [rows, teachers]."""
        temperature = at(self.temperature, progress)
        own = F.log_softmax(student["logits"] / temperature, 1).unsqueeze(2)
        return -(F.softmax(teacher[EACH] / temperature, 1) * own).sum(1)


def errors(each: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each teacher with the gold label, [rows, teachers]; without one, the mean of the other rows."""
    known = labels >= 0
    gold = labels.clamp(min=0)[:, None, None].expand(-1, 1, each.shape[2])
    found = -F.log_softmax(each, 1).gather(1, gold).squeeze(1)
    if known.all():
        return found
    usual = found[known].mean(0) if known.any() else found.new_zeros(found.shape[1])
    return torch.where(known.unsqueeze(1), found, usual)


class WeightedTeachersLoss(SeveralTeachersLoss):
    """Cross-entropy with each teacher, divided by one plus that teacher's own cross-entropy; summed over teachers.

    A teacher that is wrong about a text counts less there. On a text without a label, a teacher has its mean error on
    the batch's labeled texts: the paper has labels for all.
    """

    paper = "MT-BERT (Wu et al. 2021, arXiv 2106.01023), as restated by Ding et al. 2022 (arXiv 2211.14466), eq. 1"

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        weights = 1 / (1 + errors(teacher[EACH], batch["labels"]))
        return (weights * self.cross_entropies(student, teacher, progress)).sum(1).mean()


class TeacherPolicy(nn.Module):
    """For each text and teacher, the probability that the teacher is used: a logistic function of a state.

    Args:
        teachers: number of teachers.
        size: length of a state.
    """

    def __init__(self, teachers: int, size: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(teachers, size))
        self.bias = nn.Parameter(torch.zeros(teachers))

    def forward(self, states: Tensor) -> Tensor:
        """Logits [rows, teachers] of states [rows, teachers, size]."""
        return (states * self.weights).sum(2) + self.bias

    def log_probability(self, states: Tensor, actions: Tensor) -> Tensor:
        """[rows, teachers] of actions (1 = used)."""
        return -F.binary_cross_entropy_with_logits(self(states), actions, reduction="none")


class SelectedTeachersLoss(SeveralTeachersLoss):
    """The mean cross-entropy with the teachers that a policy chooses for each text; the policy learns by REINFORCE.

    A teacher's state for a text: its probabilities, its cross-entropy with the label, and the student's probabilities.
    The reward is that of the text, minus the batch's mean; `reward` is "labels" (minus the student's cross-entropy with
    the label) or "teachers" (also minus that with the chosen teachers). Texts without a label teach the policy nothing.
    The paper's state has a vector of the text instead of the student's probabilities, and it trains student and policy
    in turns.
    """

    paper = "Yuan et al. 2021, Reinforced Multi-Teacher Selection for Knowledge Distillation (arXiv 2012.06048)"
    REWARDS: ClassVar[tuple[str, ...]] = ("labels", "teachers")

    def __init__(
        self, temperature: float | Schedule = 1.0, reward: str = "labels", weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(temperature, weight)
        self.reward = reward
        self.policy: TeacherPolicy | None = None

    def prepare(self, student: object, teacher: object) -> None:
        """Create the policy."""
        labels, teachers = len(student.id2label), len(teacher.teachers)  # type: ignore[attr-defined]
        self.policy = TeacherPolicy(teachers, 2 * labels + 1)

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        assert self.policy is not None
        each, labels = teacher[EACH], batch["labels"]
        states = self._states(student["logits"].detach(), each, labels)
        with torch.no_grad():
            open_to = self.policy(states).sigmoid()
            actions = torch.bernoulli(open_to)
            nobody = actions.sum(1) == 0
            actions[nobody] = F.one_hot(open_to[nobody].argmax(1), actions.shape[1]).to(actions.dtype)
        terms = self.cross_entropies(student, teacher, progress)
        taught = (actions * terms).sum(1) / actions.sum(1)
        known = labels >= 0
        if not known.any():
            return taught.mean()
        wrong = F.cross_entropy(student["logits"][known], labels[known], reduction="none")
        reward = -(wrong + taught[known] if self.reward == "teachers" else wrong).detach()
        chances = self.policy.log_probability(states, actions)[known].sum(1)
        return taught.mean() - ((reward - reward.mean()) * chances).mean()

    @staticmethod
    def _states(logits: Tensor, each: Tensor, labels: Tensor) -> Tensor:
        """[rows, teachers, 2 labels + 1]."""
        theirs = F.softmax(each, 1).transpose(1, 2)
        own = F.softmax(logits, 1).unsqueeze(1).expand_as(theirs)
        return torch.cat([theirs, errors(each, labels).unsqueeze(2), own], 2)
