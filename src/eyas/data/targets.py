"""Label names -> numbers, and the task. The `label` column of a split:

| task | feature of `label` | unlabeled |
|---|---|---|
| classification | ClassLabel | -1 |
| tagging | list of ClassLabel, one per word | -1 |
| regression | float | NaN |
| multi-label | list of ClassLabel, the labels present | [-1] |
| aspects | list of ClassLabel of a fixed length, `aspect=value` | -1 |
| fields | int8, 0 or 1 | -1 |
| vectors | list of float, the teacher's vector | [] |
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import ClassLabel, Dataset, DatasetInfo, Features, List, Value, concatenate_datasets

from eyas.data.labels import doubles, sort_label_names
from eyas.data.rows import UNLABELED
from eyas.errors import LabelError
from eyas.kinds import IS, Kind
from eyas.tasks import Task

logger = logging.getLogger("eyas")

SCORE = "score"
CLICKS = ("0", "1")


def _class_lists(task: Task) -> Any:
    return List(ClassLabel(names=list(task.labels)), length=len(task.aspects) or -1)


LABEL_FEATURES: dict[Kind, Callable[[Task], Any]] = {
    "classification": lambda task: ClassLabel(names=list(task.labels)),
    "tagging": _class_lists,
    "regression": lambda task: Value("float32"),
    "multi-label": _class_lists,
    "aspects": _class_lists,
    "fields": lambda task: Value("int8"),
    "vectors": lambda task: List(Value("float32")),
}


def task_of(dataset: Dataset) -> Task:
    """The task of a split, from its features."""
    feature = dataset.features["label"]
    if isinstance(feature, ClassLabel):
        return Task("classification", tuple(feature.names))
    if isinstance(feature, Value):
        return Task("fields", CLICKS) if feature.dtype == "int8" else Task("regression", (SCORE,))
    if isinstance(feature.feature, Value):
        return Task("vectors", ())
    kind: Kind = "tagging" if "tokens" in dataset.column_names else "multi-label" if feature.length < 0 else "aspects"
    return Task(kind, tuple(feature.feature.names))


def find_task(kind: Kind, splits: dict[str, Dataset], source: str) -> Task:
    """The task, with the labels of train; for tagging also those of the other splits, with a warning.

    Raises:
        LabelError: no labels, or only one class.
    """
    names = LABEL_NAMES[kind](splits, source)
    for double in doubles(names):
        logger.warning(
            "%s: the labels %s look like one, and are %d. If one is meant, rename the others.",
            source, " and ".join(map(repr, double)), len(double),
        )  # fmt: skip
    return Task(kind, tuple(names))


def has_one_label_each(dataset: Dataset) -> bool:
    """Whether every labeled row of lists of label names has exactly one."""
    counts = pyarrow.compute.list_value_length(dataset.data.column("label").drop_null())
    return bool(pyarrow.compute.all(pyarrow.compute.equal(counts, 1), min_count=0).as_py())


def without_placeholders(dataset: Dataset) -> Dataset:
    """Scores of which all are -1, as in GLUE's test splits, are none."""
    scores = dataset.data.column("label")
    if "label" not in dataset.column_names or not len(dataset):
        return dataset
    if not pyarrow.compute.all(pyarrow.compute.equal(scores, float(UNLABELED)), min_count=1).as_py():
        return dataset
    none = Dataset(pyarrow.table({"label": pyarrow.nulls(len(dataset), scores.type)}))
    return concatenate_datasets([dataset.remove_columns("label"), none], axis=1)


def with_one_label(dataset: Dataset) -> Dataset:
    """Lists of one label name -> label names."""
    labels = pyarrow.compute.list_element(dataset.data.column("label").combine_chunks(), 0)
    named = Dataset(pyarrow.table({"label": labels}))
    return concatenate_datasets([dataset.remove_columns("label"), named], axis=1)


