"""Rows of a data file, one at a time, each with its place in the file for error messages."""

import csv
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from eyas.data.files import COMPRESSED, open_binary, refuse_binary, refuse_encoded
from eyas.errors import DataError

logger = logging.getLogger("eyas")

CONLL = (".conll", ".conllu", ".iob", ".bio")
JSON = (".jsonl", ".json", ".ndjson")
SUFFIXES = (".csv", ".tsv", *JSON, ".parquet", ".txt", *CONLL)
LONGEST_LINE = 64 << 20
# Rows whose columns are looked at.
ROWS_LOOKED_AT = 200
# Of these, the share that must have a column that the first row lacks.
SHARE_OF_ROWS = 0.1
# Columns that are kept where fewer have them: most texts may be unlabeled.
KEPT = ("label", "labels")
# How a line of JSON starts; any other is plain text.
JSON_STARTS = ("{", '"')

Row = dict[str, Any]


def file_kind(path: Path) -> str | None:
    """The suffix that decides how `path` is read, ignoring compression; None if unknown."""
    name = path.name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def column_names(path: Path) -> list[str]:
    """The columns of `path`, from its header or its first row."""
    if file_kind(path) in (".csv", ".tsv"):
        header = next(_csv_rows(path), None)
        if header is None:
            raise DataError(f"{path} is empty, expected a header line and rows.")
        return header[1]
    first = next(read_rows(path), None)
    if first is None:
        raise DataError(f"{path} has no rows.")
    spaced = next((word for word in first[1]["0"] if " " in word), None) if file_kind(path) in CONLL else None
    if spaced is not None:
        logger.warning("%s: %r has a space in it and is read as one word: tabs separate the columns.", first[0], spaced)
    if file_kind(path) in CONLL:
        return list(first[1])
    rows = [row for _, row in islice(read_rows(path), ROWS_LOOKED_AT)]
    counts = Counter(chain.from_iterable(rows))
    # A JSON row may leave out what is empty; what few rows have is no column, unless it holds their labels.
    return [name for name in counts if name in first[1] or name in KEPT or SHARE_OF_ROWS * len(rows) <= counts[name]]


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield (place, row), with `file:line` as the place.

    CSV follows RFC 4180. In TSV, quotes are ordinary characters, as in GLUE's files. A `.txt` file has
    one text per line. A JSON file has one object per line, or an array of objects. A CoNLL file has one row per
    sentence, with the columns "0", "1" and so on, each a list.
    All but Parquet may be compressed with gzip, bzip2, xz or zstd, and be UTF-8, or UTF-16 with a byte order mark.

    Raises:
        DataError: bytes that are not UTF-8, or a row that does not parse; the message names file and line.
    """
    kind = file_kind(path)
    if kind in (".csv", ".tsv"):
        return _table_rows(path)
    if kind in JSON:
        return _json_rows(path)
    if kind == ".parquet":
        return _parquet_rows(path)
    if kind == ".txt":
        return ((place, {"text": line}) for place, line in placed_lines(path) if line.strip())
    if kind in CONLL:
        return _conll_rows(path)
    raise DataError(f"{path}: unknown file type, expected one of {', '.join(SUFFIXES)} ({', '.join(COMPRESSED)}).")


def placed_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file, each with its place."""
    with open_binary(path) as file:
        for number, line in _whole_lines(file, str(path)):
            if number == 1 and b"\0" in line:
                raise DataError(f"{path} is not a text file: its first line has zero bytes.")
            try:
                yield f"{path}:{number}", line.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: byte {error.start + 1} of the line is not valid UTF-8 "
                    f"(0x{line[error.start]:02x}). Save the file as UTF-8, or repair this line."
                ) from None


def _csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    csv.field_size_limit(sys.maxsize)
    lines = (line + "\n" for _, line in placed_lines(path))
    if file_kind(path) == ".tsv":
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, strict=True)
    try:
        for row in reader:
            if row:
                yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not valid CSV ({error}). Check the quotes there.") from None


def _table_rows(path: Path) -> Iterator[tuple[str, Row]]:
    rows = _csv_rows(path)
    _, header = next(rows, ("", []))
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: column {repeated[0]!r} occurs twice in the header {header}. Rename one.")
    for place, row in rows:
        if len(row) != len(header):
            raise DataError(f"{place}: {len(row)} fields, expected {len(header)} ({', '.join(header)}).")
        yield place, dict(zip(header, row, strict=True))


def _json_rows(path: Path) -> Iterator[tuple[str, Row]]:
    first = True
    for place, line in placed_lines(path):
        if not line.strip():
            continue
        if first and line.lstrip().startswith("["):
            yield from _json_array(path)
            return
        first = False
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{place}: not valid JSON ({error}). Expected one object per line, or an array of objects."
            ) from None
        if not isinstance(row, dict):
            raise DataError(f'{place}: {type(row).__name__}, expected a JSON object such as {{"text": ...}}.')
        yield place, row


