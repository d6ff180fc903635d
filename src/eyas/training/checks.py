"""What is refused before a training step: losses, teacher and student that do not fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from eyas.data.tokenization import marks_both_ends
from eyas.errors import ModelError
from eyas.losses import Loss
from eyas.models import EnsembleForSequenceClassification, is_student
from eyas.models.inside import ATTRIBUTIONS, LAYER_FIELDS
from eyas.settings import TRANSFORMERS, StudentSettings, is_folder
from eyas.tasks import Task
from eyas.teachers import Teacher
from eyas.teachers.aligned import Teaches
from eyas.training.recipes.base import Stage
from eyas.training.students import planned_config


@dataclass(frozen=True)
class StudentKind:
    """What of a student decides which losses can teach it.

    Args:
        name: what it is called in messages.
        layers: whether it has layers like the teacher's.
        members: whether it is an ensemble.
        pair: whether it reads pairs of texts.
    """

    name: str
    layers: bool
    members: bool
    pair: bool

    @classmethod
    def planned(cls, settings: StudentSettings, pair: bool) -> Self:
        """Of a student that is not made yet."""
        name = settings.architecture
        return cls(name, name in TRANSFORMERS, settings.is_ensemble, pair)

    @classmethod
    def of(cls, model: PreTrainedModel) -> Self:
        members = isinstance(model, EnsembleForSequenceClassification)
        return cls(type(model).__name__, not is_student(model), members, bool(getattr(model.config, "pair", False)))


def check_losses(losses: Sequence[Loss], kind: StudentKind, task: Task | None = None) -> None:
    """Raises ModelError where one of `losses` is not for such a student, or not for `task`."""
    for loss in losses:
        if task is not None:
            loss.check(task)
        if "member_logits" in loss.student_fields and not kind.members:
            raise ModelError(
                f"{type(loss).__name__} is between the members of an ensemble, but this is one {kind.name}. Choose "
                "--student ensemble:cnn,bilstm,cnn-lstm, or leave the options mutual and diversity out."
            )
        if kind.layers:
            continue
        if loss.student_fields & LAYER_FIELDS:
            raise ModelError(
                f"{type(loss).__name__} looks at the teacher's layers, and {kind.name} has none like them. Choose a "
                "transformer, such as --student bert-tiny, or a recipe that reads logits."
            )
        if loss.reads_layers and kind.pair:
            raise ModelError(
                f"{type(loss).__name__} compares student and teacher token by token, and {kind.name} reads the two "
                "texts of a pair apart. Choose a transformer, or another recipe."
            )


def check_recipe(
    name: str,
    stages: Sequence[Stage],
    settings: StudentSettings,
    task: Task | None = None,
    pair: bool = False,
    teacher: Teacher | None = None,
) -> None:
    """Refuse a recipe that can't teach such a student, before any text is labeled.

    Args:
        name: of the recipe.
        task, teacher: as far as they are known; what depends on others is not checked.
        pair: whether texts come in pairs.

    Raises:
        ModelError: a loss is not for the task or the student, a transformer's sizes do not fit the teacher's, the
            student reads other tokens than the teacher, or keeps a head that was never the teacher's.
    """
    losses = [loss for stage in stages for loss in stage.losses]
    kind = StudentKind.planned(settings, pair)
    check_losses(losses, kind, task)
    if not kind.layers:
        if any(stage.is_for_transformers for stage in stages):
            raise ModelError(f"{name} puts the student's layers among the teacher's: choose a transformer.")
        if any(stage.needs_layers for stage in stages):
            _check_same_pieces(name, settings, teacher)
        return
    if teacher is None:
        return
    width = int(getattr(teacher.model.config, "hidden_size", 0))
    start = settings.start(width)
    other_head = is_folder(start) or (start == "random" and settings.is_as_wide(width))  # others say more below
    if any(stage.frozen for stage in stages) and other_head:
        why = f"--init {start}" if settings.init else f"--embeddings {settings.embeddings}"
        raise ModelError(
            f"{name} leaves the student's head as it is, so it must be the teacher's: {why} makes another one. Choose "
            "layers of the teacher, or another recipe."
        )
    if not is_folder(start):
        check_models(losses, planned_config(settings, teacher.model), teacher)


def _check_same_pieces(name: str, settings: StudentSettings, teacher: Teacher | None) -> None:
    """Raises ModelError where one of our own students would read other tokens than the teacher."""
    said = f"{name} compares student and teacher token by token, and {settings.architecture} "
    if not settings.reads_as_teacher:
        raise ModelError(f"{said}would read others: leave --vocab-size, --init and --embeddings FILE out.")
    if teacher is not None and not marks_both_ends(teacher.tokenizer):
        raise ModelError(f"{said}expects marks at both ends of a text, which the teacher's tokenizer does not set.")


def check_fields(needed: frozenset[str], losses: Sequence[Loss], teacher: Teaches | None) -> None:
    """Raises ModelError where the teacher does not give what the losses read."""
    missing = needed - (teacher.fields if teacher is not None else frozenset())
    if not missing:
        return
    asking = sorted({type(loss).__name__ for loss in losses if loss.teacher_fields & missing})
    source = "there is no teacher" if teacher is None else f"a {type(teacher).__name__} gives {sorted(teacher.fields)}"
    raise ModelError(
        f"{', '.join(asking)} needs {', '.join(sorted(missing))} from the teacher, but {source}. "
        "Pass a live Teacher, or leave the loss out."
    )


def prepare_losses(losses: Sequence[Loss], model: PreTrainedModel, teacher: Any, task: Task) -> None:
    """Check `losses` against both models, and let them make what they learn with the student."""
    check_losses(losses, StudentKind.of(model), task)
    check_models(losses, model.config, teacher)
    for loss in losses:
        if loss.reads_layers:
            loss.prepare(model.config, teacher.model.config)


def check_models(losses: Sequence[Loss], student: Any, teacher: Any) -> None:
    """Raises ModelError where losses over layers do not fit the configuration `student` and the teacher's."""
    for loss in losses:
        if loss.reads_layers:
            loss.check_models(student, teacher.model.config)


