"""What is refused before a training step: losses, teacher and student that do not fit."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from eyas.errors import ModelError
from eyas.losses import Loss
from eyas.models import EnsembleForSequenceClassification, is_student
from eyas.models.inside import ATTRIBUTIONS, LAYER_FIELDS
from eyas.tasks import Task
from eyas.teachers.aligned import Teaches

# The name under which the student carries, while it learns, what its losses learn with it.
PROJECTIONS_OF_LOSSES = "projections_of_losses"


def check_fields(needed: frozenset[str], losses: Sequence[Loss], teacher: Teaches | None) -> None:
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
    """Let losses look at both models; what they learn with the student goes through its optimiser and checkpoints."""
    over_layers = _over_layers(losses)
    for loss in losses:
        loss.check(task)
    if is_student(model) and any(loss.student_fields & LAYER_FIELDS for loss in losses):
        raise ModelError(
            f"{type(model).__name__} has no layers like the teacher's. Choose a transformer, such as --student "
            "bert-tiny, or a recipe that reads logits."
        )
    if over_layers and getattr(model.config, "pair", False):
        raise ModelError(f"{type(model).__name__} reads the texts of a pair apart: its tokens can't be compared.")
    prepare_for(model.config, over_layers, teacher)
    learned = [module for loss in losses for module in loss.learned]
    if learned:
        model.add_module(PROJECTIONS_OF_LOSSES, nn.ModuleList(learned))


def prepare_for(student: Any, losses: Sequence[Loss], teacher: Any) -> None:
    """Let losses look at the configurations of `student` and `teacher`, and mappings at the numbers of layers.

    Raises:
        ModelError: they do not fit.
    """
    for loss in _over_layers(losses):
        loss.prepare(student, teacher.model.config)
        for mapping in loss.mappings:
            if hasattr(mapping, "prepare"):
                mapping.prepare(student.num_hidden_layers, teacher.model.config.num_hidden_layers)


def _over_layers(losses: Sequence[Loss]) -> list[Loss]:
    return [loss for loss in losses if loss.teacher_fields - {"logits"}]


def check_members(losses: Sequence[Loss], model: PreTrainedModel) -> None:
    between = [type(loss).__name__ for loss in losses if "member_logits" in loss.student_fields]
    if between and not isinstance(model, EnsembleForSequenceClassification):
        raise ModelError(
            f"{between[0]} is between the members of an ensemble, but this is one {type(model).__name__}. Choose "
            "--student ensemble:cnn,bilstm,cnn-lstm, or leave the options mutual and diversity out."
        )


def without_ends(outputs: dict[str, Any], ours: Tensor) -> dict[str, Any]:
    """A teacher's attributions of what our own students read: every token but each text's last, which marks its end.

    Args:
        ours: the student's attention mask; a text that both cut has a token more here.

    Raises:
        ModelError: they do not read the same.
    """
    theirs, found = outputs["attention_mask"], outputs[ATTRIBUTIONS]
    if theirs.shape == ours.shape:  # the longest text was cut
        mask, found = F.pad(theirs[:, 1:], (0, 1)), F.pad(found[:, :, :-1], (0, 0, 0, 1))
        check_same_tokens(ours[:, :-1], mask[:, :-1])
    else:
        mask, found = theirs[:, 1:], found[:, :, :-1]
        check_same_tokens(ours, mask)
    return {**outputs, "attention_mask": mask, ATTRIBUTIONS: found}


def check_same_tokens(ours: Tensor, theirs: Tensor) -> None:
    if ours.shape != theirs.shape or bool((ours.bool() != theirs.to(ours.device).bool()).any()):
        raise ModelError(
            f"Student and teacher read a batch as {list(ours.shape)} and {list(theirs.shape)} tokens that do not lie "
            "on each other, so what they make of them can't be compared. Leave --vocab-size out, and make the student "
            "with create_student from this teacher."
        )


def check_blended_fields(fields: frozenset[str]) -> None:
    others = sorted(fields - {"logits"})
    if others:
        raise ModelError(f"Mixup and smoothing blend logits, but a loss reads {', '.join(others)}. Leave one out.")
