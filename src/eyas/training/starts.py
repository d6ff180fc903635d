"""What a student of our own architectures starts from: a family of pretrained students, or another student."""

import copy
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from datasets import Dataset
from torch import Tensor

from eyas.data.datasets import is_pair
from eyas.data.subwords import teacher_rows
from eyas.data.task_data import TaskData
from eyas.data.tokenization import added_tokens, student_names, token_names
from eyas.errors import ModelError
from eyas.general import (
    FEWEST_KNOWN,
    SAMPLE_TEXTS,
    config_of,
    families,
    fingerprint_of_family,
    read_general,
    shares_of_known_words,
    tokenizer_of,
)
from eyas.models import STUDENTS, TAGGERS, FamilyForSequenceClassification
from eyas.models.ensemble import member_config
from eyas.models.loading import load_classifier
from eyas.settings import FIELD_MODELS, GENERAL, TRANSFORMERS, DistillSettings, StudentSettings, is_general
from eyas.tasks import Task
from eyas.training.recipes import make_stages
from eyas.transfer.augmentation import identity

logger = logging.getLogger("eyas")

NO_FAMILIES = "init (--init) is general, but this installation has no general students."
SIZES = ("embedding_size", "hidden_size", "char_embedding_size")


@dataclass(frozen=True)
class Start:
    """A pretrained student, or several.

    Args:
        source: where it is from.
        tokenizer: its Hugging Face tokenizer.
        table: [tokens, size] its word vectors.
        sizes: the part of its configuration that the new student takes.
        encoders: the weights of each member's encoder; of a single student, one.
        token_encoders: if the new student is a family, the weights of each member's encoder of tokens.
        keeps_tokens: whether the new student knows tokens that do not occur in its texts, as they were pretrained.
    """

    source: str
    tokenizer: Any
    table: np.ndarray
    sizes: dict[str, Any]
    encoders: list[dict[str, Tensor]]
    token_encoders: list[dict[str, Tensor]] = field(default_factory=list)
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
        parts = list(model.members) if hasattr(model, "members") else [model]
        for part, weights in zip(parts, self.encoders, strict=True):
            part.encoder.load_state_dict(weights)
        if isinstance(model, FamilyForSequenceClassification) and model.config.tokens:
            for name, weights in zip(model.config.members, self.token_encoders, strict=True):
                model.token_encoder(name).load_state_dict(weights)


def read_start(settings: StudentSettings, dataset: Dataset, task: Task) -> Start:
    """What `settings.init` names, for a student of `task`.

    Raises:
        ModelError: it has no such student, or other sizes.
    """
    source = str(settings.init)
    if source == GENERAL:
        families = _families_by_share(settings, dataset)
        if not families:
            raise ModelError(NO_FAMILIES)
        source = families[0][0]
    model, tokenizer = cast(Any, read_general(source) if is_general(source) else load_classifier(source))
    if isinstance(model, FamilyForSequenceClassification):
        start = _of_family(model, tokenizer, settings.members, task, source)
        found: list[Any] = [member_config(name, model.config) for name in settings.members]
    else:
        _check_student(model, settings.architecture, task, source)
        table = model.embeddings.weight.detach().numpy()
        start = Start(source, tokenizer, table, model.config.to_dict(), [model.encoder.state_dict()])
        found = [model.config]
    for name in SIZES:
        for config in found:
            given, own = getattr(settings, name) or None, getattr(config, name)
            if given not in (None, own):
                raise ModelError(
                    f"{source} has {name} {own}, got {given}. Leave it out: a pretrained student keeps its own."
                )
    return start


def _check_student(model: Any, architecture: str, task: Task, source: str) -> None:
    """Raises ModelError if `model` is not a student of this architecture for `task`."""
    if type(model) is not (TAGGERS if task.is_tagging else STUDENTS).get(architecture):
        wanted = f"{architecture} {'tagger' if task.is_tagging else 'student for texts'}"
        raise ModelError(
            f"{source} is a {type(model).__name__}, expected a {wanted}, or what pretrain-student makes. Choose "
            "the folder's architecture (--student)."
        )
    if model.config.char_embedding_size:
        raise ModelError(f"{source} has character vectors, which belong to its own words: nothing can start from it.")


