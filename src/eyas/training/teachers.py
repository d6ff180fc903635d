"""The teachers of a distillation, and what those without a model can teach."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset

from eyas.data.splits import fields_of
from eyas.data.task_data import TaskData
from eyas.errors import DataError, ModelError
from eyas.models.loading import task_of_folder
from eyas.runtime.combination import JOINED
from eyas.settings import Columns, DistillSettings
from eyas.teachers import ExportedTeacher, FileTeacher, ZeroShotTeacher
from eyas.teachers.answers import is_answers
from eyas.teachers.combined import RECIPES_OF
from eyas.teachers.domains import open_teacher
from eyas.teachers.exported import is_exported
from eyas.teachers.zero_shot import entails, is_judge

logger = logging.getLogger("eyas")

# Which teachers take an argument.
TAKEN_BY = {
    "encoder": "a file of answers or an exported folder does",
    "confidence": "a file of answers does",
    "zero_shot": "a model of entailment does",
}
# The largest share of training texts that may have no answer.
MOST_MISSING = 0.2


def is_fine_tuned(source: str, zero_shot: bool = False) -> bool:
    """Whether a teacher is a model in torch that answers itself: no file, no exported model, none of entailment.

    Args:
        zero_shot: whether models of entailment are asked for other labels.
    """
    if is_answers(source) or is_exported(source):
        return False
    return not zero_shot or not any(map(entails, task_of_folder(source).labels))


def with_recipe_of(rule: str | None, settings: DistillSettings) -> DistillSettings:
    """The settings with the recipe that a rule of several teachers stands for.

    Raises:
        ModelError: the settings name another recipe.
    """
    if rule == JOINED and settings.recipe in RECIPES_OF.values():
        raise ModelError(
            f"The recipe {settings.recipe} (--recipe) compares teachers of the same labels, which those of joined "
            "(--teachers) are not. Choose another recipe."
        )
    recipe = RECIPES_OF.get(rule or "")
    if recipe is None or settings.recipe == recipe:
        return settings
    if settings.recipe:
        raise ModelError(
            f"teachers (--teachers) {rule} is the recipe {recipe}, but recipe (--recipe) is {settings.recipe}. Leave "
            "one out."
        )
    return replace(settings, recipe=recipe)


def takes(teacher: Any, name: str) -> bool:
    """Whether a teacher takes the argument `name`, a key of `TAKEN_BY`."""
    file, exported = is_answers(teacher), is_exported(teacher)
    named = isinstance(teacher, str | os.PathLike) and not (file or exported)
    return {"encoder": file or exported, "confidence": file, "zero_shot": named}[name]


def check_named(named: Iterable[str], teachers: Sequence[Any]) -> None:
    """Raises DataError for an argument that no teacher takes."""
    for name in named:
        if not any(takes(one, name) for one in teachers):
            raise DataError(f"No teacher takes {name} (--{name.replace('_', '-')}): {TAKEN_BY[name]}. Leave it out.")


def open_teachers(
    given: Any, data: TaskData, columns: Columns | None, length: int, dtype: str | None, named: Mapping[str, Any]
) -> list[Any]:
    """The teachers of folders, Hub names and files of answers; objects stay as they are.

    Args:
        given: one, or a list.
        length: the maximum number of tokens per text.
        named: further arguments: `encoder`, `confidence`, `zero_shot` (labels, or {label: hypothesis}).

    Raises:
        DataError: there are such arguments, but no teacher that takes them.
    """
    listed = given if isinstance(given, list | tuple) else [given]
    check_named(named, listed)
    own = {name: named[name] for name in ("encoder", "confidence") if name in named}
    words = {name: named[name] for name in ("encoder",) if name in named}

    def opened(one: Any) -> Any:
        if is_answers(one):
            if data.task.is_tagging:
                raise DataError(
                    f"{one}: a file of answers cannot teach a tagger (--teacher). Pass a model; or train on the file's "
                    "tags with eyas.finetune (eyas finetune)."
                )
            return FileTeacher(one, data.labels, named_fields(columns, data), max_length=length, **own)
        if is_exported(one):
            return ExportedTeacher(one, max_length=length, **words)
        if not isinstance(one, str | os.PathLike):
            return one
        teacher = open_teacher(os.fspath(one), data["train"], length, dtype)
        asked = "zero_shot" in named and (is_judge(teacher) or len(listed) == 1)
        return ZeroShotTeacher(teacher, named["zero_shot"]) if asked else teacher

    return [opened(one) for one in listed]


def named_fields(columns: Columns | None, data: TaskData) -> Columns | None:
    """The columns, with all fields of the data by name if its rows have fields."""
    return Columns(task="fields", text=",".join(fields_of(data["train"]))) if data.task.reads_fields else columns


def with_answers(
    teachers: Sequence[Any], settings: DistillSettings, data: TaskData, more: Dataset | None
) -> tuple[DistillSettings, TaskData, Dataset | None]:
    """What files of answers can teach: the training texts that they answer and, of a single file, its other texts.

    Returns:
        The settings, the data and the unlabeled texts.

    Raises:
        DataError: texts are to be made or labeled, which a file cannot do, or too many training texts have no answer.
    """
    files = files_of(teachers)
    if not files:
        return settings, data, more
    transfer = settings.transfer
    if transfer.augment or transfer.smoothing or more is not None:
        raise DataError(
            f"{files[0].path} answers its own texts alone, not those of augment (--augment), smoothing (--smoothing) "
            "or unlabeled (--unlabeled). Leave them out; further texts of the file are used by themselves."
        )
    data = TaskData({**data, "train": answered_by(files, data["train"])})
    alone = files[0].unlabeled(data) if len(teachers) == 1 else None
    return replace(settings, transfer=replace(transfer, augment=())), data, alone


def files_of(teachers: Sequence[Any]) -> list[FileTeacher]:
    return [teacher for teacher in teachers if isinstance(teacher, FileTeacher)]


def answered_by(files: Sequence[FileTeacher], train: Dataset) -> Dataset:
    """The training texts that all files answer; logs how many they do not.

    Raises:
        DataError: these are too many.
    """
    for file in files:
        known = file.knows(train)
        missing = int((~known).sum())
        if missing > MOST_MISSING * len(train):
            raise DataError(
                f"{file.path} answers {len(train) - missing:,} of {len(train):,} training texts, expected "
                f"{1 - MOST_MISSING:.0%} or more. Answer the others, or leave them out of the data (--data)."
            )
        if missing:
            logger.warning("%s has no answer for %s training texts: they are left out.", file.path, f"{missing:,}")
        train = train.select(np.flatnonzero(known))
    return train


def examined(teachers: Sequence[Any], data: TaskData) -> TaskData | None:
    """The data to compare teachers on, with the validation texts that files answer; None if they answer none."""
    validation = data["validation"]
    for file in files_of(teachers):
        validation = validation.select(np.flatnonzero(file.knows(validation)))
    return TaskData({**data, "validation": validation}) if len(validation) else None
