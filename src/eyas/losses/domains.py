"""Losses of teachers that are fine-tuned on several domains, and of their students."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import Fields, Loss, WeightedLosses
from eyas.losses.schedules import Schedule, at
from eyas.losses.weights import MeansSoFar
from eyas.models.domains import DomainHead
from eyas.models.inside import DOMAIN_STATES, DOMAINS, SCORES, mean_of_tokens
from eyas.tasks import Task


class MetaTeacherLoss(Loss):
    """Cross-entropy with the label and, with a smaller weight, of a shuffled domain; each text weighted by its score.

    The domains of a batch are shuffled among its texts, so that the head learns to tell nothing from them. A text
    without a label has the second term alone. Prototype scores below 0 count as 0.

    Args:
        head: guesses the domain; trained with the model.
        domain_weight: of the second term.
    """

    paper = "Meta-KD, Pan et al. 2021 (arXiv 2012.01266), meta-teacher learning"
    student_fields = frozenset({"logits", "hidden_states"})
    teacher_fields = frozenset({DOMAINS, SCORES})
    of_whole_texts = True

    def __init__(self, head: DomainHead, domain_weight: float = 0.5, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.head, self.domain_weight = head, domain_weight

    @property
    def reads_layers(self) -> bool:
        return False  # domains and scores are looked up; no model computes them

    def check(self, task: Task) -> None:
        super().check(task)
        check_one_label(self, task)

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        domains = teacher[DOMAINS]
        shuffled = domains[torch.randperm(len(domains))]
        guesses = self.head(content(student, batch), domains)
        return self.compare(student["logits"], batch["labels"], guesses, shuffled, teacher[SCORES])

    def compare(self, logits: Tensor, labels: Tensor, guesses: Tensor, domains: Tensor, scores: Tensor) -> Tensor:
        """The loss.

        Args:
            logits: [texts, labels].
            labels: [texts] int, -100 = none.
            guesses: [texts, domains], logits.
            domains: [texts] int, shuffled.
            scores: [texts].
        """
        errors = F.cross_entropy(logits, labels, reduction="none")
        errors = errors + self.domain_weight * F.cross_entropy(guesses, domains, reduction="none")
        return (scores.clamp(min=0) * errors).mean()


class DomainStateLoss(Loss):
    """Mean squared error to the state of the teacher's domain head, of the mean of the student's tokens, projected."""

    paper = "Meta-KD, Pan et al. 2021 (arXiv 2012.01266), transferable knowledge"
    student_fields = frozenset({"hidden_states"})
    teacher_fields = frozenset({DOMAIN_STATES})
    of_whole_texts = True

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.projection: nn.Module = nn.Identity()  # until `prepare`

    def prepare(self, student: Any, teacher: Any) -> None:
        """Create the projection."""
        self.projection = nn.Linear(student.hidden_size, teacher.hidden_size)

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        return F.mse_loss(self.states(student, batch), teacher[DOMAIN_STATES])

    def states(self, student: Fields, batch: Fields) -> Tensor:
        """The student's, [texts, the teacher's hidden size]."""
        found: Tensor = self.projection(content(student, batch))
        return found


class ExpertiseWeights(WeightedLosses):
    """The mean over texts of losses over layers, each text weighted by how well the teacher knows it.

    The weight is 1 / (1 + exp((p - 1)^2)), where p is the teacher's probability of the label: 0.27 to 0.5. A text
    without a label has the mean of (p - 1)^2 of the labeled texts so far: the paper has labels for all.

    Args:
        losses: the terms; their own weights still apply.
        scores: multiply the weights by one plus the text's prototype score.
    """

    paper = "Meta-KD, Pan et al. 2021 (arXiv 2012.01266), meta-distillation"
    of_whole_texts = True
    weighting = "each text weighted by how well the teacher knows it"

    def __init__(self, losses: Sequence[Loss], scores: bool = True) -> None:
        super().__init__(losses)
        self.scores, self.means = scores, MeansSoFar()
        self.teacher_fields |= {"logits", SCORES} if scores else {"logits"}

    def check(self, task: Task) -> None:
        super().check(task)
        check_one_label(self, task)

    def weights(self, teacher: Fields, batch: Fields) -> Tensor:
        """[texts]."""
        labels = batch["labels"]
        right = teacher["logits"].softmax(-1).gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1)
        found = torch.sigmoid(-self.means((right - 1).square(), labels >= 0))
        return found * (1 + teacher[SCORES]) if self.scores else found

    def terms(self, student: Fields, teacher: Fields, batch: Fields, progress: float) -> list[tuple[str, Tensor]]:
        weights = self.weights(teacher, batch)
        return [
            (
                type(loss).__name__,
                at(loss.weight, progress) * (weights * of_each_text(loss, student, teacher, batch, progress)).mean(),
            )
            for loss in self.losses
        ]


def of_each_text(loss: Loss, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
    """The value of a loss over layers for each text alone, [texts]."""

    heads = {"heads": student.get("heads")}, {"heads": teacher.get("heads")}

    def alone(ours: Fields, theirs: Fields, mask: Tensor) -> Tensor:
        value: Tensor = loss({**ours, **heads[0]}, {**theirs, **heads[1]}, {"attention_mask": mask}, progress)
        return value

    ours = {name: _one_by_one(student[name]) for name in loss.student_fields}
    theirs = {name: _one_by_one(teacher[name]) for name in loss.teacher_fields}
    values: Tensor = torch.vmap(alone)(ours, theirs, _one_by_one(batch["attention_mask"]))
    return values


def _one_by_one(value: Any) -> Any:
    """[texts, ...] -> [texts, 1, ...], of tensors or of one per layer."""
    return value.unsqueeze(1) if isinstance(value, Tensor) else tuple(map(_one_by_one, value))


def content(student: Fields, batch: Fields) -> Tensor:
    """The mean of each text's tokens after the first, in the last layer: [texts, size]."""
    return mean_of_tokens(student["hidden_states"][-1][:, 1:], batch["attention_mask"][:, 1:])


def check_one_label(loss: Loss, task: Task) -> None:
    """Raises ModelError unless each text has one label."""
    if not task.is_classification:
        raise ModelError(
            f"{type(loss).__name__} is for texts with one label; this is {task.describe()}. Choose another recipe."
        )
