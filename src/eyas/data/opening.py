"""Any source -> rows by split: a file, a folder of files, tables in memory, the Hub."""

import logging
import os
import re
from collections.abc import Mapping
from glob import glob
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import pandas
from datasets import DatasetDict, load_dataset

from eyas.data.files import COMPRESSED
from eyas.data.readers import SUFFIXES, file_kind
from eyas.data.sources import FileRows, LoadedRows, Rows
from eyas.data.tables import Table, as_dataset
from eyas.errors import DataError
from eyas.settings import Columns

logger = logging.getLogger("eyas")

SPLIT_FILES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
# The end of the name of one of several files.
_SHARD = re.compile(r"-\d+-of-\d+")
SPLIT_NAMES = {alias: split for split, aliases in SPLIT_FILES.items() for alias in aliases}
# Accepted sources of data; a mapping is a table, or has a table or a file for each split.
Source: TypeAlias = str | Path | Table


def name_of(source: Any, argument: str) -> str:
    """A source's name in messages: its path or Hub name, or the name of its argument."""
    return str(source) if isinstance(source, str | Path) else argument


def open_splits(source: Source, columns: Columns, argument: str = "data") -> dict[str, Rows]:
    """Rows by split: `train`, and `validation` and `test` if they exist.

    Args:
        argument: the name of an in-memory source in messages.

    Raises:
        DataError: the source does not exist, or has no training split.
    """
    name = name_of(source, argument)
    if isinstance(source, str | Path):
        splits = _open_place(source, columns)
    elif isinstance(source, DatasetDict) or (isinstance(source, Mapping) and SPLIT_NAMES.keys() & source.keys()):
        splits = _known_splits(source, columns, name)
    else:
        splits = {"train": LoadedRows(as_dataset(source, name), name)}
    if "train" not in splits:
        found = source if isinstance(source, Mapping) else splits
        raise DataError(f"{name}: no training split, found {', '.join(map(str, found)) or 'splits of other names'}.")
    return splits


def open_unlabeled(source: Source | pandas.Series, columns: Columns) -> list[Rows]:
    """Rows of a file, of all files in a folder or matching a pattern, of a table, or of the training split.

    Raises:
        DataError: the source does not exist, or has no text.
    """
    if not isinstance(source, str | Path):
        table = {"text": source} if isinstance(source, pandas.Series) else source
        return [open_splits(table, columns, "unlabeled")["train"]]
    path = Path(source)
    found = [path] if os.path.exists(path) else sorted(Path(match) for match in glob(str(source), recursive=True))
    files = dict.fromkeys(file for match in found for file in (sorted(match.rglob("*")) if match.is_dir() else [match]))
    readable = [file for file in files if file.is_file() and (file_kind(file) or file == path) and file.name[0] != "."]
    if readable:
        return [FileRows(file, columns) for file in readable]
    if found:
        raise DataError(f"{source} has no text file, expected one of {', '.join(SUFFIXES)} ({', '.join(COMPRESSED)}).")
    try:
        return [open_splits(source, columns)["train"]]
    except DataError as error:
        raise DataError(f"{error} A string is a path or a Hub name; pass texts as {{'text': [...]}}.") from error


def _open_place(source: str | Path, columns: Columns) -> dict[str, Rows]:
    """A file, a folder, or a data set on the Hub."""
    path = Path(source)
    if os.path.isfile(path):  # Path.is_file raises on a string that is too long for a path
        return {"train": FileRows(path, columns)}
    if os.path.isdir(path):
        return _open_folder(path, columns)
    name, _, configuration = str(source).partition(":")
    is_copy = bool(configuration) and os.path.isdir(name)
    if not is_copy and (path.suffix or name.startswith((".", "/", "~")) or name.endswith("/")):
        raise DataError(f"No such file or folder: {source}.")
    try:
        data = load_dataset(name, configuration or None)
    except Exception as error:
        raise DataError(
            f"{str(source)!r:.100} is neither a file nor a folder here, and could not be loaded from the Hub: "
            f"{str(error).rstrip('.')}. Put a configuration after a colon: glue:sst2."
        ) from error
    return _known_splits(data, columns, str(source))


def _open_folder(path: Path, columns: Columns) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    entries = {entry: _files_of(entry) for entry in sorted(path.iterdir())}
    for split, stems in SPLIT_FILES.items():
        own = [entry for entry, files in entries.items() if files and _stem(entry) in stems]
        shards = [entry for entry in own if _SHARD.search(entry.name)]
        if len(own) > max(len(shards), 1):
            raise DataError(f"{path}: {own[0].name} and {own[1].name} are both the {split} split.")
        if own:
            files = list(chain.from_iterable(entries[entry] for entry in own))
            found[split] = FileRows(own[0] if len(own) == 1 else path / f"{split}-*", columns, files)
    parts = [entry for entry, files in entries.items() if files == [entry]]
    if not found and parts and all(file_kind(part) == ".parquet" for part in parts):
        found["train"] = FileRows(path, columns, parts)
    if not found:
        raise DataError(
            f"{path}: no train, validation or test file in it (found: "
            f"{', '.join(sorted(p.name for p in path.iterdir())[:8]) or 'nothing'}). For a data set downloaded "
            f"from the Hub, add the configuration: {path}:default."
        )
    read = {file for rows in found.values() for file in getattr(rows, "parts", ())}
    others = sorted(entry.name for entry, files in entries.items() if files and read.isdisjoint(files))
    if others:
        logger.info("%s: not read: %s.", path, ", ".join(others[:8]) + (" ..." if len(others) > 8 else ""))
    return found


def _stem(entry: Path) -> str:
    """The name of a file or folder, without endings and the number of one of several."""
    return _SHARD.sub("", entry.name.split(".")[0]).lower()


def _files_of(entry: Path) -> list[Path]:
    """A data file, or the Parquet files of a folder."""
    if entry.name.startswith((".", "_")) or entry.is_file():
        return [entry] if file_kind(entry) and entry.name[0] not in "._" else []
    return [file for file in sorted(entry.glob("*.parquet")) if file.is_file() and file.name[0] not in "._"]


def _known_splits(data: Mapping[str, Any], columns: Columns, name: str) -> dict[str, Rows]:
    """The train, validation and test splits. Others are ignored in a `DatasetDict`, refused in a dict."""
    other = next((alias for alias in data if alias not in SPLIT_NAMES), None)
    if other is not None and not isinstance(data, DatasetDict):
        raise DataError(f"{name}: unknown split {other!r}, expected train, validation and test.")
    known = {alias: SPLIT_NAMES[alias] for alias in data if alias in SPLIT_NAMES}
    twice = [alias for alias, split in known.items() if list(known.values()).count(split) > 1]
    if twice:
        raise DataError(f"{name}: {twice[0]} and {twice[1]} are both the {known[twice[0]]} split.")
    return {split: _open_split(data[alias], columns, alias) for alias, split in known.items()}


def _open_split(part: str | Path | Table, columns: Columns, name: str) -> Rows:
    if not isinstance(part, str | Path):
        return LoadedRows(as_dataset(part, name), name)
    files = _files_of(Path(part)) if os.path.isdir(part) else []
    if not files and not os.path.isfile(part):
        raise DataError(f"{name}: no such file: {part}. Expected a file or a table for each split.")
    return FileRows(Path(part), columns, files)
