"""Any source -> one schema: `example_id`, `text`, `text_pair` (pairs), `tokens` (tagging), `label` (see targets.py)."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from datasets import Dataset, DatasetDict, concatenate_datasets

from eyas.data.columns import is_conll
from eyas.data.rows import UNLABELLED, example_id, read_table
from eyas.data.sources import Columns, FileRows, LoadedRows, open_splits, open_unlabelled
from eyas.data.targets import encode_labels, find_task, has_bioes, report_broken_tags, task_of, unlabelled
from eyas.errors import DataError, LabelError
from eyas.tasks import Kind, Task

logger = logging.getLogger("eyas")


def load_data(source: str | Path | DatasetDict, columns: Columns | None = None, seed: int = 0) -> DatasetDict:
    """Load labelled data as `train`, `validation` and, where there is one, `test`.

    Args:
        source: a folder with train/validation/test files (CSV, TSV, JSONL, Parquet, CoNLL, gzipped or not), one such
            file (split 80/10/10 with `seed`), a `DatasetDict`, or the name of a data set on the Hub.
        columns: the columns to read and the task, where they are not to be found by convention.

    Returns:
        Splits with `example_id` (int64, a hash of the text: the same text has the same id everywhere), `text`,
        `text_pair` (only for pairs), `tokens` (only for tagging) and `label`, whose feature tells the task.

    Raises:
        DataError: naming the file, the line, the column; LabelError for labels that do not fit.
    """
    columns = columns or Columns()
    opened = open_splits(source, columns)
    if "train" not in opened:
        raise DataError(f"{source}: no training split, found only {', '.join(opened)}.")
    if columns.label is None:
        _check_widths(opened)
    train, resolved = read_table(opened["train"], columns, str(source))
    labels = ",".join(resolved.labels)
    same = replace(columns, text=resolved.text, text_pair=resolved.text_pair, label=labels, task=resolved.task)
    rest = {name: read_table(rows, same, f"{source}, {name}")[0] for name, rows in opened.items() if name != "train"}
    raw = {name: train if name == "train" else rest[name] for name in opened}
    task = find_task(resolved.task, raw, str(source))
    if not task.is_classification:
        logger.info("%s: %s.", source, task.describe())
    bioes = has_bioes(train, task)
    splits = {name: encode_labels(table, task, f"{source}, {name}", bioes) for name, table in raw.items()}
    data = DatasetDict(_with_validation(splits, seed, str(source)))
    _report(data, task)
    return data


def load_unlabelled(sources: Sequence[str | Path], columns: Columns | None = None, tagging: bool = False) -> Dataset:
    """Load texts without labels.

    Args:
        sources: files (one text a line, CSV, TSV, JSONL, Parquet, CoNLL), folders of them, patterns such as
            `reviews/*.txt`, or names of data sets on the Hub (their training split).
        tagging: give each text as `tokens` too; what is not split into words there is split here.

    Returns:
        `example_id`, `text` and, for pairs, `text_pair`; converted files are kept and memory-mapped.

    Raises:
        DataError: nothing there, an empty file, or one that is no text; naming the line.
    """
    columns = replace(columns or Columns(), task="tagging" if tagging else "classification", label=None)
    parts = []
    for rows in chain.from_iterable(open_unlabelled(source, columns) for source in sources):
        # lines have no columns to name
        lines = Columns(task=columns.task) if rows.columns == ["text"] else columns
        table, _ = read_table(rows, lines, rows.name, labelled=False)
        parts.append(table.remove_columns("label"))
        if parts[0].column_names != parts[-1].column_names:
            raise DataError(f"{rows.name} has {parts[-1].column_names[1:]}, other files {parts[0].column_names[1:]}.")
    return concatenate_datasets(parts)


def without_labels(texts: Dataset, task: Task) -> Dataset:
    """`texts` with a `label` column that says nothing."""
    return concatenate_datasets([texts, unlabelled(len(texts), task, word_counts_of(texts))], axis=1)


def check_validation(data: DatasetDict) -> None:
    """Refuse a validation split that can't choose a checkpoint."""
    if not is_labelled(data["validation"]).any():
        raise LabelError(
            "The validation split has no labels, but it chooses the best checkpoint. Label it, or take it out: "
            "then a tenth of train takes its place."
        )


def label_names(data: DatasetDict) -> list[str]:
    """The names of the outputs for `data`, in the order of their ids."""
    return list(task_of(data["train"]).labels)


def is_pair(dataset: Dataset) -> bool:
    return "text_pair" in dataset.column_names


def labels_of(dataset: Dataset) -> np.ndarray:
    """What is to be predicted.

    Returns:
        classification [rows] int, tagging [words of all rows] int, regression [rows] float, multi-label
        [rows, labels] 0 or 1, aspects [rows, aspects] int, vectors [rows, dimensions] float. Unlabelled: -1, of
        regression NaN, of vectors no dimension.
    """
    task = task_of(dataset)
    return LABEL_ARRAYS[task.kind](dataset, task)


