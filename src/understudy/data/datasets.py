"""Any source -> one schema: `example_id`, `text`, `text_pair` (pairs only), `label` (-1 = unlabelled)."""

import difflib
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from datasets import ClassLabel, Dataset, DatasetDict, Features, concatenate_datasets

from understudy.data.labels import sort_label_names
from understudy.data.readers import Row, file_kind
from understudy.data.sources import Columns, FileRows, LoadedRows, open_splits
from understudy.errors import DataError, LabelError
from understudy.outputs import cache_root
from understudy.text import clean_text

logger = logging.getLogger("understudy")

TEXT_COLUMNS = ("text", "sentence", "review", "content")
PAIR_COLUMNS = (
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text", "text_pair"),
)
LABEL_COLUMNS = ("label", "labels")
UNLABELLED = -1
ROWS_PER_BATCH = 20_000


def load_data(source: str | Path | DatasetDict, columns: Columns | None = None, seed: int = 0) -> DatasetDict:
    """Load labelled data as `train`, `validation` and, where there is one, `test`.

    Args:
        source: a folder with train/validation/test files (CSV, TSV, JSONL, Parquet, gzipped or not), one such
            file (split 80/10/10 with `seed`), a `DatasetDict`, or the name of a data set on the Hub.
        columns: the columns to read, where their names do not follow the conventions.

    Returns:
        Splits with `example_id` (int64, a hash of the text: the same text has the same id everywhere), `text`,
        `text_pair` (only for pairs) and `label` (`ClassLabel`; -1 where the whole split is unlabelled).

    Raises:
        DataError: naming the file, the line, the column; LabelError for labels that do not fit.
    """
    columns = columns or Columns()
    raw = {name: _read(rows, columns, str(source)) for name, rows in open_splits(source, columns).items()}
    if "train" not in raw:
        raise DataError(f"{source}: no training split, found only {', '.join(raw)}.")
    names = _label_names(raw["train"])
    splits = {name: _encode_labels(table, names, f"{source}, {name}") for name, table in raw.items()}
    data = DatasetDict(_with_validation(splits, seed, str(source)))
    _report(data)
    return data


def load_unlabelled(sources: Sequence[str | Path], columns: Columns | None = None) -> Dataset:
    """Load texts without labels from files (one text a line, CSV, TSV, JSONL, Parquet).

    Returns:
        `example_id`, `text` and, for pairs, `text_pair`.
    """
    columns = columns or Columns()
    parts = []
    for source in sources:
        path = Path(source)
        if not path.is_file():
            raise DataError(f"No such file of unlabelled text: {path}.")
        names = Columns() if file_kind(path) == ".txt" else columns  # lines have no columns to name
        table = _read(FileRows(path, names), names, str(path), labelled=False)
        parts.append(table.remove_columns("label"))
    return concatenate_datasets(parts)


def check_validation(data: DatasetDict) -> None:
    """Refuse a validation split that can't choose a checkpoint."""
    if not (labels_of(data["validation"]) >= 0).any():
        raise LabelError(
            "The validation split has no labels, but it chooses the best checkpoint. Label it, or take it out: "
            "then a tenth of train takes its place."
        )


def label_names(data: DatasetDict) -> list[str]:
    """The label names of `data`, in the order of their ids."""
    return list(data["train"].features["label"].names)


def is_pair(dataset: Dataset) -> bool:
    return "text_pair" in dataset.column_names


def labels_of(dataset: Dataset) -> np.ndarray:
    """[rows] int64; -1 where unlabelled."""
    return np.asarray(dataset.with_format("numpy")["label"][:], dtype=np.int64)


def ids_of(dataset: Dataset) -> np.ndarray:
    """[rows] int64."""
    return np.asarray(dataset.with_format("numpy")["example_id"][:], dtype=np.int64)


def data_fingerprint(dataset: Dataset) -> str:
    """A checksum of texts, labels and their order."""
    content = hashlib.sha256(ids_of(dataset).tobytes())
    content.update(labels_of(dataset).tobytes())
    return content.hexdigest()


