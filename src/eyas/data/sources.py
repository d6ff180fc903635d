"""Where rows come from: a file, a folder of files, a loaded data set, the Hub."""

import hashlib
import json
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, load_dataset

from eyas.data.readers import CONLL, SUFFIXES, Row, column_names, file_kind, read_rows
from eyas.errors import DataError
from eyas.settings import Columns

SPLIT_FILES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
FORMAT_VERSION = 3


class FileRows:
    """Rows of one file, with a key for the cache of converted files."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path, self.name = path, str(path)
        self.columns = column_names(path)
        # Of CoNLL files the last column is taken for the tags, unless one is named.
        self._one_width = file_kind(path) in CONLL and columns.label is None
        stat = path.stat()
        identity = [str(path.resolve()), stat.st_size, stat.st_mtime_ns, columns.__dict__, FORMAT_VERSION]
        self.key: str | None = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        for place, row in read_rows(self.path):
            if self._one_width and len(row) != len(self.columns):
                raise DataError(
                    f"{place}: {len(row)} columns, the first sentence has {len(self.columns)}, so the last is not the "
                    "same everywhere. Name the column of tags with --label."
                )
            yield place, row


class LoadedRows:
    """Rows of a `datasets.Dataset`; class labels come as their names."""

    key: str | None = None

    def __init__(self, dataset: Dataset, name: str) -> None:
        self.dataset, self.name = dataset, name
        self.columns = list(dataset.column_names)

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        classes = {c: f for c, f in self.dataset.features.items() if isinstance(getattr(f, "feature", f), ClassLabel)}
        for number, row in enumerate(self.dataset):
            for column, feature in classes.items():
                row[column] = _names(row[column], getattr(feature, "feature", feature))
            yield f"{self.name}, row {number}", row


def _names(value: Any, feature: ClassLabel) -> Any:
    """Class labels, or lists of them, as their names; -1 stays."""
    if isinstance(value, list):
        return [_names(item, feature) for item in value]
    return feature.int2str(value) if value is not None and value >= 0 else value


def open_splits(source: str | Path | DatasetDict, columns: Columns) -> dict[str, FileRows | LoadedRows]:
    if isinstance(source, DatasetDict):
        return _loaded_splits(source)
    path = Path(source)
    if path.is_file():
        return {"train": FileRows(path, columns)}
    if path.is_dir():
        found: dict[str, FileRows | LoadedRows] = {}
        for split, stems in SPLIT_FILES.items():
            files = [p for p in sorted(path.iterdir()) if file_kind(p) and p.name.split(".")[0] in stems]
            if len(files) > 1:
                raise DataError(f"{path}: {files[0].name} and {files[1].name} are both the {split} split.")
            if files:
                found[split] = FileRows(files[0], columns)
        if not found:
            raise DataError(
                f"{path}: no train, validation or test file in it (found: "
                f"{', '.join(sorted(p.name for p in path.iterdir())[:8]) or 'nothing'})."
            )
        return found
    if path.suffix or str(source).startswith((".", "/", "~")):
        raise DataError(f"No such file or folder: {source}.")
    try:
        return _loaded_splits(load_dataset(str(source)))
    except Exception as error:
        raise DataError(
            f"{source!r} is neither a file nor a folder here, and could not be loaded from the Hub: {error}"
        ) from error


def open_unlabelled(source: str | Path, columns: Columns) -> list[FileRows | LoadedRows]:
    """The files of a file, a folder or a pattern; or the training split of a data set on the Hub.

    Raises:
        DataError: nothing is there.
    """
    path = Path(source)
    found = [path] if path.exists() else sorted(Path(match) for match in glob(str(source), recursive=True))
    files = dict.fromkeys(file for match in found for file in (sorted(match.rglob("*")) if match.is_dir() else [match]))
    readable = [file for file in files if file.is_file() and (file_kind(file) or file == path) and file.name[0] != "."]
    if readable:
        return [FileRows(file, columns) for file in readable]
    if found:
        raise DataError(f"{source}: no file of text in it, expected one of {', '.join(SUFFIXES)} (or one with .gz).")
    splits = open_splits(source, columns)
    if "train" not in splits:
        raise DataError(f"{source}: no training split, found only {', '.join(splits) or 'splits of other names'}.")
    return [splits["train"]]


def _loaded_splits(data: DatasetDict) -> dict[str, FileRows | LoadedRows]:
    known = {alias: split for split, aliases in SPLIT_FILES.items() for alias in aliases}
    return {known[name]: LoadedRows(part, name) for name, part in data.items() if name in known}