def _multi_hot(dataset: Dataset, task: Task) -> np.ndarray:
    flat, lengths = _lists(dataset, "label")
    rows = np.repeat(np.arange(len(dataset)), lengths)
    labels = np.zeros((len(dataset), len(task.labels)), dtype=np.int64)
    labels[rows[flat >= 0], flat[flat >= 0]] = 1
    labels[rows[flat < 0]] = UNLABELLED
    return labels


def _vectors(dataset: Dataset, task: Task) -> np.ndarray:
    flat, lengths = _lists(dataset, "label")
    return np.asarray(flat, dtype=np.float32).reshape(len(dataset), int(lengths.max(initial=0)))


LABEL_ARRAYS: dict[Kind, Callable[[Dataset, Task], np.ndarray]] = {
    "classification": lambda dataset, task: _numbers(dataset, np.int64),
    "tagging": lambda dataset, task: _lists(dataset, "label")[0],
    "regression": lambda dataset, task: _numbers(dataset, np.float32),
    "multi-label": _multi_hot,
    "aspects": lambda dataset, task: _lists(dataset, "label")[0].reshape(len(dataset), -1),
    "vectors": _vectors,
}


def is_labelled(dataset: Dataset) -> np.ndarray:
    """[rows] bool: whether a row has a label (for tagging, one of its words)."""
    labels = labels_of(dataset)
    if task_of(dataset).is_tagging:
        rows = np.repeat(np.arange(len(dataset)), word_counts_of(dataset))
        return np.bincount(rows, labels >= 0, minlength=len(dataset)) > 0
    known: np.ndarray = np.isfinite(labels) if labels.dtype.kind == "f" else np.asarray(labels >= 0)
    if not labels[:1].size:
        return np.zeros(len(dataset), dtype=bool)
    return known if known.ndim == 1 else np.asarray(known.all(1))


def word_counts_of(dataset: Dataset) -> np.ndarray:
    """[rows] int: words of each sentence; ones where the task is not tagging."""
    if "tokens" not in dataset.column_names:
        return np.ones(len(dataset), dtype=np.int64)
    return _lists(dataset, "tokens")[1]


def texts_of(dataset: Dataset) -> list[Any]:
    """What a model reads: texts, or for tagging lists of words."""
    return list(dataset["tokens" if "tokens" in dataset.column_names else "text"])


def ids_of(dataset: Dataset) -> np.ndarray:
    """[rows] int64."""
    return np.asarray(dataset.with_format("numpy")["example_id"][:], dtype=np.int64)


def data_fingerprint(dataset: Dataset) -> str:
    """A checksum of texts, labels and their order."""
    content = hashlib.sha256(ids_of(dataset).tobytes())
    content.update(labels_of(dataset).tobytes())
    return content.hexdigest()


def _numbers(dataset: Dataset, dtype: Any) -> np.ndarray:
    return np.asarray(dataset.with_format("numpy")["label"][:], dtype=dtype)


def _lists(dataset: Dataset, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(all items of a column of lists, how many each row has); items of text as an empty array."""
    table = dataset.select_columns([column]).with_format("arrow")[:]
    values = table.column(column).combine_chunks()
    lengths = (
        values.value_lengths().to_numpy()
        if not hasattr(values.type, "list_size")
        else np.full(len(values), values.type.list_size)
    )
    flat = values.flatten()
    kind = np.int64 if pyarrow.types.is_integer(flat.type) else np.float32
    return (np.asarray(flat, dtype=kind) if column == "label" else np.empty(0)), lengths.astype(np.int64)


def _check_widths(opened: Mapping[str, FileRows | LoadedRows]) -> None:
    """Raises DataError where CoNLL files of a data set have different columns: their last is taken for the tags."""
    train = opened["train"]
    for rows in opened.values():
        if is_conll(train.columns) and is_conll(rows.columns) and len(rows.columns) != len(train.columns):
            raise DataError(
                f"{rows.name} has {len(rows.columns)} columns, {train.name} {len(train.columns)}, so the last is not "
                "the same everywhere. Name the column of tags with --label."
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


def _report(data: DatasetDict, task: Task) -> None:
    """Say what is wrong with the data but can be lived with."""
    train_ids = ids_of(data["train"])
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
        if len(part) and not is_labelled(part).any():
            logger.warning("The %s split has no labels: it can be labelled by a teacher, not scored.", name)


__all__ = [
    "UNLABELLED",
    "check_validation",
    "data_fingerprint",
    "example_id",
    "ids_of",
    "is_labelled",
    "is_pair",
    "label_names",
    "labels_of",
    "load_data",
    "load_unlabelled",
    "task_of",
    "texts_of",
    "without_labels",
    "word_counts_of",
]
