"""Rows as read from a file or from a table in memory, and their columns."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset

from eyas.data.readers import CONLL, Row, column_names, file_kind, read_rows
from eyas.errors import DataError
from eyas.outputs import file_identity
from eyas.settings import Columns

FORMAT_VERSION = 7


class FileRows:
    """Rows of a file, or of the parts of one, with a key for the cache of converted files.

    Args:
        path: the file; with `parts`, what they are named after in messages.
        parts: files with the same columns, in order.
    """

    def __init__(self, path: Path, columns: Columns, parts: Sequence[Path] = ()) -> None:
        self.name, self.parts = str(path), list(parts) or [path]
        self.columns = column_names(self.parts[0])
        for part in self.parts[1:]:
            found = column_names(part)
            if found != self.columns:
                raise DataError(f"{part} has the columns {found}, {self.parts[0]} has {self.columns}.")
        # In CoNLL files, the last column is read as the tags unless another is named.
        self._one_width = file_kind(self.parts[0]) in CONLL and columns.label is None
        identity = [*map(file_identity, self.parts), columns.__dict__, FORMAT_VERSION]
        self.key: str | None = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        for place, row in chain.from_iterable(map(read_rows, self.parts)):
            if self._one_width and len(row) != len(self.columns):
                raise DataError(
                    f"{place}: {len(row)} columns, the first sentence has {len(self.columns)}, so the last column "
                    "is ambiguous. Name the tag column with Columns(label=...) or --label."
                )
            yield place, row


class LoadedRows:
    """Rows of a `datasets.Dataset`; class labels are given by name."""

    key: str | None = None

    def __init__(self, dataset: Dataset, name: str) -> None:
        self.dataset, self.name = dataset, name
        self.columns = list(dataset.column_names)

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        classes = {c: f for c, f in self.dataset.features.items() if isinstance(getattr(f, "feature", f), ClassLabel)}
        for number, row in enumerate(self.dataset, 1):
            for column, feature in classes.items():
                row[column] = _names(row[column], getattr(feature, "feature", feature))
            yield f"{self.name}, row {number}", row


def _names(value: Any, feature: ClassLabel) -> Any:
    """Class labels, or lists of them, by name; -1 is kept."""
    if isinstance(value, list):
        return [_names(item, feature) for item in value]
    return feature.int2str(value) if value is not None and value >= 0 else value


Rows = FileRows | LoadedRows
