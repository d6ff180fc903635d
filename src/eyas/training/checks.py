"""Checks before training: losses, teacher and student must fit together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from eyas.data.tokenization import marks_both_ends
from eyas.errors import ModelError
from eyas.losses import Loss
from eyas.models import EnsembleForSequenceClassification, FamilyForSequenceClassification, is_student
from eyas.models.inside import ATTRIBUTIONS, DOMAIN_STATES, EACH, LAYER_FIELDS, SCORES
from eyas.settings import LOGITS, MIXED, TRANSFORMERS, StudentSettings, is_folder
from eyas.tasks import Task
from eyas.teachers import Teacher
from eyas.teachers.aligned import Teaches
from eyas.training.recipes.base import Stage, compressed_by
from eyas.training.students import planned_config


@dataclass(frozen=True)
class StudentKind:
    """The properties of a student that decide which losses can teach it.

    Args:
        name: its name in messages.
        layers: whether it has layers like the teacher's.
        members: whether it is an ensemble.
        pair: whether it reads pairs of texts.
        family: whether it encodes texts and words, for others to start from.
        combination: of an ensemble.
    """

    name: str
    layers: bool
    members: bool
    pair: bool
    family: bool = False
    combination: str = LOGITS

    @classmethod
    def planned(cls, settings: StudentSettings, pair: bool) -> Self:
        """For a student that does not exist yet."""
        name = settings.architecture
        return cls(name, name in TRANSFORMERS, settings.is_ensemble, pair, combination=settings.combination)

    @classmethod
    def of(cls, model: PreTrainedModel) -> Self:
        members = isinstance(model, EnsembleForSequenceClassification)
        family = isinstance(model, FamilyForSequenceClassification)
        pair = bool(getattr(model.config, "pair", False))
        combination = getattr(model.config, "combination", LOGITS)
        return cls(type(model).__name__, not is_student(model), members, pair, family, combination)


def check_losses(losses: Sequence[Loss], kind: StudentKind, task: Task | None = None) -> None:
    """Raises ModelError if a loss does not support such a student, or `task`."""
    for loss in losses:
        if task is not None:
            loss.check(task)
        if "token_states" in loss.student_fields and not kind.family:
            raise ModelError(
                f"{type(loss).__name__} teaches the students that pretrain-student makes, but {kind.name} is none of "
                "them. Set states_weight to 0 (--option states_weight=0)."
            )
        if loss.adds_members and kind.combination != LOGITS:
            raise ModelError(
                f"{type(loss).__name__} adds the members' logits up, but combination (--combination) is "
                f"{kind.combination}. Leave it out."
            )
        if "member_logits" in loss.student_fields and not kind.members:
            raise ModelError(
                f"{type(loss).__name__} compares the members of an ensemble, but {kind.name} is a single model. Choose "
                "--student ensemble:cnn,bilstm,cnn-lstm, or leave the options mutual and diversity out."
            )
        if kind.layers:
            continue
        if loss.student_fields & LAYER_FIELDS:
            raise ModelError(
                f"{type(loss).__name__} reads the student's layers, but {kind.name} is not a transformer. Choose one, "
                "such as --student bert-tiny, or a recipe that reads only logits."
            )
        if loss.reads_layers and kind.pair:
            raise ModelError(
                f"{type(loss).__name__} compares student and teacher token by token, but {kind.name} reads the texts "
                "of a pair separately. Choose a transformer, or another recipe."
            )


def check_recipe(
    name: str,
    stages: Sequence[Stage],
    settings: StudentSettings,
    task: Task | None = None,
    pair: bool = False,
    teacher: Teacher | None = None,
) -> None:
    """Reject a recipe that cannot teach such a student, before any text is labeled.

    Args:
        name: the recipe's name.
        task, teacher: optional; checks that need a missing one are skipped.
        pair: whether texts come in pairs.

    Raises:
        ModelError: a loss does not support the task or the student, a transformer's sizes do not fit the teacher's,
            student and teacher tokenize differently, or a frozen head is not the teacher's.
    """
    losses = [loss for stage in stages for loss in stage.losses]
    kind = StudentKind.planned(settings, pair)
    if compressed_by(stages) and not kind.layers:
        raise ModelError(
            f"{name} compresses a transformer of the teacher's sizes, but {kind.name} is not a transformer. Choose "
            "--student bert, or another recipe."
        )
    check_losses(losses, kind, task)
    if not kind.layers:
        if any(stage.is_for_transformers for stage in stages):
            raise ModelError(f"{name} mixes layers of student and teacher: choose a transformer as the student.")
        if any(stage.needs_layers for stage in stages):
            check_same_pieces(name, settings, teacher)
        return
    if settings.embeddings == MIXED and any(stage.needs_layers for stage in stages):
        raise ModelError(
            f"{name} compares student and teacher token by token, but embeddings (--embeddings) mixed gives the "
            "student a vocabulary of its own. Choose a recipe that reads only logits, or leave it out."
        )
    if teacher is None:
        return
    width = int(getattr(teacher.model.config, "hidden_size", 0))
    start = settings.start(width)
    other_head = is_folder(start) or (start == "random" and settings.is_as_wide(width))  # others are checked below
    if any(stage.frozen for stage in stages) and other_head:
        why = f"--init {start}" if settings.init else f"--embeddings {settings.embeddings}"
        raise ModelError(
            f"{name} freezes the student's head, so it must be the teacher's, but {why} makes a new one. Start from "
            "the teacher's layers, or choose another recipe."
        )
    if not is_folder(start):
        check_models(losses, planned_config(settings, teacher.model), teacher)


def check_same_pieces(
    name: str, settings: StudentSettings, teacher: Teacher | None, otherwise: str = "choose another recipe"
) -> None:
    """Raises ModelError if one of our own students would not tokenize as the teacher does."""
    said = f"{name} compares student and teacher token by token, but "
    if not settings.reads_as_teacher:
        raise ModelError(
            f"{said}{settings.architecture} would tokenize differently: leave --vocab-size, --init and "
            f"--embeddings FILE out, or {otherwise}."
        )
    if teacher is not None and not marks_both_ends(teacher.tokenizer):
        raise ModelError(
            f"{said}the teacher's tokenizer does not add special tokens at both ends of a text: {otherwise}."
        )


def check_fields(losses: Sequence[Loss], teacher: Teaches | None) -> None:
    """Raises ModelError if the teacher lacks an output that a loss reads."""
    needed = frozenset[str]().union(*(loss.teacher_fields for loss in losses))
    missing = needed - (teacher.fields if teacher is not None else frozenset())
    if not missing:
        return
    asking = sorted({type(loss).__name__ for loss in losses if loss.teacher_fields & missing})
    if EACH in missing:
        raise ModelError(f"{', '.join(asking)} needs several teachers: pass a list, or --teacher once for each.")
    if missing <= {DOMAIN_STATES, SCORES}:
        raise ModelError(
            f"{', '.join(asking)} needs the folder of a teacher that was fine-tuned on several domains: make one with "
            "domains (--domain NAME=DATA for each), or leave its domains out (--option domain_weight=0)."
        )
    source = "there is no teacher" if teacher is None else f"a {type(teacher).__name__} gives {sorted(teacher.fields)}"
    raise ModelError(
        f"{', '.join(asking)} needs {', '.join(sorted(missing))} from the teacher, but {source}. "
        "Pass a live Teacher, or leave the loss out."
    )


def prepare_losses(losses: Sequence[Loss], model: PreTrainedModel, teacher: Any, task: Task) -> None:
    """Check `losses` against both models, and create the parameters that they learn."""
    check_losses(losses, StudentKind.of(model), task)
    check_models(losses, model.config, teacher)
    for loss in losses:
        if EACH in loss.teacher_fields:
            loss.prepare(model.config, teacher)
        elif loss.reads_layers:
            loss.prepare(model.config, teacher.model.config)


def check_models(losses: Sequence[Loss], student: Any, teacher: Any) -> None:
    """Raises ModelError if a layer loss does not fit the configuration `student` and the teacher's."""
    for loss in losses:
        if loss.reads_layers:
            loss.check_models(student, teacher.model.config)


