"""The parts of an exam's plan: a data set with its teacher, a student; and which recipe fits which."""

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from eyas.data.damage import Damage
from eyas.errors import DataError, ModelError
from eyas.generation.run import check_settings
from eyas.kinds import GENERATION, KINDS
from eyas.settings import (
    LOGITS,
    VECTORS,
    WRITERS,
    Columns,
    DistillSettings,
    StudentSettings,
    TransferSettings,
    is_general,
)
from eyas.tasks import Task
from eyas.teachers.combined import parse_rule
from eyas.training.checks import check_recipe
from eyas.training.domains import check_names
from eyas.training.recipes import make_stages, parse_recipe
from eyas.training.several_tasks import check_settings as check_together
from eyas.training.student_checks import check_init, check_student_settings
from eyas.transfer import check_transfer, describe_transfer

Part = TypeVar("Part", Columns, Damage, StudentSettings, TransferSettings)
NONE = "none"


def as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def known_rule(value: str) -> str:
    try:
        parse_rule(value or "mean")
    except ModelError as error:
        raise ValueError(str(error).rstrip(".")) from None
    return value


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class DataPlan(Columns, TransferSettings, Damage):
    """A data set and its teacher, with the columns to read, the texts to add and the damage to the training labels.

    Attributes:
        source: as for `load_data`.
        name: its name on the page; by default the last part of `source`.
        teacher: as for `distill`, by path or name; or several that answer together; by default the plan's.
        teachers: how several are combined, as for `distill`; by default the plan's.
        confidence: as for `distill`.
        zero_shot: as for `distill`.
        domains: the data of several domains, {name: source}, on which the exam fine-tunes the teacher, an encoder,
            first, as for `distill`.
        unlabeled: more texts for the teacher to label, as for `load_unlabeled`.
        label_map: {teacher's label name: data's}, if they cannot be matched automatically.
        encoder: the pretrained encoder that the teacher was made from: a linear model on its sentence vectors becomes a
            baseline. By default the one that `finetune` recorded, if it is on this machine; "none" for no baseline.
            Students of a teacher without a model take their words from it.
        max_length: tokens of a text that the teacher reads; by default 256, or as many as the student that reads most.
    """

    source: str
    name: str = ""
    teacher: tuple[str, ...] = ()
    teachers: str = ""
    unlabeled: tuple[str, ...] = ()
    label_map: dict[str, str] | None = None
    encoder: str | None = None
    confidence: float | None = None
    zero_shot: tuple[str, ...] | dict[str, str] | None = None
    domains: dict[str, str] | None = None
    max_length: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str | None) -> str | None:
        if value not in (None, *KINDS, GENERATION):
            raise ValueError(f"expected one of {', '.join([*KINDS, GENERATION])}, got {value!r}")
        return value

    @field_validator("unlabeled", "augment", "select", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return () if value == NONE else as_tuple(value)

    _teachers_as_tuple = field_validator("teacher", mode="before")(as_tuple)
    _known_rule = field_validator("teachers")(known_rule)

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
            check_transfer(self.transfer)
            _ = self.damage  # refuses what cannot be
            if self.domains is not None:
                check_names(self.domains)
        except (DataError, ModelError) as error:
            raise ValueError(str(error).rstrip(".")) from None
        if not self.name:
            object.__setattr__(self, "name", Path(self.source).stem)

    @property
    def columns(self) -> Columns:
        return part_of(self, Columns)

    @property
    def writes(self) -> bool:
        """Whether its students write."""
        return self.task == GENERATION

    @property
    def damage(self) -> Damage:
        return part_of(self, Damage)

    @property
    def transfer(self) -> TransferSettings:
        return part_of(self, TransferSettings)

    def texts(self, taught: bool = True) -> str:
        """A short description of a student's texts beyond the training texts; empty for none.

        Args:
            taught: whether its recipe uses the teacher; only the teacher can label more texts.
        """
        if not taught:
            return describe_transfer(TransferSettings(mixup=self.mixup))
        more = f"unlabeled {', '.join(Path(source).name for source in self.unlabeled)}" if self.unlabeled else ""
        return ", ".join(filter(None, [more, describe_transfer(self.transfer)]))


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class StudentPlan(StudentSettings):
    """An architecture and its sizes, with a name for the page."""

    name: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"architecture": value} if isinstance(value, str) else value

    @field_validator("init")
    @classmethod
    def _there(cls, value: str | None) -> str | None:
        if value and value.startswith(("/", "./", "../", "~")) and not os.path.isdir(os.path.expanduser(value)):
            raise ValueError(f"expected an existing folder, got {value}")
        return value

    @field_validator("embeddings")
    @classmethod
    def _of_the_plan(cls, value: str) -> str:
        if value != VECTORS[0]:
            raise ValueError(f"all students take their word vectors from the plan: set its embeddings to [{value}]")
        return value

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
            settings = part_of(self, StudentSettings)
            if self.architecture not in WRITERS:
                check_student_settings(settings)
            if is_general(self.init) or os.path.isdir(str(self.init)):  # a name on the Hub is checked in its trial
                check_init(settings)
        except ModelError as error:
            raise ValueError(str(error).rstrip(".")) from None
        if not self.name:
            object.__setattr__(self, "name", "-".join([self.architecture, *self._marks()]))

    def _marks(self) -> list[str]:
        """Short marks for the settings that differ from the architecture's defaults."""
        sizes = [("e", self.embedding_size), ("h", self.hidden_size), ("v", self.vocab_size), ("l", self.layers)]
        sizes += [("d", self.decoder_layers), ("a", self.heads), ("f", self.feed_forward)]
        marks = [f"{letter}{size}" for letter, size in sizes if size] + ["frozen"] * self.freeze_embeddings
        marks += [Path(self.init).name] if self.init else []
        marks += [self.combination] if self.combination != LOGITS else []
        marks += self.compress
        return marks + [f"c{self.char_embedding_size}"] * bool(self.char_embedding_size) + ["crf"] * self.crf

    def settings(self, embeddings: str) -> StudentSettings:
        """The settings, with word vectors from `embeddings`."""
        return replace(part_of(self, StudentSettings), embeddings=embeddings)