def _json_array(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        with open_binary(path) as file:
            rows = json.loads(file.read())
    except (ValueError, RecursionError) as error:  # also for invalid UTF-8
        raise DataError(f"{path}: not a valid JSON array ({error}).") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f'{path}, row {number}: {type(row).__name__}, expected an object such as {{"text": ...}}.')
        yield f"{path}, row {number}", row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (pyarrow.ArrowException, OSError, OverflowError, ValueError) as error:
        what = str(error).rstrip(".")[:200]
        raise DataError(f"{path} is damaged, or has values that Python can't hold ({what}).") from None


def _conll_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Sentences of a file with one word per line; `-DOCSTART-`, comments and blank lines are not words."""
    style = next((_conll_fields(line)[1] for _, line in placed_lines(path) if _is_word(line)), None)
    sentence: list[list[str]] = []
    first = ""
    for place, line in placed_lines(path):
        fields, own = _conll_fields(line)
        is_comment = line.startswith("#") and not sentence and own != style  # a word may also start with #
        if not line.strip() or fields[0] == "-DOCSTART-" or is_comment:
            if sentence:
                yield first, _as_columns(sentence)
            sentence = []
            continue
        if file_kind(path) == ".conllu" and not fields[0].isdigit():
            continue  # a contraction, in addition to its parts
        if sentence and len(fields) != len(sentence[0]):
            raise DataError(
                f"{place}: {len(fields)} columns ({line[:60]!r}), the line above has {len(sentence[0])}. "
                "Expected a word and its tags on each line, all separated by tabs, or all by spaces."
            )
        first = first if sentence else place
        sentence.append(fields)
    if sentence:
        yield first, _as_columns(sentence)


def _is_word(line: str) -> bool:
    return bool(line.strip()) and not line.startswith(("#", "-DOCSTART-"))


def _conll_fields(line: str) -> tuple[list[str], tuple[int, bool]]:
    """A line's columns, and its style: the number of columns, and whether tabs separate them."""
    tabs = "\t" in line.rstrip()
    fields = line.rstrip().split("\t") if tabs else line.split()
    return fields, (len(fields), tabs)


def _as_columns(sentence: list[list[str]]) -> Row:
    return {str(number): [word.strip() for word in column] for number, column in enumerate(zip(*sentence, strict=True))}


def inputs_of(row: Row) -> tuple[Any, ...]:
    """The model's inputs in a row: words, a text, or a pair of texts."""
    names = ("tokens",) if row.get("tokens") is not None else ("text", "text_pair")
    return tuple(row[name] for name in names if name in row)


def parse_input_line(line: str, place: str) -> Row:
    """One line of `predict`'s input: a JSON object, a JSON string or plain text."""
    if line.lstrip().startswith(JSON_STARTS):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            if line.lstrip().startswith("{"):
                raise DataError(f"{place}: starts like JSON but does not parse: {line[:60]!r}.") from None
            return {"text": line}
        return value if isinstance(value, dict) else {"text": value}
    return {"text": line}


def text_lines(file: IO[bytes], name: str) -> Iterator[str]:
    """Lines of a binary stream as text, with invalid UTF-8 replaced by U+FFFD.

    Raises:
        DataError: the stream is no text, or a line is longer than `LONGEST_LINE`; `name` is its name in the message.
    """
    for number, line in _whole_lines(file, name):
        if number == 1:
            _check_first(line, name)
        yield line.decode("utf-8" if number > 1 else "utf-8-sig", errors="replace").rstrip("\r\n")


def text_blocks(file: IO[bytes], name: str, size: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a binary stream in blocks of about `size` bytes, each with the number of its first line.

    Raises:
        DataError: as for `text_lines`, after the lines before it.
    """
    first = 1
    while block := file.read(min(size, LONGEST_LINE)):
        rest = b"" if block.endswith(b"\n") else file.readline(LONGEST_LINE)
        is_whole = len(rest) < LONGEST_LINE
        block = block + rest if is_whole else block[: block.rfind(b"\n") + 1]
        if first == 1:
            _check_first(block.partition(b"\n")[0], name)
        if block:
            yield first, block
        first += block.count(b"\n")
        if not is_whole:
            raise _too_long(name, first)


def lines_of(first: int, block: bytes) -> list[str]:
    """The lines of a block of `text_blocks`, with invalid UTF-8 replaced by U+FFFD."""
    lines = block.decode("utf-8" if first > 1 else "utf-8-sig", errors="replace").split("\n")
    if block.endswith(b"\n"):
        lines.pop()
    return [line.rstrip("\r") for line in lines] if b"\r" in block else lines


def _check_first(line: bytes, name: str) -> None:
    refuse_binary(line, name)
    refuse_encoded(line, name)
    if b"\0" in line:
        raise DataError(f"{name} is not a text file: there are zero bytes in its first line.")


def _whole_lines(file: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Each line with its number from 1; raises DataError at one that would fill the memory."""
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
        if len(line) == LONGEST_LINE:
            raise _too_long(name, number)
        yield number, line


def _too_long(name: str, number: int) -> DataError:
    return DataError(
        f"{name}:{number}: a line of more than {LONGEST_LINE >> 20} MB. Expected one text per line; cut it."
    )
