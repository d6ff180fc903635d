"""Folders of files of lines that belong together, train.en and train.de: rows by split."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from eyas.data.files import COMPRESSED
from eyas.data.opening import SPLIT_NAMES
from eyas.data.readers import Row, file_kind, placed_lines
from eyas.errors import DataError
from eyas.settings import Columns

# Endings of files of lines that belong together: train.source and train.target.
ENDINGS = (("source", "target"), ("src", "tgt"))


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


def open_parallel(folder: Path, columns: Columns) -> dict[str, ParallelRows]:
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