def encode_labels(dataset: Dataset, task: Task, source: str) -> Dataset:
    """`dataset` with its labels as numbers.

    Raises:
        LabelError: a label that is not in train, or an unlabeled row; the message names the first.
    """
    column = dataset.data.column("label").combine_chunks()
    missing = column.null_count
    if 0 < missing < len(dataset):
        row = int(np.flatnonzero(np.asarray(column.is_null()))[0])
        raise LabelError(
            f"{source}: {missing} of {len(dataset)} rows have no label, the first is row {row + 1} "
            f"({dataset[row]['text']!r:.60}). Label them, or pass them as "
            "unlabeled (--unlabeled). (-1 means unlabeled.)"
        )
    feature = LABEL_FEATURES[task.kind](task)
    if isinstance(feature, Value):
        labels: Any = column.fill_null(UNLABELED if task.reads_fields else float("nan")).cast(feature.pa_type)
    elif isinstance(feature, ClassLabel):
        labels = _indices(dataset, column, task, source)
    else:
        labels = _lists(dataset, column, task, source)
    schema = Features({"label": feature})
    encoded = Dataset(pyarrow.table({"label": labels}).cast(schema.arrow_schema), DatasetInfo(features=schema))
    return concatenate_datasets([dataset.remove_columns("label"), encoded], axis=1)


def unlabeled(rows: int, task: Task, lengths: np.ndarray) -> Dataset:
    """An unlabeled `label` column for `rows` texts of `lengths` words (lengths matter only for tagging)."""
    feature = LABEL_FEATURES[task.kind](task)
    if isinstance(feature, ClassLabel):
        labels: Any = np.full(rows, UNLABELED)
    elif isinstance(feature, Value):
        labels = np.full(rows, UNLABELED if task.reads_fields else np.nan)
    else:
        counts = lengths if task.is_tagging else np.full(rows, len(task.aspects) or 1)
        labels = [[UNLABELED] * int(count) for count in counts]
    return Dataset.from_dict({"label": labels}, features=Features({"label": feature}))


def with_labels_of(dataset: Dataset, model_names: Sequence[str], label_map: Mapping[str, str] | None = None) -> Dataset:
    """`dataset` with the labels that only the model has appended, if the model has all labels of the data.

    This allows scoring data that lacks a label, such as a small file of tags: that label is never correct.
    """
    task, model_names = task_of(dataset), [(label_map or {}).get(name, name) for name in model_names]
    known = {name.casefold() for name in task.labels}
    missing = [name for name in model_names if name.casefold() not in known]
    has_all = known <= {name.casefold() for name in model_names}
    foreign = task.aspects and not {name.split(IS, 1)[0] for name in missing} <= set(task.aspects)
    if not task.decides or foreign or not missing or not has_all:
        return dataset
    wider = replace(task, labels=(*task.labels, *missing))
    return dataset.cast_column("label", LABEL_FEATURES[task.kind](wider))


def names_in(dataset: Dataset) -> set[str]:
    """The label names that occur, before they are numbers."""
    column = dataset.data.column("label")
    if pyarrow.types.is_list(column.type):
        column = pyarrow.compute.list_flatten(column)
    return {name for name in column.unique().to_pylist() if name}


def _at_least(count: int, names: set[str]) -> set[str]:
    if not names:
        raise LabelError("The training split has no labels.")
    if len(names) < count:
        raise LabelError(
            f"Every training row has the label {next(iter(names))!r}: there is nothing to learn. Expected at least "
            "two classes. Check that Columns(label=...) or --label names the right column."
        )
    return names


def _classes(splits: dict[str, Dataset], source: str) -> list[str]:
    return sort_label_names(_at_least(2, names_in(splits["train"])))


def _tags(splits: dict[str, Dataset], source: str) -> list[str]:
    tags = names_in(splits["train"])
    later = {tag for table in splits.values() for tag in names_in(table)} - tags
    if later:
        logger.warning(
            "%s: no training sentence has the tags %s, so no model can learn them; they count as missed.",
            source, ", ".join(sorted(later)),
        )  # fmt: skip
    tags |= later
    if all(tag.isdigit() for tag in tags):
        logger.warning("%s: the tags are numbers, so spans cannot be scored. Name the tags to score spans.", source)
    if "O" not in _at_least(2, tags):
        return sort_label_names(tags)
    return ["O", *sorted(tags - {"O"}, key=lambda tag: (tag.partition("-")[2], tag))]


