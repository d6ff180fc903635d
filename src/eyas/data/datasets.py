"""Any source -> one schema: `example_id`, `text`, `text_pair` (pairs), `tokens` (tagging), `label` (see targets.py)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas
from datasets import Dataset, concatenate_datasets

from eyas.data.columns import Resolved, is_conll, looks_like_scores
from eyas.data.opening import Source, name_of, open_splits, open_unlabeled
from eyas.data.rows import UNLABELED, example_id, read_table
from eyas.data.sources import LoadedRows, Rows
from eyas.data.splits import (
    data_fingerprint,
    fields_of,
    ids_of,
    is_labeled,
    is_pair,
    is_read,
    labeled_rows,
    labels_of,
    texts_of,
    without_labels,
    word_counts_of,
)
from eyas.data.tags import as_bio, report_broken_tags
from eyas.data.targets import (
    encode_labels,
    find_task,
    has_one_label_each,
    task_of,
    with_one_label,
    without_placeholders,
)
from eyas.data.task_data import TaskData
from eyas.errors import DataError, LabelError
from eyas.settings import Columns
from eyas.verbosity import without_bars

logger = logging.getLogger("eyas")

# Columns that a message names.
COLUMNS_SHOWN = 8


@without_bars()
def load_data(source: Source, columns: Columns | None = None, seed: int = 0) -> TaskData:
    """Load labeled data as `train`, `validation` and, if there is one, `test`.

    Args:
        source: one of
            - a folder with train/validation/test files (CSV, TSV, JSONL, Parquet, CoNLL, compressed or not), or one
              such file;
            - a data set on the Hub, with its configuration after a colon: `glue:sst2`;
            - a `Dataset`, a pandas frame, a dict of columns, a tuple `(texts, labels)`; for texts that
              are lists of words, the labels are lists of tags;
            - a `DatasetDict`, or a dict with such a table or a file for each split.
            A single file or table is split 80/10/10 with `seed`. A test split may lack the label column.
            Splits that were loaded before are used as they are.
        columns: the columns to read and the task, if they do not follow the conventions.

    Returns:
        Splits with `example_id` (int64, a hash of the text: equal texts have equal ids), `text`,
        `text_pair` (only for pairs), `tokens` (only for tagging) and `label`, whose feature determines the task.

    Raises:
        DataError: invalid data; the message names the file, line and column.
        LabelError: labels that do not match.
    """
    columns, name = columns or Columns(), name_of(source, "data")
    opened = open_splits(source, columns)
    read = {split: rows.dataset for split, rows in opened.items() if isinstance(rows, LoadedRows)}
    if columns == Columns() and read.keys() == opened.keys() and all(map(is_read, read.values())):
        return TaskData.of(with_validation(read, ids_of, seed, name))
    data = TaskData.of(with_validation(_read(opened, columns, name), ids_of, seed, name))
    report(data)
    return data


@without_bars()
def load_table(source: Source, columns: Columns | None = None) -> Dataset | None:
    """All rows of a table in memory, unsplit; None for files, folders, Hub names and several splits.

    Args:
        source: as for `load_data`.
    """
    if isinstance(source, str | Path):
        return None
    columns = columns or Columns()
    opened = open_splits(source, columns)
    if len(opened) > 1:
        return None
    rows = next(iter(opened.values()))
    if isinstance(rows, LoadedRows) and is_read(rows.dataset):
        return rows.dataset
    return next(iter(_read(opened, columns, name_of(source, "data")).values()))


@without_bars()
def load_unlabeled(
    sources: Source | pandas.Series | Sequence[Source | pandas.Series],
    columns: Columns | None = None,
    tagging: bool = False,
) -> Dataset:
    """Load texts without labels.

    Args:
        sources: one of these, or a list of them:
            - files (one text per line, CSV, TSV, JSONL, Parquet, CoNLL), folders of them, patterns such as
              `reviews/*.txt`, or names of data sets on the Hub (their training split);
            - tables as for `load_data` (the training split, if there are several), or a pandas series of texts.
            A string is always a path, a pattern or a Hub name; pass texts as `{"text": [...]}`.
        columns: the columns of texts; for rows of fields the task and all fields, `Columns(task="fields", text="a,b")`.
        tagging: add `tokens`; texts that are not yet split into words are split here.

    Returns:
        `example_id`, `text` and, for pairs, `text_pair`; converted files are cached and memory-mapped.

    Raises:
        DataError: no texts, an empty file, or a file that is not text; the message names the line.
    """
    columns = columns or Columns()
    fields = columns.task == "fields"
    columns = replace(columns, task="tagging" if tagging else "fields" if fields else "classification", label=None)
    listed = sources if isinstance(sources, list | tuple) else [sources]
    parts: list[Dataset] = []
    for rows in chain.from_iterable(open_unlabeled(source, columns) for source in listed):
        # plain lines have no named columns
        lines = Columns(task=columns.task) if rows.columns == ["text"] else columns
        table, _ = read_table(rows, lines, rows.name, labeled=False)
        parts.append(table.remove_columns("label"))
        if parts[0].column_names != parts[-1].column_names:
            raise DataError(
                f"{rows.name} has the columns {parts[-1].column_names[1:]}, other files {parts[0].column_names[1:]}. "
                "Expected the same columns everywhere."
            )
    if not any(map(len, parts)):
        raise DataError("There are no unlabeled texts (--unlabeled), expected at least one.")
    return concatenate_datasets(parts)


def _read(opened: Mapping[str, Rows], columns: Columns, name: str) -> dict[str, Dataset]:
    """Every split in the schema of the training split, with labels as numbers."""
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
    _say_columns(opened["train"], columns, resolved, name)
    if resolved.task == "multi-label" and columns.task is None and all(map(has_one_label_each, raw.values())):
        logger.info("%s: every text has one label, so this is classification (several: --task multi-label).", name)
        raw = {split: with_one_label(table) for split, table in raw.items()}
        resolved = replace(resolved, task="classification")
    if resolved.task == "tagging":
        raw = as_bio(raw, opened, name, columns.repair_tags)
    if resolved.task == "regression" and "test" in raw:
        raw["test"] = without_placeholders(raw["test"])
    task = find_task(resolved.task, raw, name)
    if task.kind == "classification" and columns.task is None and looks_like_scores(task.labels):
        if any("," in label for label in task.labels):
            raise LabelError(
                f"{name}: the labels look like numbers with a comma ({', '.join(task.labels[:4])} ...). Scores need a "
                "decimal point; if these are classes, give task='classification' (--task classification)."
            )
        raise LabelError(
            f"{name}: the first labels are whole numbers, later ones have fractions ({', '.join(task.labels[:4])} ...)."
            " Expected task='regression' (--task regression), or task='classification' if these are classes."
        )
    if not task.is_classification:
        logger.info("%s: %s.", name, task.describe())
    return {split: encode_labels(table, task, f"{name}, {split}") for split, table in raw.items()}


def _say_columns(rows: Rows, columns: Columns, resolved: Resolved, name: str) -> None:
    """Log which columns are read as labels, if that was a guess or others are left out."""
    if is_conll(rows.columns):
        return
    if len(resolved.labels) > 1 and columns.label is None:
        logger.info(
            "%s: no column is named label, so %s are taken for labels. If they are not, name the label column with "
            "Columns(label=...) or --label.",
            name, ", ".join(resolved.labels),
        )  # fmt: skip
    texts = resolved.text.split(",") if resolved.task == "fields" else [resolved.text]
    read = [*texts, *([resolved.text_pair] if resolved.text_pair else []), *resolved.labels]
    others = [column for column in rows.columns if column not in read]
    if others and columns.label is None:
        logger.info(
            "%s: reads the columns %s, not %s. Name others with Columns(text=..., label=...) or --text and --label.",
            name, ", ".join(read), ", ".join(others[:COLUMNS_SHOWN]),
        )  # fmt: skip


def _check_widths(opened: Mapping[str, Rows]) -> None:
    """Raise DataError if CoNLL files differ in their number of columns, since the last one is read as the tags."""
    train = opened["train"]
    for rows in opened.values():
        if is_conll(train.columns) and is_conll(rows.columns) and len(rows.columns) != len(train.columns):
            raise DataError(
                f"{rows.name} has {len(rows.columns)} columns, {train.name} {len(train.columns)}, so the last column "
                "is ambiguous. Name the tag column with Columns(label=...) or --label."
            )


# --- splits ----------------------------------------------------------------------------------------------


def with_validation(
    splits: dict[str, Dataset], ids_of: Callable[[Dataset], np.ndarray], seed: int, source: str
) -> dict[str, Dataset]:
    """Split missing validation (and, for a single file, test) rows off train; equal texts stay together.

    Classes keep their shares, and every class keeps a text in train.

    Args:
        ids_of: rows -> [rows] int64, equal for equal texts.
        source: its name in messages.
    """
    if "validation" in splits:
        return splits
    train = splits["train"]
    task = task_of(train) if "label" in train.column_names else None
    parts = {"validation": 0.1} if "test" in splits else {"validation": 0.1, "test": 0.1}
    ids = ids_of(train)
    unique, first = np.unique(ids, return_index=True)
    classes = labels_of(train)[first] if task and task.is_classification else np.zeros(len(unique), dtype=np.int64)
    counts = {name: max(1, round(share * len(unique))) for name, share in parts.items()}
    if sum(counts.values()) >= len(unique):
        raise DataError(f"{source}: {len(train)} rows are too few to split into train and {' and '.join(parts)}.")
    drawn = dict(zip(parts, _stratified(classes, list(counts.values()), seed), strict=True))
    taken = {name: train.select(np.flatnonzero(np.isin(ids, unique[places]))) for name, places in drawn.items()}
    rest = train.select(np.flatnonzero(~np.isin(ids, unique[np.concatenate(list(drawn.values()))])))
    sizes = ", ".join(f"{name} {len(part):,}" for name, part in {"train": rest, **taken}.items())
    logger.info("%s has no validation split: split train with seed %d into %s rows.", source, seed, sizes)
    for name, part in taken.items() if task and task.is_classification else ():
        missing = sorted(set(classes.tolist()) - set(labels_of(part).tolist()) - {UNLABELED})
        if task and missing:
            logger.warning(
                "%s: %d of %d labels have no text in %s (%s): they are too rare for a tenth of the texts.",
                source, len(missing), len(task.labels), name, ", ".join(task.labels[label] for label in missing[:5]),
            )  # fmt: skip
    return {"train": rest, **taken, **{k: v for k, v in splits.items() if k != "train"}}


def _stratified(classes: np.ndarray, counts: list[int], seed: int) -> list[np.ndarray]:
    """Disjoint random samples of the texts, of these sizes, each class by its share; of each class one text is left.

    Args:
        classes: [texts] int.
    """
    order = np.random.default_rng(seed).permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    kept = np.zeros(len(order), dtype=bool)
    kept[np.unique(classes[order], return_index=True)[1]] = True
    pool, samples = order[~kept], []
    for count in counts:
        if count > len(pool):  # more classes than texts to spare
            pool = np.concatenate([pool, order[kept]])
            kept[:] = False
        places = ((np.arange(count) + 0.5) * len(pool) / count).astype(np.int64)
        samples.append(pool[places])
        pool = np.delete(pool, places)
    return samples


def report(data: TaskData) -> None:
    """Warn about problems in the data that do not prevent training."""
    task, train_ids = data.task, ids_of(data["train"])
    report_repeats(data, ids_of)
    if task.is_classification:
        pairs = np.unique(np.stack([train_ids, labels_of(data["train"])]), axis=1)
        conflicting = int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
        if conflicting:
            logger.warning("%d training texts occur with different labels.", conflicting)
    for name, part in data.items():
        if task.is_tagging:
            report_broken_tags(part, task, name)
        if len(part) and not is_labeled(part).any():
            logger.warning("The %s split has no labels: a teacher can label it, but it cannot be scored.", name)


def report_repeats(splits: Mapping[str, Dataset], ids_of: Callable[[Dataset], np.ndarray]) -> None:
    """Warn about texts of other splits that also occur in train; arguments as for `with_validation`."""
    train_ids = ids_of(splits["train"])
    for name in ("validation", "test"):
        shared = int(np.isin(ids_of(splits[name]), train_ids).sum()) if name in splits else 0
        if shared:
            logger.warning(
                "%d of %d %s texts also occur in train: scores on them are inflated.", shared, len(splits[name]), name
            )


__all__ = [
    "UNLABELED",
    "TaskData",
    "data_fingerprint",
    "example_id",
    "fields_of",
    "ids_of",
    "is_labeled",
    "is_pair",
    "labeled_rows",
    "labels_of",
    "load_data",
    "load_unlabeled",
    "task_of",
    "texts_of",
    "without_labels",
    "word_counts_of",
]
