"""What every term of the objective is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from eyas.errors import ModelError
from eyas.losses.schedules import Schedule, at
from eyas.tasks import Task

Fields = Mapping[str, Any]


class Loss(ABC):
    """One term of the objective. A loss never holds a model: it declares the fields it reads.

    Args:
        weight: a number, or a schedule (progress of the training, 0 to 1 -> number).
    """

    student_fields: frozenset[str] = frozenset({"logits"})
    teacher_fields: frozenset[str] = frozenset()
    # Whether it compares one vector of each text, which taggers don't have.
    of_whole_texts = False
    # What it needs of the student beside being a transformer, in words.
    needs = ""
    # Learned with the student and left behind when it is done.
    projection: nn.Module | None = None

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        self.weight = weight

    def check(self, task: Task) -> None:
        """Raises ModelError where it can't teach `task`."""
        if self.of_whole_texts and task.is_tagging:
            raise ModelError(
                f"{type(self).__name__} compares whole texts, and a tagger reads words. Choose a recipe that compares "
                "tokens, such as tinybert or minilm, or one that reads logits."
            )

    def prepare(self, student: Any, teacher: Any) -> None:  # noqa: B027 (most losses have nothing to prepare)
        """Look at the configurations of both models before training, where more than logits is read.

        Raises:
            ModelError: they do not fit.
        """

    @property
    def mappings(self) -> list[Any]:
        """Its layer mappings."""
        return [self.mapping] if hasattr(self, "mapping") else []

    @property
    def learned(self) -> list[nn.Module]:
        """What it learns with the student, or remembers from step to step: kept in the student's checkpoints."""
        return [module for module in (self.projection, *self.mappings) if isinstance(module, nn.Module)]

    @abstractmethod
    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        """The unweighted term, a scalar.

        Args:
            student: the student's outputs, at least `student_fields`.
            teacher: the teacher's outputs, at least `teacher_fields`; empty where none are declared.
            batch: the inputs; `labels` as in `task_loss`, and the `task`. In tagging, a row is a word, and
                `posteriors` says that logits are log-probabilities (of a CRF).
            progress: how far the training is, 0 to 1.
        """

    def weighted(self, student: Fields, teacher: Fields, batch: Fields, progress: float) -> Tensor:
        """The term times its weight at `progress`."""
        return at(self.weight, progress) * self(student, teacher, batch, progress)

    @staticmethod
    def task_of(batch: Fields, student: Fields) -> Task:
        """The batch's task; classification where it says nothing."""
        task = batch.get("task")
        return task if task is not None else Task("classification", tuple(map(str, range(student["logits"].shape[-1]))))