def drop_special_tokens(outputs: dict[str, Any], student_mask: Tensor) -> dict[str, Any]:
    """A teacher's attributions of what our own students read: every token but each text's last, which marks its end.

    Args:
        student_mask: the student's attention mask; a text that both cut has a token more here.

    Raises:
        ModelError: they do not read the same.
    """
    teacher_mask, found = outputs["attention_mask"], outputs[ATTRIBUTIONS]
    if teacher_mask.shape == student_mask.shape:  # the longest text was cut
        mask, found = F.pad(teacher_mask[:, 1:], (0, 1)), F.pad(found[:, :, :-1], (0, 0, 0, 1))
        check_same_tokens(student_mask[:, :-1], mask[:, :-1])
    else:
        mask, found = teacher_mask[:, 1:], found[:, :, :-1]
        check_same_tokens(student_mask, mask)
    return {**outputs, "attention_mask": mask, ATTRIBUTIONS: found}


def check_same_tokens(student_mask: Tensor, teacher_mask: Tensor) -> None:
    """Raises ModelError where attention masks differ: student and teacher read other tokens."""
    same = student_mask.shape == teacher_mask.shape
    if not same or bool((student_mask.bool() != teacher_mask.to(student_mask.device).bool()).any()):
        raise ModelError(
            f"Student and teacher tokenize this batch differently ({list(student_mask.shape)} vs. "
            f"{list(teacher_mask.shape)}), so token-level losses cannot compare them. Leave vocab_size (--vocab-size) "
            "out, and make the student with create_student from this teacher."
        )


def check_blended_fields(fields: frozenset[str]) -> None:
    """Raises ModelError where a loss reads more than logits of blended texts."""
    others = sorted(fields - {"logits"})
    if others:
        raise ModelError(f"Mixup and smoothing blend logits, but a loss reads {', '.join(others)}. Leave one out.")
