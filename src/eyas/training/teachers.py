"""The teachers of a distillation, and what those without a model can teach."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset

from eyas.data.task_data import TaskData
from eyas.errors import DataError
from eyas.settings import Columns, DistillSettings
from eyas.teachers import FileTeacher, Teacher
from eyas.teachers.answers import is_answers


def open_teachers(
    given: Any, data: TaskData, columns: Columns | None, length: int, dtype: str | None, named: Mapping[str, Any]
) -> list[Any]:
    """The teachers of folders, Hub names and files of answers; objects stay as they are.

    Args:
        given: one, or a list.
        length: the maximum number of tokens per text.
        named: further arguments of `FileTeacher`.
    """

    def opened(one: Any) -> Any:
        if is_answers(one):
            return FileTeacher(one, data.labels, columns, max_length=length, **named)
        return Teacher(os.fspath(one), max_length=length, dtype=dtype) if isinstance(one, str | os.PathLike) else one

    return [opened(one) for one in (given if isinstance(given, list | tuple) else [given])]


def with_answers(
    teachers: Sequence[Any], settings: DistillSettings, data: TaskData, more: Dataset | None
) -> tuple[DistillSettings, TaskData, Dataset | None, TaskData]:
    """What files of answers can teach: the training texts that they answer and, of a single file, its other texts.

    Returns:
        The settings, the data, the unlabeled texts, and the data with answered validation texts alone.

    Raises:
        DataError: texts are to be made or labeled, which a file cannot do.
    """
    files = [teacher for teacher in teachers if isinstance(teacher, FileTeacher)]
    if not files:
        return settings, data, more, data
    transfer = settings.transfer
    if transfer.augment or transfer.smoothing or more is not None:
        raise DataError(
            f"{files[0].path} answers its own texts alone, not those of augment (--augment), smoothing (--smoothing) "
            "or unlabeled (--unlabeled). Leave them out; further texts of the file are used by themselves."
        )
    examined = data
    for teacher in files:
        examined = teacher.answered(examined)
    data = TaskData({**data, "train": examined["train"]})
    alone = files[0].unlabeled(data) if len(teachers) == 1 else None
    return replace(settings, transfer=replace(transfer, augment=())), data, alone, examined