def _score(splits: dict[str, Dataset], source: str) -> list[str]:
    if splits["train"].data.column("label").null_count == len(splits["train"]):
        raise LabelError(f"{source}: the training split has no scores.")
    return [SCORE]


def _clicks(splits: dict[str, Dataset], source: str) -> list[str]:
    values = splits["train"].data.column("label").drop_null().unique().to_pylist()
    return sorted(_at_least(2, set(map(str, values))))


def _labels(splits: dict[str, Dataset], source: str) -> list[str]:
    return sort_label_names(_at_least(1, names_in(splits["train"])))


def _aspect_values(splits: dict[str, Dataset], source: str) -> list[str]:
    names = _labels(splits, source)
    values = Counter(name.split(IS, 1)[0] for name in names)
    if set(values.values()) == {1}:
        raise LabelError(
            f"Every aspect has only one value ({', '.join(sorted(values)[:5])}): there is nothing to learn."
        )
    return names


# (splits with label names, source) -> output names, in order.
LABEL_NAMES: dict[Kind, Callable[[dict[str, Dataset], str], list[str]]] = {
    "classification": _classes,
    "tagging": _tags,
    "regression": _score,
    "multi-label": _labels,
    "aspects": _aspect_values,
    "fields": _clicks,
}


def _indices(dataset: Dataset, column: Any, task: Task, source: str) -> pyarrow.Array:
    found = pyarrow.compute.index_in(column, value_set=pyarrow.array(task.labels))
    ids = np.asarray(found.fill_null(UNLABELED).to_numpy(zero_copy_only=False), dtype=np.int64)
    unknown = np.flatnonzero((ids == UNLABELED) & (column.null_count == 0))
    if unknown.size:
        row = int(unknown[0])
        raise _unknown(source, row, dataset[row]["label"], task)
    return pyarrow.array(ids)


def _lists(dataset: Dataset, column: Any, task: Task, source: str) -> pyarrow.Array:
    """Lists of names -> lists of ids of the same lengths; a column without labels becomes unlabeled."""
    if column.null_count:
        rows = len(dataset)
        return unlabeled(rows, task, np.ones(rows, np.int64)).data.column("label").combine_chunks()
    flat = column.flatten()
    found = pyarrow.compute.index_in(flat, value_set=pyarrow.array(task.labels))
    ids = np.asarray(found.fill_null(UNLABELED).to_numpy(zero_copy_only=False), dtype=np.int64)
    known = np.asarray(flat.is_valid())
    wrong = np.flatnonzero((ids == UNLABELED) & known)
    offsets = column.offsets.to_numpy()
    if wrong.size:
        row = int(np.searchsorted(offsets - offsets[0], wrong[0], side="right")) - 1
        raise _unknown(source, row, flat[int(wrong[0])].as_py(), task)
    if task.aspects:
        ids = _ordered(ids.reshape(-1, len(task.aspects)), task)
    return pyarrow.ListArray.from_arrays(pyarrow.array(offsets - offsets[0], pyarrow.int32()), pyarrow.array(ids))


def _ordered(ids: np.ndarray, task: Task) -> np.ndarray:
    """[rows, aspects] ids with the aspects in the order of the task's labels, flattened."""
    aspects = np.array([task.aspects.index(name.split(IS, 1)[0]) for name in task.labels])
    return np.take_along_axis(ids, np.argsort(aspects[ids], 1, kind="stable"), 1).reshape(-1)


def _unknown(source: str, row: int, label: Any, task: Task) -> LabelError:
    return LabelError(
        f"{source}, row {row + 1}: label {label!r} does not occur in train. Expected one of {list(task.labels[:20])}."
    )
