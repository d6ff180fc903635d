"""What a student of our own architectures starts from: a family of pretrained students, or another student."""

import copy
import logging
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from torch import Tensor

from eyas.data.embeddings import teacher_rows
from eyas.data.task_data import TaskData
from eyas.data.tokenization import added_tokens, student_names, token_names
from eyas.errors import ModelError
from eyas.general import FEWEST_KNOWN, SAMPLE_TEXTS, best_family, config_of, read_general
from eyas.models import STUDENTS, TAGGERS, FamilyForSequenceClassification
from eyas.models.ensemble import member_config
from eyas.models.loading import load_classifier
from eyas.settings import GENERAL, TRANSFORMERS, DistillSettings, StudentSettings, is_general
from eyas.tasks import Task
from eyas.training.recipes import make_stages

logger = logging.getLogger("eyas")


@dataclass(frozen=True)
class Start:
    """A pretrained student, or several.

    Args:
        source: where it is from.
        tokenizer: its Hugging Face tokenizer.
        table: [tokens, size] its word vectors.
        sizes: the part of its configuration that the new student takes.
        encoders: the weights of each member's encoder; of a single student, one.
        keeps_tokens: whether the new student knows tokens that do not occur in its texts, as they were pretrained.
    """

    source: str
    tokenizer: Any
    table: np.ndarray
    sizes: dict[str, Any]
    encoders: list[dict[str, Tensor]]
    keeps_tokens: bool = False

    def with_added(self, teacher: Any) -> Any:
        """Its tokenizer with the added tokens of the tokenizer `teacher`."""
        extended = copy.deepcopy(self.tokenizer)
        own = extended.get_vocab()
        extended.add_tokens([token for token in added_tokens(teacher) if token.content not in own])
        return extended

    def vectors(self, tokenizer: Any) -> np.ndarray:
        """[tokens of `tokenizer`, size]: its word vectors, for a new token the mean of those it is spelled with."""
        rows = rows_of_tokens(self.tokenizer, tokenizer)
        return np.stack([self.table[row].mean(0) if row else self.table.mean(0) for row in rows])

    def load(self, model: Any) -> None:
        """Give its encoders to `model`."""
        parts = [model] if len(self.encoders) == 1 else list(model.members)
        for part, weights in zip(parts, self.encoders, strict=True):
            part.encoder.load_state_dict(weights)


def read_start(settings: StudentSettings, task: Task) -> Start:
    """What `settings.init` names, for a student of `task`.

    Raises:
        ModelError: it has no such student, or other sizes.
    """
    source = str(settings.init)
    model, tokenizer = cast(Any, read_general(source) if is_general(source) else load_classifier(source))
    names = settings.members
    if isinstance(model, FamilyForSequenceClassification):
        sizes, encoders = _of_family(model, names, task, source)
        found = [member_config(name, model.config) for name in names]
    else:
        kind = (TAGGERS if task.is_tagging else STUDENTS).get(settings.architecture)
        if type(model) is not kind:
            wanted = f"{settings.architecture} {'tagger' if task.is_tagging else 'student for texts'}"
            raise ModelError(
                f"{source} is a {type(model).__name__}, expected a {wanted}, or what pretrain-student makes. Choose "
                "the folder's architecture (--student)."
            )
        sizes, encoders, found = model.config.to_dict(), [model.encoder.state_dict()], [model.config]
    for name in ("embedding_size", "hidden_size", "char_embedding_size"):
        for config in found:
            given, own = getattr(settings, name) or None, getattr(config, name)
            if given not in (None, own):
                raise ModelError(
                    f"{source} has {name} {own}, got {given}. Leave it out: a pretrained student keeps its own."
                )
    keeps = isinstance(model, FamilyForSequenceClassification)
    return Start(source, tokenizer, model.embeddings.weight.detach().numpy(), sizes, encoders, keeps)


def _of_family(
    family: FamilyForSequenceClassification, names: list[str], task: Task, source: str
) -> tuple[dict[str, Any], list[dict[str, Tensor]]]:
    """The sizes and encoders of these members."""
    members = list(family.config.members)
    missing = [name for name in names if name not in members]
    if missing:
        raise ModelError(
            f"{source} has no {missing[0]}, only {', '.join(members)}. Choose one of these (--student), or pretrain it."
        )
    if task.is_tagging and not family.config.tokens:
        raise ModelError(
            f"{source} was pretrained without token states (states_weight=0), so taggers cannot start from it. "
            "Pretrain with states_weight above 0."
        )
    sizes: dict[str, Any] = {"embedding_size": family.config.embedding_size}
    if family.config.hidden_size:
        sizes["hidden_size"] = family.config.hidden_size
    encoders: list[Any] = [family.token_encoder(name) if task.is_tagging else family.encoder(name) for name in names]
    return sizes, [encoder.state_dict() for encoder in encoders]


def rows_of_tokens(original: Any, tokenizer: Any) -> list[list[int]]:
    """For each student token its ids in the `original` tokenizer; special tokens match by role."""
    tokens = token_names(tokenizer)
    rows = teacher_rows(tokens, original)
    vocabulary = original.get_vocab()
    special = {name: vocabulary[original_name] for original_name, name in student_names(original).items()}
    special[original.mask_token] = original.mask_token_id
    return [[special[token]] if token in special else row for token, row in zip(tokens, rows, strict=True)]


def with_default_start(settings: DistillSettings, data: TaskData) -> DistillSettings:
    """The settings with `init` resolved, if it is general or not given; logs the choice.

    Raises:
        ModelError: `init` is general, and the package has no general students.
    """
    student, wanted = settings.student, settings.student.init == GENERAL
    stages = make_stages(settings.recipe, settings.recipe_options) if settings.recipe else []
    by_token = any(stage.needs_layers for stage in stages)
    if student.architecture in TRANSFORMERS or not (wanted or (student.init is None and not by_token)):
        return settings
    train = data["train"]
    texts = [*train["text"][:SAMPLE_TEXTS], *(train["text_pair"][:SAMPLE_TEXTS] if data.is_pair else ())]
    family, share = best_family(texts, student.max_length)
    if wanted and not family:
        raise ModelError("init (--init) is general, but this installation has no general students.")
    if not wanted and (share < FEWEST_KNOWN or not _fits(student, family)):
        return settings
    logger.info(
        "The student starts from %s, which knows %.0f %% of the words. Turn this off with --init none.",
        family,
        100 * share,
    )
    return replace(settings, student=replace(student, init=family))


def _fits(student: StudentSettings, family: str) -> bool:
    """Whether nothing else is asked of the student's words and sizes."""
    config = config_of(family)
    sizes = [("embedding_size", config.embedding_size), ("hidden_size", config.hidden_size), ("char_embedding_size", 0)]
    free = all(getattr(student, name) in (None, own) for name, own in sizes)
    return free and student.embeddings == "teacher" and set(student.members) <= set(config.members)
