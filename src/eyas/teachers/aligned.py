"""Teachers with outputs in the order of the data's labels."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from datasets import Dataset

from eyas.data.datasets import ids_of, labels_of
from eyas.data.labels import check_task, match_by_name, match_labels
from eyas.data.task_data import TaskData
from eyas.errors import LabelError
from eyas.models.inside import EACH
from eyas.teachers.cached import CachedTeacher, label_texts
from eyas.teachers.live import Teacher

logger = logging.getLogger("eyas")

# Fields whose second dimension is the label.
PER_LABEL = frozenset({"logits", EACH, "attributions"})


class Teaches(Protocol):
    """The interface of live and cached teachers."""

    fields: ClassVar[frozenset[str]]
    reads: ClassVar[tuple[str, ...]]
    label_names: list[str]

    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = ...) -> dict[str, Any]: ...


class AlignedTeacher:
    """A live or cached teacher whose outputs come in the order of the data's labels.

    Args:
        order: for each label of the data, the index of the teacher's output.
    """

    def __init__(self, teacher: Any, order: Sequence[int]) -> None:
        self.teacher, self.order = teacher, list(order)
        self.fields: frozenset[str] = teacher.fields
        self.reads: tuple[str, ...] = teacher.reads

    @property
    def label_names(self) -> list[str]:
        """The teacher's own names, in the order of the data's labels."""
        return [self.teacher.label_names[index] for index in self.order]

    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = ("logits",)) -> dict[str, Any]:
        """The teacher's outputs, with labels in the order of the data."""
        found: dict[str, Any] = self.teacher.outputs(batch, fields)
        return {name: value[:, self.order] if name in PER_LABEL else value for name, value in found.items()}

    def label(self, dataset: Dataset, cache: str | Path | None = None) -> "AlignedTeacher":
        """Cache the teacher's logits for `dataset` on disk; see `label_texts`."""
        return AlignedTeacher(label_texts(self.teacher, dataset, cache), self.order)

    def logits_of(self, dataset: Dataset) -> np.ndarray:
        """Logits [rows, labels] float32 from the cache; a live teacher labels the texts first."""
        is_cached = isinstance(self.teacher, CachedTeacher) or getattr(self.teacher, "is_cached", False)
        cached = self.teacher if is_cached else label_texts(self.teacher, dataset)
        logits: np.ndarray = cached.logits(ids_of(dataset)).numpy()[:, self.order]
        return logits


AnyTeacher = Teacher | AlignedTeacher


def live(teacher: AnyTeacher) -> Teacher:
    """The teacher without the alignment."""
    return teacher.teacher if isinstance(teacher, AlignedTeacher) else teacher


def align(teacher: AnyTeacher, data: TaskData, label_map: Mapping[str, str] | None = None) -> AlignedTeacher:
    """Align the teacher's labels with those of `data`, by name or by its predictions on validation.

    Args:
        data: must include the labels that only the teacher has (`TaskData.with_labels_of`).
        label_map: {teacher's label name: data's label name}, if they cannot be matched automatically.

    Raises:
        LabelError: the tasks differ, or the labels do not match.
    """
    if isinstance(teacher, AlignedTeacher):
        return teacher
    validation = data["validation"]
    check_task(data.task, teacher.task, "teacher")

    def evidence() -> tuple[np.ndarray, np.ndarray]:
        return label_texts(teacher, validation).logits(ids_of(validation)).numpy(), labels_of(validation)

    aligned = AlignedTeacher(teacher, match_labels(data.labels, teacher, evidence, label_map, "teacher"))
    if aligned.label_names != data.labels:
        pairs = zip(data.labels[:10], aligned.label_names, strict=False)
        logger.info("Labels, data = teacher: %s.", ", ".join(f"{own} = {other}" for own, other in pairs))
    return aligned


def aligned_by_name(teacher: Teaches | AlignedTeacher, names: Sequence[str]) -> AlignedTeacher:
    """Align `teacher` with `names`; an aligned teacher is returned as it is.

    Raises:
        LabelError: the teacher's labels have other names.
    """
    if isinstance(teacher, AlignedTeacher):
        return teacher
    order = match_by_name(names, teacher.label_names)
    if order is None:
        raise LabelError(
            f"The student's labels are {list(names)}, the teacher's {teacher.label_names}. Pass the teacher's "
            "names to create_student (label_names), or set their order with AlignedTeacher(teacher, order)."
        )
    return AlignedTeacher(teacher, order)
