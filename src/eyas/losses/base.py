"""The base classes of the losses."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.schedules import Schedule, at
from eyas.models.inside import FROM_CACHE
from eyas.models.objective import distributions
from eyas.tasks import Task

Fields = Mapping[str, Any]
# Distance between student and teacher logits [..., choices] of one decision, a scalar.
Distance = Callable[[Tensor, Tensor], Tensor]
# Lower than any score or logit, and finite in bfloat16.
CLOSED = -1e9
# The student's field with the logits of an ensemble's members.
MEMBER_LOGITS = "member_logits"


class Loss(nn.Module, ABC):
    """One term of the objective. A loss never holds a model: it declares the fields it reads.

    Learned parts, such as a projection, are submodules: they are trained and checkpointed with the student, and
    dropped after training.

    Args:
        weight: a number, or a schedule (training progress, 0 to 1 -> number).
    """

    student_fields: frozenset[str] = frozenset({"logits"})
    teacher_fields: frozenset[str] = frozenset()
    # The paper, section and equation.
    paper: ClassVar[str] = ""
    # Whether it compares one vector per text, so it cannot train taggers.
    of_whole_texts: ClassVar[bool] = False
    # Whether it needs an ensemble whose logits are the mean of its members'.
    adds_members: ClassVar[bool] = False
    # Requirement on a transformer student, as listed by `eyas recipes`.
    needs: ClassVar[str] = ""

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight

    @property
    def title(self) -> str:
        """Its name in messages."""
        return type(self).__name__

    @property
    def reads_layers(self) -> bool:
        """Whether it reads any teacher output other than logits."""
        return bool(self.teacher_fields - FROM_CACHE)

    def check(self, task: Task) -> None:
        """Raises ModelError if it does not support `task`."""
        if self.of_whole_texts and task.is_tagging:
            raise ModelError(
                f"{type(self).__name__} compares whole texts, so it cannot train a tagger. Choose a recipe that "
                "compares tokens, such as tinybert or minilm, or one that reads logits."
            )

    def check_models(self, student: Any, teacher: Any) -> None:
        """Raises ModelError if it cannot compare models with these configurations."""

    def prepare(self, student: Any, teacher: Any) -> None:
        """Create the learned parts from the configurations of both models, before training."""

    @abstractmethod
    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        """The unweighted term, a scalar.

        Args:
            student: the student's outputs, at least `student_fields`.
            teacher: the teacher's outputs, at least `teacher_fields`; may be empty if there are none.
            batch: the inputs, the `task`, the `epoch` from 0, and `labels` as in `task_loss`. In tagging, a row is a
                word. `posteriors` is true if the logits are a CRF's log-probabilities.
            progress: training progress, 0 to 1.
        """

    def terms(self, student: Fields, teacher: Fields, batch: Fields, progress: float) -> list[tuple[str, Tensor]]:
        """The weighted terms at `progress`, as (name, value)."""
        return [(type(self).__name__, at(self.weight, progress) * self(student, teacher, batch, progress))]

    @staticmethod
    def task_of(batch: Fields, student: Fields) -> Task:
        """The batch's task; classification by default."""
        task = batch.get("task")
        return task if task is not None else Task("classification", tuple(map(str, range(student["logits"].shape[-1]))))


def terms_of(loss: Loss, student: Fields, teacher: Fields, batch: Fields, progress: float) -> list[tuple[str, Tensor]]:
    """The terms of a loss: an ensemble's members are taught one by one; only losses that compare members see all."""
    members = student.get(MEMBER_LOGITS)
    if members is None or MEMBER_LOGITS in loss.student_fields:
        return loss.terms(student, teacher, batch, progress)
    each = ({**student, "logits": logits, MEMBER_LOGITS: None} for logits in members)
    of_each = [loss.terms(one, teacher, batch, progress) for one in each]
    return [
        (one[0][0], sum((value for _, value in one), one[0][1] * 0) / len(members))
        for one in zip(*of_each, strict=True)
    ]


class WeightedLosses(Loss):
    """A sum of losses, weighted by more than their own weights.

    Args:
        losses: the terms; their own weights still apply.
    """

    # How they are weighted, in messages.
    weighting: ClassVar[str]

    def __init__(self, losses: Sequence[Loss]) -> None:
        super().__init__()
        self._losses = nn.ModuleList(losses)
        self.student_fields = frozenset().union(*(loss.student_fields for loss in losses))
        self.teacher_fields = frozenset().union(*(loss.teacher_fields for loss in losses))

    @property
    def losses(self) -> list[Loss]:
        return list(cast(Any, self._losses))

    @property
    def title(self) -> str:
        return f"{', '.join(loss.title for loss in self.losses)}, {self.weighting}"

    def check(self, task: Task) -> None:
        super().check(task)
        for loss in self.losses:
            loss.check(task)

    def check_models(self, student: Any, teacher: Any) -> None:
        for loss in self.losses:
            loss.check_models(student, teacher)

    def prepare(self, student: Any, teacher: Any) -> None:
        for loss in self.losses:
            loss.prepare(student, teacher)

    @abstractmethod
    def terms(self, student: Fields, teacher: Fields, batch: Fields, progress: float) -> list[tuple[str, Tensor]]: ...

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        return torch.stack([term for _, term in self.terms(student, teacher, batch, progress)]).sum()


class RawLogitLoss(Loss):
    """Compares raw logits.

    A CRF's outputs are log-probabilities of tags given the sentence. They are compared by Kullback-Leibler divergence
    (Wang et al. 2020, "Structure-level KD", token posteriors).
    """

    teacher_fields = frozenset({"logits"})

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        student_logits, target = student["logits"], self.target(teacher["logits"], progress)
        if batch.get("posteriors"):
            return self.reduce(kl_divergences(student_logits, target), progress)
        return self.distance(student_logits, target, self.task_of(batch, student), progress)

    def target(self, teacher_logits: Tensor, progress: float) -> Tensor:
        """The target of the student's logits."""
        return teacher_logits

    @abstractmethod
    def distance(self, student_logits: Tensor, target: Tensor, task: Task, progress: float) -> Tensor:
        """Distance between logits [rows, labels], a scalar."""

    def reduce(self, errors: Tensor, progress: float) -> Tensor:
        """Errors per row [rows] -> a scalar."""
        return errors.mean()


def kl_divergences(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(teacher || student) of logits [..., choices], summed over choices: [...]."""
    student, teacher = F.log_softmax(student_logits, -1), F.log_softmax(teacher_logits, -1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


def mean_over_decisions(task: Task, student_logits: Tensor, teacher_logits: Tensor, distance: Distance) -> Tensor:
    """Mean `distance` of logits [..., choices] over the decisions of `task`; squared error if there are none."""
    pairs = zip(distributions(task, student_logits), distributions(task, teacher_logits), strict=True)
    terms = [distance(student, teacher) for student, teacher in pairs]
    return torch.stack(terms).mean() if terms else F.mse_loss(student_logits, teacher_logits)