def part_of(plan: Any, kind: type[Part]) -> Part:
    """Extract the settings `kind` from a plan that has their fields."""
    return kind(**{field.name: getattr(plan, field.name) for field in fields(kind)})


def refusal(
    student: StudentPlan, recipe: str, embeddings: str = "teacher", pair: bool = False, task: Task | None = None
) -> str:
    """Why the recipe cannot teach the student; empty if it can.

    Some recipes need a transformer's layers, some the teacher's tokens, some an ensemble's members.

    Args:
        embeddings: source of the student's word vectors.
        pair: whether the texts are pairs.
        task: of the data; by default, what depends on it is not checked.
    """
    name, options = parse_recipe(recipe)
    settings = student.settings(embeddings)
    try:
        if settings.architecture in WRITERS:
            check_settings(DistillSettings(settings, name, options))
        else:
            check_student_settings(settings, task)
            check_recipe(name, make_stages(name, options), settings, task, pair)
    except ModelError as error:
        return str(error)
    return ""


def together_name(student: StudentPlan) -> str:
    """On the page, of the student that is trained on all data sets."""
    return f"{student.name} together"


def refusal_together(student: StudentPlan, recipe: str, embeddings: str, entry: DataPlan) -> str:
    """Why the student cannot learn this data set together with others, by the recipe; empty if it can."""
    name, options = parse_recipe(recipe) if recipe else ("", {})
    settings = DistillSettings(student.settings(embeddings), name, options, transfer=entry.transfer)
    try:
        check_together(settings)
    except ModelError as error:
        return str(error)
    return ""
