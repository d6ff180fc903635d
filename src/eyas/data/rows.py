"""Rows as Arrow tables: clean texts, ids and label names. Converted files are cached and memory-mapped."""

import hashlib
import itertools
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow
from datasets import Dataset

from eyas.data.columns import Resolved, resolve
from eyas.data.readers import ROWS_LOOKED_AT, Row
from eyas.data.sources import Rows
from eyas.errors import DataError, LabelError
from eyas.kinds import IS, Kind
from eyas.outputs import cache_folder, temporary_beside
from eyas.settings import Columns
from eyas.text import clean_text, split_words, with_question, write_fields, written_list

logger = logging.getLogger("eyas")

UNLABELED = -1
# The label of words that Hugging Face ignores.
IGNORED = -100
# The largest number in float32.
LARGEST = 3.4e38
ROWS_PER_BATCH = 20_000
_YES_OR_NO = {"0", "1", "0.0", "1.0", "True", "False"}
# (values of the label columns, their names, the place for errors) -> label names.
LabelReader = Callable[[list[Any], Sequence[str], str], Any]
# Returns None for a row to skip.
RowReader = Callable[[str, Row, Resolved], dict[str, Any] | None]


def read_table(rows: Rows, columns: Columns, source: str, labeled: bool = True) -> tuple[Dataset, Resolved]:
    """Read `example_id`, `text`, `text_pair` (pairs), `tokens` (tagging) and `label` (by name); also the columns.

    Raises:
        DataError, LabelError: an invalid row; the message names the line.
    """
    first = [row for _, row in itertools.islice(rows, ROWS_LOOKED_AT)]
    resolved = resolve(columns, rows.columns, first, source, labeled)
    if rows.key is None:
        table = pyarrow.Table.from_batches(list(_batches(rows, resolved)), _schema(resolved))
        return Dataset(table), resolved
    about = hashlib.sha256(repr(resolved).encode(errors="backslashreplace")).hexdigest()[:8]
    target = cache_folder("data") / f"{rows.key}-{about}.arrow"
    if not target.exists():
        temporary = temporary_beside(target)
        schema = _schema(resolved)
        with pyarrow.OSFile(str(temporary), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
            for batch in _batches(rows, resolved):
                writer.write_batch(batch)
        temporary.replace(target)
    return Dataset.from_file(str(target)), resolved


def example_id(text: str, text_pair: str | None = None) -> int:
    """A signed 64-bit hash of the text: equal for equal texts, in any file and any order."""
    content = text if text_pair is None else f"{text}\0{text_pair}"
    digest = hashlib.blake2b(content.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _schema(columns: Resolved) -> pyarrow.Schema:
    fields = [("example_id", pyarrow.int64()), ("text", pyarrow.string())]
    if columns.task == "tagging":
        fields.append(("tokens", pyarrow.list_(pyarrow.string())))
    elif columns.text_pair:
        fields.append(("text_pair", pyarrow.string()))
    return pyarrow.schema([*fields, ("label", ROWS[columns.task][1])])


def _batches(rows: Iterable[tuple[str, Row]], columns: Resolved) -> Iterator[pyarrow.RecordBatch]:
    schema = _schema(columns)
    normalize = ROWS[columns.task][0]
    waiting: list[dict[str, Any]] = []
    empty = 0
    for place, row in rows:
        normal = normalize(place, row, columns)
        if normal is None:
            empty += 1
            continue
        waiting.append(normal)
        if len(waiting) == ROWS_PER_BATCH:
            yield pyarrow.RecordBatch.from_pylist(waiting, schema)
            waiting = []
    if waiting:
        yield pyarrow.RecordBatch.from_pylist(waiting, schema)
    if empty:
        logger.warning("%d unlabeled texts have no words and are left out.", empty)


def _text(read_label: LabelReader, place: str, row: Row, columns: Resolved) -> dict[str, Any]:
    texts = []
    for column in (columns.text, columns.text_pair):
        if column is None:
            continue
        value = row.get(column)
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            value = " ".join(value)
        if not isinstance(value, str):
            raise DataError(f"{place}: {column!r} is {value!r:.60}, expected a text.")
        texts.append(clean_text(value))
    normal = dict(zip(("text", "text_pair"), texts, strict=False))
    values = [row.get(name) for name in columns.labels]
    label = read_label(values, columns.labels, place) if values else None
    return {"example_id": example_id(*texts), **normal, "label": label}


def _label(values: list[Any], names: Sequence[str], place: str) -> str | None:
    return _label_text(values[0], place)


def _number(values: list[Any], names: Sequence[str], place: str) -> float | None:
    return _score(values[0], place)


def _labels(values: list[Any], names: Sequence[str], place: str) -> list[str] | None:
    if len(values) > 1:
        return [name for name, value in zip(names, values, strict=True) if _is_yes(value, place)]
    return _label_list(values[0], place)


def _aspects(values: list[Any], names: Sequence[str], place: str) -> list[str] | None:
    named = [str(value).strip() if value == UNLABELED else _label_text(value, place) for value in values]
    if not any(named):
        return None
    if None in named:
        raise LabelError(f"{place}: no value for the aspect {names[named.index(None)]!r}.")
    return [f"{aspect}{IS}{value}" for aspect, value in zip(names, named, strict=True)]


def _sentence(place: str, row: Row, columns: Resolved) -> dict[str, Any] | None:
    """A sentence to tag; None for an unlabeled text without words."""
    words = split_words(row.get(columns.text), place)
    if not words and not columns.labels:
        return None
    if not words:
        raise DataError(f"{place}: a sentence without words. Leave the row out.")
    tags: list[str | None] = [None] * len(words)
    if columns.labels:
        found = row.get(columns.labels[0])
        given = (written_list(found, place) or found.split()) if isinstance(found, str) else found
        if not isinstance(given, list):
            raise DataError(f"{place}: {columns.labels[0]!r} is {found!r:.60}, expected a list of tags.")
        if len(given) != len(words):
            raise DataError(f"{place}: {len(words)} words and {len(given)} tags. Expected one tag for each word.")
        tags = [_label_text(tag, place) for tag in given]
    if columns.text_pair is not None:
        question = split_words(row.get(columns.text_pair), place)
        tags = [*[None] * (len(question) + 1), *tags]
        words = with_question(question, words)
    text = " ".join(words)
    return {"example_id": example_id("\n".join(words)), "text": text, "tokens": words, "label": tags}


def _fields(place: str, row: Row, columns: Resolved) -> dict[str, Any]:
    text = write_fields(row, columns.text.split(","), place)
    value = row.get(columns.labels[0]) if columns.labels else None
    label = None if value in (None, "", UNLABELED, str(UNLABELED)) else int(_is_yes(value, place))
    return {"example_id": example_id(text), "text": text, "label": label}


def _json_list(value: Any, place: str) -> Any:
    """The list in a cell that holds JSON, as labeling tools write it: `["a"]` or `{"choices": ["a", "b"]}`."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    if isinstance(found, dict):
        lists = [part for part in found.values() if isinstance(part, list)]
        if len(lists) != 1:
            raise LabelError(f"{place}: labels {value!r:.60}, expected a list, or an object with one list.")
        found = lists[0]
    return found if isinstance(found, list) else value


def _label_text(label: Any, place: str) -> str | None:
    label = _json_list(label, place)
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if isinstance(label, list) and label:
        raise LabelError(
            f"{place}: several labels {label!r:.60}, expected one. For several, task='multi-label' (--task)."
        )
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if label is None or label in ("", UNLABELED, str(UNLABELED), IGNORED, str(IGNORED)):
        return None
    if isinstance(label, bool | int | str):
        return clean_text(str(label)).strip()
    raise LabelError(f"{place}: label {label!r:.60}, expected a string or an integer.")


def _score(value: Any, place: str) -> float | None:
    if value in (None, ""):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not abs(number) <= LARGEST:
        raise LabelError(f"{place}: score {value!r:.60}, expected a number; for classes, --task classification.")
    return number


def _label_list(value: Any, place: str) -> list[str] | None:
    value = _json_list(value, place)
    if isinstance(value, str):
        written = written_list(value, place)
        value = [part for part in re.split(r"[,|;]", value) if part.strip()] if written is None else written
    if value is None or value in ([UNLABELED], [str(UNLABELED)]):
        return None
    if not isinstance(value, list):
        raise LabelError(f"{place}: labels {value!r:.60}, expected a list.")
    if len(set(map(str, value))) < len(value) and set(map(str, value)) <= _YES_OR_NO:
        raise LabelError(f"{place}: labels {value!r:.60}, expected label names. Give each label a column of 0 and 1.")
    return [text for text in (_label_text(item, place) for item in value) if text]


def _is_yes(value: Any, place: str) -> bool:
    if str(value).strip() not in _YES_OR_NO:
        raise LabelError(f"{place}: {value!r:.60} for a binary label, expected 0 or 1.")
    return str(value).strip() in ("1", "True", "1.0")


_NAMES = pyarrow.list_(pyarrow.string())
# The reader of a row, and the type of its label.
ROWS: dict[Kind, tuple[RowReader, pyarrow.DataType]] = {
    "classification": (partial(_text, _label), pyarrow.string()),
    "tagging": (_sentence, _NAMES),
    "regression": (partial(_text, _number), pyarrow.float64()),
    "multi-label": (partial(_text, _labels), _NAMES),
    "aspects": (partial(_text, _aspects), _NAMES),
    "fields": (_fields, pyarrow.int8()),
}
