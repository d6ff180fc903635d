"""A split from `load_data`: its texts, labels and ids as arrays."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow
from datasets import Dataset, concatenate_datasets

from eyas.data.rows import UNLABELED, example_id
from eyas.data.targets import task_of, unlabeled
from eyas.kinds import Kind
from eyas.tasks import Task
from eyas.text import read_fields

# Rows whose id is compared with their text: in a tenth of a second.
ROWS_CHECKED = 10_000


def is_read(dataset: Dataset) -> bool:
    """Whether the rows come from `load_data`, unchanged: the ids of rows all over it must match their texts."""
    if not {"example_id", "text", "label"} <= set(dataset.column_names):
        return False
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), ROWS_CHECKED)).astype(int))
    columns = dataset.with_format(None)[rows] if len(rows) else {}
    texts = [columns[name] for name in ("text", "text_pair") if name in columns]
    if "tokens" in columns:
        texts = [["\n".join(map(str, tokens or ())) for tokens in columns["tokens"]]]
    ids = columns.get("example_id", ())
    return all(found == example_id(*map(str, parts)) for found, *parts in zip(ids, *texts, strict=True))


def is_pair(dataset: Dataset) -> bool:
    return "text_pair" in dataset.column_names


def labels_of(dataset: Dataset) -> np.ndarray:
    """The labels as an array.

    Returns:
        classification and fields [rows] int, tagging [words of all rows] int, regression [rows] float, multi-label
        [rows, labels] 0 or 1, aspects [rows, aspects] int, vectors [rows, dimensions] float. Unlabeled: -1, NaN for
        regression, no dimensions for vectors.
    """
    task = task_of(dataset)
    return LABEL_ARRAYS[task.kind](dataset, task)


def _multi_hot(dataset: Dataset, task: Task) -> np.ndarray:
    flat, lengths = _lists(dataset, "label")
    rows = np.repeat(np.arange(len(dataset)), lengths)
    labels = np.zeros((len(dataset), len(task.labels)), dtype=np.int64)
    labels[rows[flat >= 0], flat[flat >= 0]] = 1
    labels[rows[flat < 0]] = UNLABELED
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
    "fields": lambda dataset, task: _numbers(dataset, np.int64),
    "vectors": _vectors,
}


def labeled_rows(dataset: Dataset) -> Dataset:
    """The rows that have a label."""
    known = is_labeled(dataset)
    return dataset if known.all() else dataset.select(np.flatnonzero(known))


def is_labeled(dataset: Dataset) -> np.ndarray:
    """[rows] bool: whether a row has a label (for tagging, any of its words)."""
    labels = labels_of(dataset)
    if task_of(dataset).is_tagging:
        rows = np.repeat(np.arange(len(dataset)), word_counts_of(dataset))
        return np.bincount(rows, labels >= 0, minlength=len(dataset)) > 0
    known: np.ndarray = np.isfinite(labels) if labels.dtype.kind == "f" else np.asarray(labels >= 0)
    if not labels[:1].size:
        return np.zeros(len(dataset), dtype=bool)
    return known if known.ndim == 1 else np.asarray(known.all(1))


def word_counts_of(dataset: Dataset) -> np.ndarray:
    """[rows] int: words per sentence; ones if the task is not tagging."""
    if "tokens" not in dataset.column_names:
        return np.ones(len(dataset), dtype=np.int64)
    return _lists(dataset, "tokens")[1]


def texts_of(dataset: Dataset) -> list[Any]:
    """The model's inputs: texts, or for tagging lists of words."""
    return list(dataset["tokens" if "tokens" in dataset.column_names else "text"])


def fields_of(dataset: Dataset) -> list[str]:
    """The names of the fields, in their order; none if the rows are texts."""
    return list(read_fields(dataset[0]["text"])) if task_of(dataset).reads_fields and len(dataset) else []


def ids_of(dataset: Dataset) -> np.ndarray:
    """[rows] int64."""
    return np.asarray(dataset.with_format("numpy")["example_id"][:], dtype=np.int64)


def data_fingerprint(dataset: Dataset) -> str:
    """A checksum of texts, labels and their order."""
    content = hashlib.sha256(ids_of(dataset).tobytes())
    content.update(labels_of(dataset).tobytes())
    return content.hexdigest()


def without_labels(dataset: Dataset, task: Task) -> Dataset:
    """`dataset` with a `label` column in which every row is unlabeled."""
    return concatenate_datasets([dataset, unlabeled(len(dataset), task, word_counts_of(dataset))], axis=1)


def _numbers(dataset: Dataset, dtype: Any) -> np.ndarray:
    return np.asarray(dataset.with_format("numpy")["label"][:], dtype=dtype)


def _lists(dataset: Dataset, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(all items of a list column, the number of items per row); text items are replaced by an empty array."""
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
