"""All texts of a training run: the training rows, unlabeled texts, and texts made from the training rows."""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from datasets import Dataset, DatasetDict, concatenate_datasets

from eyas.data.datasets import ids_of, without_labels
from eyas.data.task_data import TaskData
from eyas.encoders import find_encoder
from eyas.errors import DataError
from eyas.settings import DistillSettings, TransferSettings
from eyas.tasks import Task
from eyas.teachers.aligned import AlignedTeacher, AnyTeacher
from eyas.transfer.augmentation import Augmentation, augment, identity
from eyas.transfer.blending import Blend, Mixup, Smoothing, check_blend
from eyas.transfer.selection import Selection, select
from eyas.transfer.unlabeled import most_alike, new_texts

logger = logging.getLogger("eyas")

# Training sets up to this size are augmented by default.
FEW_TEXTS = 10_000
ROWS_PER_BATCH = 100_000
DEFAULT_AUGMENT = ("neighbors:10",)


def check_transfer(settings: TransferSettings, task: Task | None = None, pair: bool = False) -> None:
    """Raise EyasError for invalid settings, before work starts."""
    for text in settings.augment or ():
        Augmentation.parse(text)
    for text in settings.select:
        selection = Selection.parse(text)
        if task is not None:
            selection.check(task)
    if settings.mixup and settings.smoothing:
        raise DataError("mixup (--mixup) and smoothing (--smoothing) both change the student's inputs: choose one.")
    if task is not None and task.reads_fields and (settings.augment or settings.mixup or settings.smoothing):
        raise DataError(
            "Rows of fields are not changed as texts are: leave augment (--augment), mixup (--mixup) and smoothing "
            "(--smoothing) out."
        )
    if task is not None and (settings.mixup or settings.smoothing):
        check_blend(task, pair)


def check_unlabeled(settings: TransferSettings, more_text: bool) -> None:
    """Raise DataError for settings of unlabeled texts where there are none."""
    if settings.max_unlabeled is not None and not more_text:
        raise DataError(
            f"max_unlabeled (--max-unlabeled) is {settings.max_unlabeled}, but there are no unlabeled texts. Add some "
            "with unlabeled (--unlabeled), or leave it out."
        )


def describe_transfer(settings: TransferSettings) -> str:
    """A short description, with models by folder name; empty for the training texts alone."""
    parts = (text.split(":", 2) for text in (*(settings.augment or ()), *settings.select))
    made = [":".join([*part[:2], *(Path(source).name for source in part[2:])]) for part in parts]
    made += [f"mixup {settings.mixup:g}"] if settings.mixup else []
    return ", ".join(made + ["smoothing"] * bool(settings.smoothing))


def sources_of(settings: TransferSettings) -> dict[str, Any]:
    """The models and files in the settings, each with its `identity`."""
    named = [Augmentation.parse(text).source for text in settings.augment or ()]
    named += [Selection.parse(text).student for text in settings.select] + [settings.smoothing]
    return {name: identity(find_encoder(name)) for name in named if name}


def blend_of(settings: TransferSettings, teacher: AlignedTeacher, tokenizer: Any, teaches: bool) -> Blend | None:
    """How the student's batches are blended, if at all.

    Args:
        teaches: whether the teacher is used; labels alone can't be smoothed.
    """
    if settings.smoothing and teaches:
        return Smoothing(settings.smoothing, teacher, tokenizer)
    return Mixup(settings.mixup) if settings.mixup else None


def default_augment(data: TaskData, settings: TransferSettings, more_text: bool) -> tuple[str, ...]:
    """The default augmentation; docs/transfer.md has the figures.

    Neighbors for classification of single texts with few training texts. Nothing with unlabeled texts (`more_text`),
    with texts that are blended, or for tasks and sizes that were not measured.
    """
    if settings.mixup or settings.smoothing:
        return ()
    single = data.task.is_classification and not data.task.reads_fields and not data.is_pair
    few = len(data["train"]) <= FEW_TEXTS and single
    return DEFAULT_AUGMENT if few and not more_text else ()


def with_default_augment(
    settings: DistillSettings, data: TaskData, more_text: bool, taught: bool = True
) -> DistillSettings:
    """The settings, with the default augmentation if `augment` is None; logs the choice.

    Args:
        taught: whether the recipe uses the teacher; without it, new texts would have no labels.
    """
    transfer = settings.transfer
    check_unlabeled(transfer, more_text)
    if transfer.augment is not None:
        return settings
    chosen = default_augment(data, transfer, more_text) if taught else ()
    if chosen:
        logger.info(
            "The student also trains on new texts made from the training texts (--augment %s). Turn this off with "
            "--augment none.",
            " ".join(chosen),
        )
    return replace(settings, transfer=replace(transfer, augment=chosen))


def transfer_set(
    data: TaskData,
    teacher: AnyTeacher,
    unlabeled: Dataset | None = None,
    settings: TransferSettings | None = None,
) -> Dataset:
    """The training rows, new unlabeled texts, and texts made from the training rows, in one schema.

    In addition to the columns of `data`, `method` is the origin of a text ("" = training text), and `source_id` the
    `example_id` of its source text (its own for an unlabeled text).
    """
    settings = settings or TransferSettings()
    train = data["train"]
    parts = []
    if unlabeled is not None:
        new = new_texts(unlabeled, data)
        if settings.max_unlabeled is not None:
            new = most_alike(new, train, settings.max_unlabeled)
        parts.append(_with_origin(without_labels(new, data.task), "unlabeled"))
    parts += [augment(train, text, teacher) for text in settings.augment or ()]
    if not parts:
        return train
    everything = concatenate_datasets([_with_origin(train, ""), *parts])
    dataset = everything.select(_first_of_each(everything, data))
    logger.info("Transfer set: %s.", ", ".join(f"{count:,} {name}" for name, count in counts_of(dataset).items()))
    return dataset


def chosen_texts(dataset: Dataset, data: DatasetDict, labeled: AlignedTeacher, settings: TransferSettings) -> Dataset:
    """The texts of the transfer set that the rules in `settings` keep."""
    for rule in settings.select:
        dataset = select(dataset, data, labeled, Selection.parse(rule))
    return dataset


def counts_of(dataset: Dataset) -> dict[str, int]:
    """The number of texts by origin."""
    if "method" not in dataset.column_names:
        return {"train": len(dataset)}
    counts: Counter[str] = Counter()
    for batch in dataset.select_columns("method").with_format("arrow").iter(ROWS_PER_BATCH):
        counts.update({found["values"]: found["counts"] for found in batch.column("method").value_counts().to_pylist()})
    return {method or "train": count for method, count in sorted(counts.items())}


def _with_origin(dataset: Dataset, method: str) -> Dataset:
    origin = Dataset(pyarrow.table({"source_id": ids_of(dataset), "method": pyarrow.repeat(method, len(dataset))}))
    return concatenate_datasets([dataset, origin], axis=1)


def _first_of_each(dataset: Dataset, data: DatasetDict) -> np.ndarray:
    """Row numbers: all of train, then each other text once, except texts in validation and test."""
    ids, rows = ids_of(dataset), len(data["train"])
    held_out = np.concatenate([ids_of(part) for name, part in data.items() if name != "train"])
    _, first = np.unique(ids, return_index=True)
    keep = np.zeros(len(dataset), dtype=bool)
    keep[first] = True
    keep &= ~np.isin(ids, held_out)
    keep[:rows] = True
    return np.flatnonzero(keep)