def example_id(text: str, text_pair: str | None = None) -> int:
    """A signed 64-bit hash of the text: equal for equal texts, in any file and any order."""
    content = text if text_pair is None else f"{text}\0{text_pair}"
    digest = hashlib.blake2b(content.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


# --- columns ---------------------------------------------------------------------------------------------


def _resolve(columns: Columns, names: Sequence[str], source: str, labelled: bool) -> Columns:
    """Fill in what was not named, and check what was."""
    for wanted in (columns.text, columns.text_pair, columns.label):
        if wanted is not None and wanted not in names:
            close = difflib.get_close_matches(wanted, names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise DataError(f"{source}: no column {wanted!r}. It has {list(names)}.{hint}")
    text, pair = columns.text, columns.text_pair
    if text is None and pair is None:
        text, pair = next((p for p in PAIR_COLUMNS if p[0] in names and p[1] in names), (None, None))
    text = text or next((name for name in TEXT_COLUMNS if name in names), None)
    if text is None:
        raise DataError(
            f"{source}: no column of text. Expected {', '.join(TEXT_COLUMNS)} or a pair such as text1 and "
            f"text2, found {list(names)}. Name it with --text (and --text-pair)."
        )
    label = columns.label or next((name for name in LABEL_COLUMNS if name in names), None)
    if labelled and label is None:
        raise DataError(f"{source}: no column of labels. Expected label, found {list(names)}. Name it with --label.")
    return Columns(text, pair, label)


def _read(rows: FileRows | LoadedRows, columns: Columns, source: str, labelled: bool = True) -> Dataset:
    """Convert rows to an Arrow file (memory-mapped, and kept for files), labels as strings."""
    resolved = _resolve(columns, rows.columns, source, labelled)
    if rows.key is None:
        return _dataset(list(_batches(rows, resolved)), resolved)
    target = cache_root() / "data" / f"{rows.key}{'' if labelled else '-unlabelled'}.arrow"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        schema = _schema(resolved)
        with pyarrow.OSFile(str(temporary), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
            for batch in _batches(rows, resolved):
                writer.write_batch(batch)
        temporary.replace(target)
    return Dataset.from_file(str(target))


def _schema(columns: Columns) -> pyarrow.Schema:
    fields = [("example_id", pyarrow.int64()), ("text", pyarrow.string())]
    if columns.text_pair:
        fields.append(("text_pair", pyarrow.string()))
    return pyarrow.schema([*fields, ("label", pyarrow.string())])


def _dataset(batches: list[pyarrow.RecordBatch], columns: Columns) -> Dataset:
    return Dataset(pyarrow.Table.from_batches(batches, _schema(columns)))


def _batches(rows: Iterable[tuple[str, Row]], columns: Columns) -> Iterator[pyarrow.RecordBatch]:
    schema = _schema(columns)
    waiting: list[dict[str, Any]] = []
    for place, row in rows:
        waiting.append(_normalise(place, row, columns))
        if len(waiting) == ROWS_PER_BATCH:
            yield pyarrow.RecordBatch.from_pylist(waiting, schema)
            waiting = []
    if waiting:
        yield pyarrow.RecordBatch.from_pylist(waiting, schema)


def _normalise(place: str, row: Row, columns: Columns) -> dict[str, Any]:
    texts = []
    for column in (columns.text, columns.text_pair):
        if column is None:
            continue
        value = row.get(column)
        if not isinstance(value, str):
            raise DataError(f"{place}: {column!r} is {value!r:.60}, expected a text.")
        texts.append(clean_text(value))
    label = row.get(columns.label) if columns.label else None
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    normal = dict(zip(("text", "text_pair"), texts, strict=False))
    return {"example_id": example_id(*texts), **normal, "label": _label_text(label, place)}


def _label_text(label: Any, place: str) -> str | None:
    if label is None or label in ("", UNLABELLED, str(UNLABELLED)):
        return None
    if isinstance(label, bool | int | str):
        return str(label).strip()
    raise LabelError(f"{place}: label {label!r:.60}, expected a string or an integer.")


# --- labels ----------------------------------------------------------------------------------------------


def _label_names(train: Dataset) -> list[str]:
    names = sort_label_names({name for name in train.data.column("label").unique().to_pylist() if name})
    if not names:
        raise LabelError("The training split has no labels.")
    if len(names) == 1:
        raise LabelError(
            f"Every training row has the label {names[0]!r}: there is nothing to learn. Expected at least "
            "two classes; is --label the right column?"
        )
    return names


def _encode_labels(table: Dataset, names: list[str], source: str) -> Dataset:
    column = table.data.column("label")
    missing = column.null_count
    encoded = pyarrow.compute.index_in(column, value_set=pyarrow.array(names))
    ids = np.asarray(encoded.fill_null(UNLABELLED).to_numpy(zero_copy_only=False), dtype=np.int64)
    if 0 < missing < len(table):
        row = int(np.flatnonzero(np.asarray(column.is_null()))[0])
        raise LabelError(
            f"{source}: {missing} of {len(table)} rows have no label, the first is row {row + 1} "
            f"({table[row]['text']!r:.60}). Label it, or move such rows to a file for --unlabelled."
        )
    unknown = np.flatnonzero((ids == UNLABELLED) & (missing == 0))
    if unknown.size:
        row = int(unknown[0])
        raise LabelError(
            f"{source}, row {row + 1}: label {table[row]['label']!r} does not stand in train. "
            f"Expected one of {names[:20]}."
        )
    labels = Dataset.from_dict({"label": ids}, features=Features({"label": ClassLabel(names=names)}))
    return concatenate_datasets([table.remove_columns("label"), labels], axis=1)


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


def _report(data: DatasetDict) -> None:
    """Say what is wrong with the data but can be lived with."""
    train_ids, train_labels = ids_of(data["train"]), labels_of(data["train"])
    for name in ("validation", "test"):
        if name in data:
            shared = int(np.isin(ids_of(data[name]), train_ids).sum())
            if shared:
                logger.warning(
                    "%d of %d %s texts also stand in train: scores on them are too good.",
                    shared, len(data[name]), name,
                )  # fmt: skip
    pairs = np.unique(np.stack([train_ids, train_labels]), axis=1)
    conflicting = int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
    if conflicting:
        logger.warning("%d training texts stand there with different labels.", conflicting)
    for name, part in data.items():
        if len(part) and (labels_of(part) == UNLABELLED).all():
            logger.warning("The %s split has no labels: it can be labelled by a teacher, not scored.", name)
