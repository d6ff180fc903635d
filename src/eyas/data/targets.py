"""Labels by name -> numbers, and the task they make: what a split's `label` column holds.

| task | feature of `label` | unlabelled |
|---|---|---|
| classification | ClassLabel | -1 |
| tagging | list of ClassLabel, one a word | -1 |
| regression | float | NaN |
| multi-label | list of ClassLabel, those that are there | [-1] |
| aspects | list of ClassLabel of a fixed length, `aspect=value` | -1 |
| vectors | list of float, the teacher's vector | [] |
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import ClassLabel, Dataset, DatasetInfo, Features, List, Value, concatenate_datasets

from eyas.data.labels import sort_label_names
from eyas.data.rows import UNLABELLED
from eyas.errors import LabelError
from eyas.spans import broken_places, is_bioes, to_bio
from eyas.tasks import IS, Kind, Task

logger = logging.getLogger("eyas")

SCORE = "score"


def task_of(dataset: Dataset) -> Task:
    """The task that a split's features tell."""
    feature = dataset.features["label"]
    if isinstance(feature, ClassLabel):
        return Task("classification", tuple(feature.names))
    if isinstance(feature, Value):
        return Task("regression", (SCORE,))
    if isinstance(feature.feature, Value):
        return Task("vectors", ())
    kind: Kind = "tagging" if "tokens" in dataset.column_names else "multi-label" if feature.length < 0 else "aspects"
    return Task(kind, tuple(feature.feature.names))


def find_task(kind: Any, splits: dict[str, Dataset], source: str) -> Task:
    """The names of the outputs: those of train, and for tagging, with a warning, those of the other splits.

    Raises:
        LabelError: no labels, or nothing to tell apart.
    """
    names = {name: _names(table) for name, table in splits.items()} if kind != "regression" else {}
    if kind == "regression":
        if splits["train"].data.column("label").null_count == len(splits["train"]):
            raise LabelError(f"{source}: the training split has no scores.")
        return Task("regression", (SCORE,))
    train = names["train"]
    if kind == "tagging":
        bioes = is_bioes(sorted(train))
        train = set(to_bio(sorted(train))) if bioes else train
        train |= _later_tags(names, train, source, bioes)
        if all(name.isdigit() for name in train):
            logger.warning("%s: tags are numbers, so spans can't be told; give them names to score spans.", source)
    if not train:
        raise LabelError("The training split has no labels.")
    if kind == "aspects":
        _check_aspects(train)
    elif len(train) == 1 and kind != "multi-label":
        raise LabelError(
            f"Every training row has the label {next(iter(train))!r}: there is nothing to learn. Expected at least "
            "two classes; is Columns(label=...) or --label the right column?"
        )
    return Task(kind, tuple(_in_order(kind, train)))


def has_bioes(train: Dataset, task: Task) -> bool:
    """Whether the training tags are BIOES or BILOU."""
    return task.is_tagging and is_bioes(sorted(_names(train)))


def encode_labels(table: Dataset, task: Task, source: str, bioes: bool = False) -> Dataset:
    """`table` with its label column as numbers.

    Args:
        bioes: read tags as BIOES (see `has_bioes`).

    Raises:
        LabelError: a label that does not stand in train, or rows without one; naming the first.
    """
    column = table.data.column("label").combine_chunks()
    missing = column.null_count
    if 0 < missing < len(table):
        row = int(np.flatnonzero(np.asarray(column.is_null()))[0])
        raise LabelError(
            f"{source}: {missing} of {len(table)} rows have no label, the first is row {row + 1} "
            f"({table[row]['text']!r:.60}). Label it, or give such rows to "
            "load_unlabelled or --unlabelled. (-1 means none.)"
        )
    if task.kind == "regression":
        feature: Any = Value("float32")
        labels: Any = column.fill_null(float("nan")).cast(pyarrow.float32())
    elif task.kind == "classification":
        feature = ClassLabel(names=list(task.labels))
        labels = _indices(table, column, task, source)
    else:
        feature = List(ClassLabel(names=list(task.labels)), length=len(task.aspects) or -1)
        labels = _lists(table, column, task, source, bioes)
    schema = Features({"label": feature})
    encoded = Dataset(pyarrow.table({"label": labels}).cast(schema.arrow_schema), DatasetInfo(features=schema))
    return concatenate_datasets([table.remove_columns("label"), encoded], axis=1)


def unlabelled(rows: int, task: Task, lengths: np.ndarray) -> Dataset:
    """A `label` column that says nothing, for `rows` texts of `lengths` words (tagging only)."""
    if task.kind == "classification":
        labels: Any = np.full(rows, UNLABELLED)
        feature: Any = ClassLabel(names=list(task.labels))
    elif task.kind == "regression":
        labels, feature = np.full(rows, np.nan, np.float32), Value("float32")
    else:
        size = len(task.aspects) or 1
        counts = lengths if task.is_tagging else np.full(rows, size)
        labels = [[UNLABELLED] * int(count) for count in counts]
        feature = List(ClassLabel(names=list(task.labels)), length=len(task.aspects) or -1)
    return Dataset.from_dict({"label": labels}, features=Features({"label": feature}))


