"""The objective of one data set: its task, losses and teacher."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from eyas.data.labels import ordered_names
from eyas.losses import HardLabelLoss, Loss
from eyas.losses.base import terms_of
from eyas.models import is_student
from eyas.models.inside import FROM_CACHE
from eyas.models.tokens import continuation_logits
from eyas.tasks import Task
from eyas.teachers import AlignedTeacher, Teacher, aligned_by_name
from eyas.teachers.aligned import Teaches
from eyas.training.checks import check_fields, check_same_tokens, drop_special_tokens, prepare_losses
from eyas.training.encoded import EncodedTexts
from eyas.training.terms import Term

MASK = "attention_mask"


class Lesson:
    """The objective of one data set.

    Args:
        model: the student.
        losses: the terms; by default hard labels alone.
        teacher: live or cached; optional if no loss reads it.
        length: the student's maximum length in tokens.

    Raises:
        ModelError: a loss needs an output that the student or teacher does not have.
        LabelError: the label names of student and teacher differ, and the teacher is not aligned.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        task: Task,
        losses: Sequence[Loss] | None,
        teacher: Teaches | AlignedTeacher | None,
        length: int,
    ) -> None:
        self.task, self.losses = task, list(losses) if losses is not None else [HardLabelLoss()]
        self.own = is_student(model)
        self.crf = bool(getattr(model.config, "crf", False))
        self.teacher_fields = frozenset[str]().union(*(loss.teacher_fields for loss in self.losses))
        self.student_fields = frozenset[str]().union(*(loss.student_fields for loss in self.losses))
        names = ordered_names(model.config.id2label or {})
        aligned = None if teacher is None else aligned_by_name(teacher, names)
        source = None if aligned is None else aligned.teacher
        check_fields(self.losses, source)
        prepare_losses(self.losses, model, source, task)
        if aligned is not None and isinstance(source, Teacher) and self.teacher_fields - FROM_CACHE:
            aligned = AlignedTeacher(source.reading(length), aligned.order)  # layers are compared token by token
        self.teacher = aligned

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that the teacher reads."""
        return self.teacher.reads if self.teacher is not None and self.teacher_fields else ()

    def to(self, device: torch.device) -> None:
        """Move a live teacher to the student's device."""
        source = None if self.teacher is None else self.teacher.teacher
        if isinstance(source, Teacher):
            cast(nn.Module, source.model).to(device)

    def ask(self, inputs: dict[str, Any], device: torch.device) -> dict[str, Any]:
        """The teacher's outputs for a batch; empty if no loss reads them."""
        if self.teacher is None or not self.teacher_fields:
            return {}
        outputs = self.teacher.outputs(inputs, self.teacher_fields)
        if "attention_mask" in outputs:
            if self.own:
                outputs = drop_special_tokens(outputs, inputs["attention_mask"])
            else:
                check_same_tokens(inputs["attention_mask"], outputs["attention_mask"])
        return {name: _to_device(value, device) for name, value in outputs.items()}

    def comparable(self, encoded: EncodedTexts, size: int) -> np.ndarray:
        """The rows that student and teacher tokenize alike, read in batches of `size`.

        A student has the subwords of the transfer set alone, and may split a word of other texts further.
        """
        rows = np.arange(len(encoded))
        if self.teacher is None or self.own:
            return rows
        kept = []
        for start in range(0, len(rows), size):
            batch = encoded.__getitems__(rows[start : start + size].tolist())
            mask = self.teacher.outputs(batch, self.teacher_fields).get("attention_mask")
            same = np.full(len(batch["labels"]), True) if mask is None else _lengths(mask) == _lengths(batch[MASK])
            kept.append(rows[start : start + size][same])
        return np.concatenate(kept)

    def terms(self, student: Any, teacher: dict[str, Any], batch: dict[str, Any], progress: float) -> list[Term]:
        """The terms that the losses add to the objective."""
        student, teacher, batch = self._fields(student, teacher, batch)
        return [term for loss in self.losses for term in terms_of(loss, student, teacher, batch, progress)]

    def _fields(self, student: Any, teacher: dict[str, Any], batch: dict[str, Any]) -> tuple[Any, Any, Any]:
        """The inputs of the losses. In tagging, a row is a word, not a sentence."""
        if not self.task.is_tagging:
            return student, teacher, batch
        read = batch["words"] >= 0
        sequence = {"sequence_loss": student.get("loss")} if self.crf and (batch["labels"] >= 0).any() else {}
        student = {**student, "logits": student["logits"][read], **sequence}
        if "logits" in teacher:
            counts = batch["word_counts"]
            rows = (counts.cumsum(0) - counts).unsqueeze(1) + batch["words"]
            logits = teacher["logits"][rows[read]]
            inner = batch["inner"][read].unsqueeze(1)
            teacher = {**teacher, "logits": torch.where(inner, continuation_logits(logits, self.task.labels), logits)}
        return student, teacher, {**batch, "labels": batch["labels"][read], "posteriors": self.crf}


def _lengths(mask: Tensor) -> np.ndarray:
    return mask.sum(1).cpu().numpy()


def _to_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, tuple):
        return tuple(_to_device(part, device) for part in value)
    return value.to(device) if isinstance(value, Tensor) else value
