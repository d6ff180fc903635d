"""Losses over several teachers, each of which they see: logits [rows, labels, teachers]."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import Fields, Loss
from eyas.losses.layer_mapping import Fixed, uniform
from eyas.losses.schedules import Schedule, at
from eyas.losses.weights import MeansSoFar
from eyas.models.inside import EACH, EACH_STATES, mean_of_tokens
from eyas.models.student import is_student
from eyas.tasks import Task


class SeveralTeachersLoss(Loss):
    """Base class of losses over several teachers. For one label per text."""

    teacher_fields = frozenset({EACH})

    def __init__(self, temperature: float | Schedule = 1.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.temperature = temperature
        self.means: MeansSoFar | None = None

    def check(self, task: Task) -> None:
        super().check(task)
        if not task.is_classification:
            raise ModelError(
                f"{type(self).__name__} is for texts with one label; this is {task.describe()}. Combine the teachers "
                "by their mean (--teachers mean)."
            )

    def prepare(self, student: object, teacher: object) -> None:
        """Create the teachers' mean errors, over the labeled texts so far."""
        self.means = MeansSoFar(len(teacher.teachers))  # type: ignore[attr-defined]

    def errors(self, each: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each teacher with the gold label, [rows, teachers]; without one, its mean so far."""
        known = labels >= 0
        gold = labels.clamp(min=0)[:, None, None].expand(-1, 1, each.shape[2])
        found = -F.log_softmax(each, 1).gather(1, gold).squeeze(1)
        return found if self.means is None else self.means(found, known)

    def cross_entropies(self, student: Fields, teacher: Fields, progress: float) -> Tensor:
        """Cross-entropy of the student's softened prediction with each teacher's: [rows, teachers]."""
        temperature = at(self.temperature, progress)
        own = F.log_softmax(student["logits"] / temperature, 1).unsqueeze(2)
        return -(F.softmax(teacher[EACH] / temperature, 1) * own).sum(1)


class WeightedTeachersLoss(SeveralTeachersLoss):
    """Cross-entropy with each teacher, divided by one plus that teacher's own cross-entropy; summed over teachers.

    A teacher that is wrong about a text counts less there. On a text without a label, it counts by its mean error on
    the labeled texts so far: the paper has labels for all.
    """

    paper = "MT-BERT (Wu et al. 2021, arXiv 2106.01023), as restated by Ding et al. 2022 (arXiv 2211.14466), eq. 1"

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        weights = 1 / (1 + self.errors(teacher[EACH], batch["labels"]))
        return (weights * self.cross_entropies(student, teacher, progress)).sum(1).mean()


class TeachersStatesLoss(SeveralTeachersLoss):
    """Squared error of the mean of the tokens of each layer, weighted by teacher and text as `WeightedTeachersLoss`.

    A learned matrix for each pair of layers maps the teacher's state to the student's size. Of each teacher, layers at
    equal distances teach; the loss is the mean over elements and texts, summed over teachers and layers. The paper
    compares states of tokens; their mean allows for teachers with tokenizers of their own.
    """

    paper = "MT-BERT (Wu et al. 2021, arXiv 2106.01023), its hidden term"
    student_fields = frozenset({"hidden_states"})
    teacher_fields = frozenset({EACH, EACH_STATES})

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight=weight)
        self.projections = nn.ModuleList()

    def prepare(self, student: Any, teacher: Any) -> None:
        """Create the matrices.

        Raises:
            ModelError: a teacher is not a model with layers.
        """
        super().prepare(student, teacher)
        if not all("hidden_states" in one.fields and not is_student(one.model) for one in teacher.teachers):
            raise ModelError(
                "hidden_weight (--option hidden_weight) compares the layers of all teachers (--teacher), but one is no "
                "transformer. Leave it out."
            )
        for one in teacher.teachers:
            Fixed(uniform).check(student.num_hidden_layers, one.model.config.num_hidden_layers)
        sizes = [one.model.config.hidden_size for one in teacher.teachers]
        self.projections = nn.ModuleList(
            nn.ModuleList(nn.Linear(size, student.hidden_size, bias=False) for _ in range(student.num_hidden_layers))
            for size in sizes
        )

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        weights = 1 / (1 + self.errors(teacher[EACH], batch["labels"]))
        own = [mean_of_tokens(states, batch["attention_mask"]) for states in student["hidden_states"]]
        found = []
        for number, (states, projections) in enumerate(zip(teacher[EACH_STATES], self.projections, strict=True)):
            for layer, other in uniform(len(own) - 1, len(states) - 1):
                target = cast(nn.ModuleList, projections)[layer - 1](states[other])
                errors = F.mse_loss(own[layer], target, reduction="none").mean(1)
                found.append((weights[:, number] * errors).mean())
        return torch.stack(found).sum()


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
    The reward of a choice is minus the student's cross-entropy with the label and with the chosen teachers (the second
    of the paper's three rewards), less the batch's mean. Texts without a label teach the policy nothing, and neither do
    those for which it chose nobody: these learn from the likeliest teacher. The paper's state has a vector of the text
    instead of the student's probabilities, and it trains student and policy in turns.
    """

    paper = "Yuan et al. 2021, Reinforced Multi-Teacher Selection for Knowledge Distillation (arXiv 2012.06048)"

    def prepare(self, student: object, teacher: object) -> None:
        """Create the policy."""
        super().prepare(student, teacher)
        labels, teachers = len(student.id2label), len(teacher.teachers)  # type: ignore[attr-defined]
        self.policy = TeacherPolicy(teachers, 2 * labels + 1)

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        each, labels = teacher[EACH], batch["labels"]
        states = self.states(student["logits"].detach(), each, labels)
        with torch.no_grad():
            chances = self.policy(states).sigmoid()
            actions = torch.bernoulli(chances)
            nobody = actions.sum(1) == 0
            likeliest = F.one_hot(chances.argmax(1), actions.shape[1]).to(actions.dtype)
            used = torch.where(nobody.unsqueeze(1), likeliest, actions)
        terms = self.cross_entropies(student, teacher, progress)
        taught = (used * terms).sum(1) / used.sum(1)
        told = (labels >= 0) & ~nobody
        if not told.any():
            return taught.mean()
        wrong = F.cross_entropy(student["logits"][told], labels[told], reduction="none")
        reward = -(wrong + taught[told]).detach()
        chosen = self.policy.log_probability(states, actions)[told].sum(1)
        return taught.mean() - ((reward - reward.mean()) * chosen).mean()

    def states(self, logits: Tensor, each: Tensor, labels: Tensor) -> Tensor:
        """[rows, teachers, 2 labels + 1]."""
        theirs = F.softmax(each, 1).transpose(1, 2)
        own = F.softmax(logits, 1).unsqueeze(1).expand_as(theirs)
        return torch.cat([theirs, self.errors(each, labels).unsqueeze(2), own], 2)