def with_labels_of(dataset: Dataset, model_names: Sequence[str], label_map: Mapping[str, str] | None = None) -> Dataset:
    """`dataset` with the labels that only the model has behind its own, where the model has all of them.

    So data that lacks a label, as a small file of tags may, can be scored: that label is never right.
    """
    task, model_names = task_of(dataset), [(label_map or {}).get(name, name) for name in model_names]
    known = {name.casefold() for name in task.labels}
    missing = [name for name in model_names if name.casefold() not in known]
    has_all = known <= {name.casefold() for name in model_names}
    foreign = task.kind == "aspects" and not {name.split(IS, 1)[0] for name in missing} <= set(task.aspects)
    if task.kind == "regression" or foreign or not missing or not has_all:
        return dataset
    names = ClassLabel(names=[*task.labels, *missing])
    one = task.kind == "classification"
    return dataset.cast_column("label", names if one else List(names, length=len(task.aspects) or -1))


def report_broken_tags(table: Dataset, task: Task, source: str) -> None:
    """Say how many I- tags continue nothing."""
    if not any(tag.startswith("I") for tag in task.labels):
        return
    names = [*task.labels, "O"]  # -1, a word without a tag, reads as O
    broken = [len(broken_places([names[i] for i in row])) for row in table["label"]]
    count = sum(broken)
    if count:
        logger.warning(
            "%s: %d I- tags continue nothing, the first in sentence %d. They are read as the start of a span; "
            "Columns(repair=True) or --repair-tags makes them B-.", source, count, int(np.flatnonzero(broken)[0]) + 1,
        )  # fmt: skip


def _names(table: Dataset) -> set[str]:
    column = table.data.column("label")
    if pyarrow.types.is_list(column.type):
        column = pyarrow.compute.list_flatten(column)
    return {name for name in column.unique().to_pylist() if name}


def _later_tags(names: dict[str, set[str]], train: set[str], source: str, bioes: bool) -> set[str]:
    later = {tag for other in names.values() for tag in other} - train
    later = set(to_bio(sorted(later))) - train if bioes else later
    if later:
        logger.warning(
            "%s: no training sentence has the tags %s, so no model can learn them; they count as missed.",
            source, ", ".join(sorted(later)),
        )  # fmt: skip
    return later


def _check_aspects(names: set[str]) -> None:
    values: dict[str, int] = {}
    for name in names:
        aspect = name.split(IS, 1)[0]
        values[aspect] = values.get(aspect, 0) + 1
    alone = sorted(aspect for aspect, count in values.items() if count == 1)
    if alone and len(alone) == len(values):
        raise LabelError(f"Every aspect has one value only ({', '.join(alone[:5])}): there is nothing to learn.")


def _in_order(kind: str, names: set[str]) -> list[str]:
    if kind == "tagging" and "O" in names:
        return ["O", *sorted(names - {"O"}, key=lambda tag: (tag.partition("-")[2], tag))]
    return sort_label_names(names)


def _indices(table: Dataset, column: Any, task: Task, source: str) -> pyarrow.Array:
    found = pyarrow.compute.index_in(column, value_set=pyarrow.array(task.labels))
    ids = np.asarray(found.fill_null(UNLABELLED).to_numpy(zero_copy_only=False), dtype=np.int64)
    unknown = np.flatnonzero((ids == UNLABELLED) & (column.null_count == 0))
    if unknown.size:
        row = int(unknown[0])
        raise _unknown(source, row, table[row]["label"], task)
    return pyarrow.array(ids)


def _lists(table: Dataset, column: Any, task: Task, source: str, bioes: bool) -> pyarrow.Array:
    """Lists of names -> lists of ids, lengths kept; a missing list becomes -1 as often as it should be long."""
    if column.null_count:
        rows = len(table)
        return unlabelled(rows, task, np.ones(rows, np.int64)).data.column("label").combine_chunks()
    flat = column.flatten()
    if task.is_tagging and bioes:
        present = sorted(name for name in flat.unique().to_pylist() if name)
        bio = pyarrow.array(to_bio(present))
        flat = bio.take(pyarrow.compute.index_in(flat, value_set=pyarrow.array(present)))
    found = pyarrow.compute.index_in(flat, value_set=pyarrow.array(task.labels))
    ids = np.asarray(found.fill_null(UNLABELLED).to_numpy(zero_copy_only=False), dtype=np.int64)
    known = np.asarray(flat.is_valid())
    wrong = np.flatnonzero((ids == UNLABELLED) & known)
    offsets = column.offsets.to_numpy()
    if wrong.size:
        row = int(np.searchsorted(offsets - offsets[0], wrong[0], side="right")) - 1
        raise _unknown(source, row, flat[int(wrong[0])].as_py(), task)
    if task.kind == "aspects":
        ids = _ordered(ids.reshape(-1, len(task.aspects)), task)
    return pyarrow.ListArray.from_arrays(pyarrow.array(offsets - offsets[0], pyarrow.int32()), pyarrow.array(ids))


def _ordered(ids: np.ndarray, task: Task) -> np.ndarray:
    """[rows, aspects] with the aspects in the order of the task's names."""
    aspects = np.array([task.aspects.index(name.split(IS, 1)[0]) for name in task.labels])
    return np.take_along_axis(ids, np.argsort(aspects[ids], 1, kind="stable"), 1).reshape(-1)


def _unknown(source: str, row: int, label: Any, task: Task) -> LabelError:
    return LabelError(
        f"{source}, row {row + 1}: label {label!r} does not stand in train. Expected one of {list(task.labels[:20])}."
    )