def drop_special_tokens(outputs: dict[str, Any], student_mask: Tensor) -> dict[str, Any]:
    """Reduce a teacher's outputs of tokens to those of our own students, which read no special token at the end.

    Args:
        student_mask: the student's attention mask; one token longer for a text that both truncated.

    Raises:
        ModelError: student and teacher tokenize differently.
    """
    teacher_mask = outputs["attention_mask"]
    cut = int(teacher_mask.shape == student_mask.shape)  # the longest text
    mask = F.pad(teacher_mask[:, 1:], (0, cut))
    check_same_tokens(*(tokens[:, : tokens.shape[1] - cut] for tokens in (student_mask, mask)))

    def shortened(values: Tensor) -> Tensor:
        return F.pad(values[..., :-1, :], (0, 0, 0, cut))

    found = {name: shortened(outputs[name]) for name in (ATTRIBUTIONS,) if name in outputs}
    layers = {name: tuple(map(shortened, outputs[name])) for name in ("hidden_states",) if name in outputs}
    return {**outputs, **found, **layers, "attention_mask": mask}


def check_same_tokens(student_mask: Tensor, teacher_mask: Tensor) -> None:
    """Raises ModelError if the attention masks differ: student and teacher tokenize differently."""
    same = student_mask.shape == teacher_mask.shape
    if not same or bool((student_mask.bool() != teacher_mask.to(student_mask.device).bool()).any()):
        raise ModelError(
            f"Student and teacher tokenize this batch differently ({list(student_mask.shape)} vs. "
            f"{list(teacher_mask.shape)}), so token-level losses cannot compare them. Leave vocab_size (--vocab-size) "
            "out, and make the student with create_student from this teacher."
        )


def check_blended_fields(fields: frozenset[str]) -> None:
    """Raises ModelError if a loss reads more than logits, which is all that blending supports."""
    others = sorted(fields - {"logits"})
    if others:
        raise ModelError(f"Mixup and smoothing blend only logits, but a loss reads {', '.join(others)}. Leave one out.")