def _of_family(
    family: FamilyForSequenceClassification, tokenizer: Any, names: list[str], task: Task, source: str
) -> Start:
    """These members as a start."""
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
    of_tokens = [family.token_encoder(name).state_dict() for name in names] if family.config.tokens else []
    of_texts = [family.encoder(name).state_dict() for name in names]
    table = family.embeddings.weight.detach().numpy()
    return Start(source, tokenizer, table, sizes, of_tokens if task.is_tagging else of_texts, of_tokens, True)


def rows_of_tokens(original: Any, tokenizer: Any) -> list[list[int]]:
    """For each student token its ids in the `original` tokenizer; special tokens match by role."""
    tokens, rows = token_names(tokenizer), teacher_rows(tokenizer, original)
    vocabulary = original.get_vocab()
    special = {name: vocabulary[original_name] for original_name, name in student_names(original).items()}
    special[original.mask_token] = original.mask_token_id
    return [[special[token]] if token in special else row for token, row in zip(tokens, rows, strict=True)]


def with_default_start(settings: DistillSettings, data: TaskData, teacher: Any) -> DistillSettings:
    """The settings with `init` resolved, if it is general or not given; logs the choice.

    By default a student starts from the family that knows most of the words, if it knows most words of the texts and
    fits. Of an ensemble with a member twice, both would start alike, so it does not. Nor does a tagger whose teacher
    tells capitals from small letters, if the family does not.

    Args:
        teacher: its tokenizer.

    Raises:
        ModelError: `init` is general, and the package has no general students.
    """
    student, wanted = settings.student, settings.student.init == GENERAL
    stages = make_stages(settings.recipe, settings.recipe_options) if settings.recipe else []
    by_token = any(stage.needs_layers for stage in stages)
    starts = student.architecture not in (*TRANSFORMERS, *FIELD_MODELS)
    taught = not stages or any(stage.needs_teacher for stage in stages)
    if settings.transfer.smoothing and taught:  # of the teacher's subwords
        if wanted:
            raise ModelError(
                "smoothing (--smoothing) needs a student with the teacher's subwords, and init (--init) is general. "
                "Leave one out."
            )
        return settings
    if not starts or not (wanted or (student.init is None and not by_token)):
        return settings
    found = _families_by_share(student, data["train"])
    if wanted and not found:
        raise ModelError(NO_FAMILIES)
    if not wanted:
        found = [(name, share) for name, share in found if share >= FEWEST_KNOWN and _fits(student, name)]
        if data.task.is_tagging:
            found = [(name, share) for name, share in found if _can_tag(name, teacher)]
    if not found:
        return settings
    family, share = found[0]
    logger.info(
        "The student starts from %s, which knows %.0f %% of the words. Turn this off with --init none.",
        family,
        100 * share,
    )
    return replace(settings, student=replace(student, init=family))


def start_identity(init: str | None) -> Any:
    """What changes if the start changes; `general` depends on all general students."""
    if init == GENERAL:
        return [fingerprint_of_family(name) for name in families()]
    return fingerprint_of_family(init) if init is not None and is_general(init) else identity(init or "")


def vectors_identity(embeddings: str) -> dict[str, Any]:
    """What changes if a file of word vectors changes; empty for others."""
    return {"vectors": identity(embeddings)} if Path(embeddings).is_file() else {}


def _families_by_share(student: StudentSettings, dataset: Dataset) -> list[tuple[str, float]]:
    """(family, share of the running words that it knows), the largest share first."""
    sides = ("text", "text_pair") if is_pair(dataset) else ("text",)
    texts = [text for side in sides for text in dataset[side][: SAMPLE_TEXTS // len(sides)]]
    return list(shares_of_known_words(texts, student.max_length).items())


def _fits(student: StudentSettings, family: str) -> bool:
    """Whether nothing else is asked of the student's word vectors and sizes."""
    config, members = config_of(family), student.members
    if not set(members) <= set(config.members) or len(set(members)) < len(members) or student.embeddings != "teacher":
        return False
    own = [member_config(name, config) for name in members]
    return all((getattr(student, size) or None) in (None, getattr(one, size)) for size in SIZES for one in own)


def _can_tag(family: str, teacher: Any) -> bool:
    """Whether it has token states, and tells capitals from small letters if the teacher does."""
    return bool(config_of(family).tokens) and _is_cased(tokenizer_of(family)) >= _is_cased(teacher)


def _is_cased(tokenizer: Any) -> bool:
    upper, lower = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("A", "a"))
    return bool(upper != lower)
