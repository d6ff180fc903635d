"""Rows as read from a file or from a table in memory, and their columns."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset

from eyas.data.readers import CONLL, Row, column_names, file_kind, read_rows
from eyas.errors import DataError
from eyas.outputs import file_identity
from eyas.settings import Columns

FORMAT_VERSION = 5


class FileRows:
    """Rows of one file, with a key for the cache of converted files."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path, self.name = path, str(path)
        self.columns = column_names(path)
        # In CoNLL files, the last column is read as the tags unless another is named.
        self._one_width = file_kind(path) in CONLL and columns.label is None
        identity = [*file_identity(path), columns.__dict__, FORMAT_VERSION]
        self.key: str | None = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        for place, row in read_rows(self.path):
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
