"""Pairs of a source and the target to write for it: any source of data -> splits, and token ids."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from datasets import Dataset, DatasetDict
from torch.utils.data import Dataset as TorchDataset

from eyas.data.columns import SOURCE_COLUMNS, TARGET_COLUMNS
from eyas.data.datasets import report_repeats, with_validation
from eyas.data.opening import Source, name_of, open_splits
from eyas.data.parallel import ParallelRows, open_parallel
from eyas.data.rows import example_id
from eyas.errors import DataError
from eyas.settings import Columns
from eyas.text import clean_text, clean_texts

# The column of a Hub data set for translation: the same text in each language, by its code.
NESTED = "translation"


def load_pairs(source: Source, columns: Columns | None = None, seed: int = 0) -> DatasetDict:
    """Load pairs as `train`, `validation` and, if there is one, `test`: `example_id`, `source`, `target`.

    Args:
        source: as for `eyas.load_data`; also a folder of files of lines that belong together, `train.en` and
            `train.de`, compressed or not.
        columns: `text` and `label` name the columns, or the endings of such files, of sources and targets; by default
            source (or text) and target.
        seed: splits a single file or table 80/10/10.

    Raises:
        DataError: invalid data; the message names the file and line.
    """
    columns, name = columns or Columns(), name_of(source, "data")
    opened: Any = open_parallel(Path(source), columns) if isinstance(source, str | Path) else {}
    opened = opened or open_splits(source, replace(columns, task=None))
    splits = {split: _read(rows, columns, name) for split, rows in opened.items()}
    empty = next((split for split in ("train", *splits) if not len(splits.get(split, ()))), None)
    if empty:
        raise DataError(f"{name}: no pairs in {empty}, expected some.")
    splits = DatasetDict(with_validation(splits, _ids_of_sources, seed, name))
    report_repeats(splits, _ids_of_sources)
    return splits


def _ids_of_sources(dataset: Dataset) -> np.ndarray:
    """[rows] int64: equal for equal sources."""
    return np.array([example_id(text) for text in dataset["source"]], dtype=np.int64)


def _read(rows: Any, columns: Columns, name: str) -> Dataset:
    names = list(rows.columns)
    if NESTED in names and isinstance(languages := next(iter(rows), (0, {NESTED: None}))[1][NESTED], dict):
        names, rows = list(languages), ((place, row[NESTED]) for place, row in rows)
    sources = next((c for c in (columns.text, *SOURCE_COLUMNS) if c in names), None)
    targets = next((c for c in (columns.label, *TARGET_COLUMNS) if c in names), None)
    if isinstance(rows, ParallelRows):
        sources, targets = names
    wrong = next((c for c in (columns.text, columns.label) if c is not None and c not in names), None)
    if sources is None or targets is None or wrong is not None:
        what = f"no column {wrong!r}" if wrong else f"no column of {'sources' if sources is None else 'targets'}"
        raise DataError(
            f"{name}: {what}, found {names}. Expected {' or '.join(SOURCE_COLUMNS)} and "
            f"{TARGET_COLUMNS[0]}; name others with Columns(text=..., label=...) or --text and --label."
        )
    texts: list[list[str]] = [[], []]
    for place, row in rows:
        for part, column in zip(texts, (sources, targets), strict=True):
            value = row.get(column)
            if not isinstance(value, str) or not value.strip():
                raise DataError(f"{place}: {column!r} is {value!r:.60}, expected a text. Leave the row out.")
            part.append(clean_text(value))
    ids = pyarrow.array([example_id(*pair) for pair in zip(*texts, strict=True)], pyarrow.int64())
    return Dataset(pyarrow.table({"example_id": ids, "source": texts[0], "target": texts[1]}))


class EncodedPairs(TorchDataset[Any]):
    """Pairs as token ids, each target with its end.

    Args:
        max_length: sources are cut to so many tokens.
        max_target: the most tokens that the model writes.

    Raises:
        DataError: a target is longer than that.
    """

    def __init__(self, dataset: Dataset, tokenizer: Any, max_length: int, max_target: int) -> None:
        self.ids = np.asarray(dataset["example_id"], dtype=np.int64)
        self.sources = source_ids(list(dataset["source"]), tokenizer, max_length)
        self.targets: list[list[int]] = tokenizer(text_target=list(dataset["target"]))["input_ids"]
        self.lengths = np.array([len(ids) for ids in self.targets], dtype=np.int64)
        row = int(self.lengths.argmax())
        if self.lengths[row] > max_target:
            count = int((self.lengths > max_target).sum())
            raise DataError(
                f"{count} of {len(dataset)} targets are longer than the model writes: {self.lengths[row]} tokens, at "
                f"most {max_target}: {dataset['target'][row]!r:.60}. Raise max_length (--max-length), if the model has "
                "positions for them, or leave these rows out."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"example_id": int(self.ids[row]), "input_ids": self.sources[row], "labels": self.targets[row]}


def source_ids(texts: list[str], tokenizer: Any, max_length: int) -> list[list[int]]:
    """Token ids of sources, cut to `max_length` tokens with their end."""
    found: list[list[int]] = tokenizer(clean_texts(texts, max_length), truncation=True, max_length=max_length)[
        "input_ids"
    ]
    return found
