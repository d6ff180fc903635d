"""Any source -> one schema: `example_id`, `text`, `text_pair` (pairs), `tokens` (tagging), `label` (see targets.py)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import pandas
from datasets import Dataset, DatasetDict, concatenate_datasets

from eyas.data.columns import is_conll
from eyas.data.opening import Source, name_of, open_splits, open_unlabeled
from eyas.data.rows import UNLABELED, example_id, read_table
from eyas.data.sources import LoadedRows, Rows
from eyas.data.splits import (
    data_fingerprint,
    ids_of,
    is_labeled,
    is_pair,
    is_read,
    labels_of,
    texts_of,
    without_labels,
    word_counts_of,
)
from eyas.data.targets import encode_labels, find_task, has_bioes, report_broken_tags, task_of
from eyas.data.task_data import TaskData
from eyas.errors import DataError
from eyas.settings import Columns

logger = logging.getLogger("eyas")


def load_data(source: Source, columns: Columns | None = None, seed: int = 0) -> TaskData:
    """Load labeled data as `train`, `validation` and, where there is one, `test`.

    Args:
        source: one of
            - a folder with train/validation/test files (CSV, TSV, JSONL, Parquet, CoNLL, gzipped or not), or one such
              file;
            - a data set on the Hub, its configuration behind a colon: `glue:sst2`;
            - a `Dataset`, a pandas frame, a dict of columns, a tuple `(texts, labels)`; texts that are lists of words
              have lists of tags;
            - a `DatasetDict`, or a dict with one of these tables, or a file, for each split.
            A single file or table is split 80/10/10 with `seed`. A test split may lack the column of labels.
            Splits that were loaded before are taken as they are.
        columns: the columns to read and the task, where they are not to be found by convention.

    Returns:
        Splits with `example_id` (int64, a hash of the text: the same text has the same id everywhere), `text`,
        `text_pair` (only for pairs), `tokens` (only for tagging) and `label`, whose feature tells the task.

    Raises:
        DataError: naming the file, the line, the column; LabelError for labels that do not fit.
    """
    columns, name = columns or Columns(), name_of(source, "data")
    opened = open_splits(source, columns)
    read = {split: rows.dataset for split, rows in opened.items() if isinstance(rows, LoadedRows)}
    if columns == Columns() and read.keys() == opened.keys() and all(map(is_read, read.values())):
        return TaskData.of(_with_validation(read, seed, name))
    data = TaskData.of(_with_validation(_read(opened, columns, name), seed, name))
    _report(data)
    return data


as_task_data = load_data


def load_unlabeled(
    sources: Source | pandas.Series | Sequence[Source | pandas.Series],
    columns: Columns | None = None,
    tagging: bool = False,
) -> Dataset:
    """Load texts without labels.

    Args:
        sources: one, or a list of
            - files (one text a line, CSV, TSV, JSONL, Parquet, CoNLL), folders of them, patterns such as
              `reviews/*.txt`, or names of data sets on the Hub (their training split);
            - tables as for `load_data` (of several splits, the training split), or a pandas series of texts.
            A string is always a path, a pattern or a Hub name; pass texts as `{"text": [...]}`.
        tagging: give each text as `tokens` too; what is not split into words there is split here.

    Returns:
        `example_id`, `text` and, for pairs, `text_pair`; converted files are kept and memory-mapped.

    Raises:
        DataError: nothing there, an empty file, or one that is no text; naming the line.
    """
    columns = replace(columns or Columns(), task="tagging" if tagging else "classification", label=None)
    listed = sources if isinstance(sources, list | tuple) else [sources]
    parts: list[Dataset] = []
    for rows in chain.from_iterable(open_unlabeled(source, columns) for source in listed):
        # lines have no columns to name
        lines = Columns(task=columns.task) if rows.columns == ["text"] else columns
        table, _ = read_table(rows, lines, rows.name, labeled=False)
        parts.append(table.remove_columns("label"))
        if parts[0].column_names != parts[-1].column_names:
            raise DataError(f"{rows.name} has {parts[-1].column_names[1:]}, other files {parts[0].column_names[1:]}.")
    if not any(map(len, parts)):
        raise DataError("There are no unlabeled texts (--unlabeled), expected at least one.")
    return concatenate_datasets(parts)


def label_names(data: DatasetDict) -> list[str]:
    """As `TaskData.labels`."""
    return TaskData(data).labels


def check_validation(data: DatasetDict) -> None:
    """As `TaskData.check_validation`."""
    TaskData(data).check_validation()


def _read(opened: Mapping[str, Rows], columns: Columns, name: str) -> dict[str, Dataset]:
    """Every split in the schema of the training split, labels as numbers."""
    if columns.label is None:
        _check_widths(opened)
    train, resolved = read_table(opened["train"], columns, name)
    if not len(train):
        raise DataError(f"{name}: the training split has no rows.")
    labels = ",".join(resolved.labels)
    same = replace(columns, text=resolved.text, text_pair=resolved.text_pair, label=labels, task=resolved.task)
    raw = {"train": train}
    for split, rows in opened.items():
        if split != "train":
            labeled = split != "test" or not set(resolved.labels).isdisjoint(rows.columns)
            wanted = same if labeled else replace(same, label=None)
            raw[split], _ = read_table(rows, wanted, f"{name}, {split}", labeled)
    task = find_task(resolved.task, raw, name)
    if not task.is_classification:
        logger.info("%s: %s.", name, task.describe())
    bioes = has_bioes(train, task)
    return {split: encode_labels(table, task, f"{name}, {split}", bioes) for split, table in raw.items()}


def _check_widths(opened: Mapping[str, Rows]) -> None:
    """Raises DataError where CoNLL files of a data set have different columns: their last is taken for the tags."""
    train = opened["train"]
    for rows in opened.values():
        if is_conll(train.columns) and is_conll(rows.columns) and len(rows.columns) != len(train.columns):
            raise DataError(
                f"{rows.name} has {len(rows.columns)} columns, {train.name} {len(train.columns)}, so the last is not "
                "the same everywhere. Name the column of tags with Columns(label=...) or --label."
            )


# --- splits ----------------------------------------------------------------------------------------------


def _with_validation(splits: dict[str, Dataset], seed: int, source: str) -> dict[str, Dataset]:
    """Take the missing validation (and, for a single file, test) rows from train, whole texts at a time."""
    if "validation" in splits:
        return splits
    train = splits["train"]
    parts = {"validation": 0.1} if "test" in splits else {"validation": 0.1, "test": 0.1}
    unique = np.unique(ids_of(train))
    shuffled = np.random.default_rng(seed).permutation(unique)
    taken: dict[str, Dataset] = {}
    start = 0
    for name, share in parts.items():
        end = start + max(1, round(share * len(unique)))
        taken[name] = train.select(np.flatnonzero(np.isin(ids_of(train), shuffled[start:end])))
        start = end
    rest = train.select(np.flatnonzero(np.isin(ids_of(train), shuffled[start:])))
    if not len(rest):
        raise DataError(f"{source}: {len(train)} rows are too few to split into train and {' and '.join(parts)}.")
    sizes = ", ".join(f"{name} {len(part):,}" for name, part in {"train": rest, **taken}.items())
    logger.info("%s has no validation split: split train with seed %d into %s rows.", source, seed, sizes)
    return {"train": rest, **taken, **{k: v for k, v in splits.items() if k != "train"}}


def _report(data: TaskData) -> None:
    """Say what is wrong with the data but can be lived with."""
    task, train_ids = data.task, ids_of(data["train"])
    for name in ("validation", "test"):
        if name in data:
            shared = int(np.isin(ids_of(data[name]), train_ids).sum())
            if shared:
                logger.warning(
                    "%d of %d %s texts also stand in train: scores on them are too good.",
                    shared, len(data[name]), name,
                )  # fmt: skip
    if task.is_classification:
        pairs = np.unique(np.stack([train_ids, labels_of(data["train"])]), axis=1)
        conflicting = int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
        if conflicting:
            logger.warning("%d training texts stand there with different labels.", conflicting)
    for name, part in data.items():
        if task.is_tagging:
            report_broken_tags(part, task, name)
        if len(part) and not is_labeled(part).any():
            logger.warning("The %s split has no labels: it can be labeled by a teacher, not scored.", name)


__all__ = [
    "UNLABELED",
    "TaskData",
    "as_task_data",
    "check_validation",
    "data_fingerprint",
    "example_id",
    "ids_of",
    "is_labeled",
    "is_pair",
    "label_names",
    "labels_of",
    "load_data",
    "load_unlabeled",
    "task_of",
    "texts_of",
    "without_labels",
    "word_counts_of",
]
