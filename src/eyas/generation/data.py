"""Pairs of a source and the target to write for it: any source of data -> splits, and token ids."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from datasets import Dataset, DatasetDict
from torch.utils.data import Dataset as TorchDataset

from eyas.data.columns import SOURCE_COLUMNS, TARGET_COLUMNS
from eyas.data.files import COMPRESSED
from eyas.data.opening import SPLIT_NAMES, Source, name_of, open_splits
from eyas.data.readers import Row, file_kind, placed_lines
from eyas.data.rows import example_id
from eyas.errors import DataError
from eyas.settings import Columns
from eyas.text import clean_text, clean_texts

logger = logging.getLogger("eyas")

# A tenth of the rows of a file without splits are for validation, another tenth for testing.
HELD_OUT = 0.1
# Endings of files of lines that belong together: train.source and train.target.
ENDINGS = (("source", "target"), ("src", "tgt"))
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
    opened: Any = _parallel_splits(Path(source), columns) if isinstance(source, str | Path) else {}
    opened = opened or open_splits(source, replace(columns, task=None))
    splits = {split: _read(rows, columns, name) for split, rows in opened.items()}
    if "train" not in splits or not len(splits["train"]):
        raise DataError(f"{name}: no training pairs, expected some.")
    splits = _with_held_out(splits, seed, name)
    known = set(splits["train"]["source"])
    for split in splits.keys() - {"train"}:
        shared = sum(text in known for text in splits[split]["source"])
        if shared:
            logger.warning("%d of %d %s sources also occur in train.", shared, len(splits[split]), split)
    return DatasetDict(splits)


class ParallelRows:
    """Rows of two files of lines that belong together.

    Args:
        files: of the sources and of the targets.
        columns: their names.
    """

    def __init__(self, files: Sequence[Path], columns: Sequence[str]) -> None:
        self.files, self.columns, self.name = list(files), list(columns), str(files[0])

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        for number, lines in enumerate(zip_longest(*map(placed_lines, self.files)), 1):
            if None in lines:
                short, long = sorted(self.files, key=lambda file: sum(1 for _ in placed_lines(file)))
                raise DataError(
                    f"{short} has {number - 1} lines, {long.name} has more. Expected a line with the target for each "
                    "line with a source."
                )
            yield lines[0][0], {name: text for name, (_, text) in zip(self.columns, lines, strict=True)}


def _parallel_splits(folder: Path, columns: Columns) -> dict[str, ParallelRows]:
    """The files of lines in a folder, by split; empty if there are none.

    Raises:
        DataError: it is not clear which are sources and which are targets.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = path.name
        for ending in COMPRESSED:
            name = name.removesuffix(ending)
        stem, _, ending = name.rpartition(".")
        split = next((SPLIT_NAMES[alias] for alias in SPLIT_NAMES if f"{stem}_".startswith(f"{alias}_")), None)
        if split and path.is_file() and not file_kind(path):
            if ending in found.setdefault(split, {}):
                raise DataError(f"{folder}: {found[split][ending].name} and {name} are both the {split} split.")
            found[split][ending] = path
    if "train" not in found:
        return {}
    named = (str(columns.text), str(columns.label))
    endings = next((pair for pair in (named, *ENDINGS) if set(pair) <= found["train"].keys()), None)
    if endings is None:
        raise DataError(
            f"{folder}: files of lines that end with {', '.join(found['train'])}. Name the ending of the sources and "
            "that of the targets with Columns(text=..., label=...) or --text and --label."
        )
    splits = {split: [files.get(ending) for ending in endings] for split, files in found.items()}
    missing = next((split for split, files in splits.items() if None in files), None)
    if missing is not None:
        raise DataError(f"{folder}: the {missing} split has no file that ends with {' or '.join(endings)}.")
    return {split: ParallelRows([file for file in files if file], endings) for split, files in splits.items()}


def _read(rows: Any, columns: Columns, name: str) -> Dataset:
    names = list(rows.columns)
    if NESTED in names and isinstance(languages := next(iter(rows))[1][NESTED], dict):
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


def _with_held_out(splits: dict[str, Dataset], seed: int, name: str) -> dict[str, Dataset]:
    """Split missing validation (and, for a single file, test) rows off train; equal sources stay together."""
    if "validation" in splits:
        return splits
    wanted = ["validation"] if "test" in splits else ["validation", "test"]
    sources = np.unique(np.array(splits["train"]["source"], dtype=object).astype(str), return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(sources.max() + 1)
    count = max(1, round(HELD_OUT * len(order)))
    if len(order) <= count * len(wanted):
        raise DataError(f"{name}: {len(sources)} rows are too few to split into train and {' and '.join(wanted)}.")
    owner = np.minimum(np.argsort(order) // count, len(wanted))[sources]
    parts = {part: splits["train"].select(np.flatnonzero(owner == place)) for place, part in enumerate(wanted)}
    rest = splits["train"].select(np.flatnonzero(owner == len(wanted)))
    sizes = ", ".join(f"{part} {len(rows):,}" for part, rows in {"train": rest, **parts}.items())
    logger.info("%s has no validation split: split train with seed %d into %s rows.", name, seed, sizes)
    return {**splits, "train": rest, **parts}


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
