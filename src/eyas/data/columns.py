"""The columns of a table and its task: named by the user, or found by convention."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from eyas.data.readers import Row
from eyas.errors import DataError
from eyas.kinds import GENERATION, IS, KINDS, Kind
from eyas.settings import Columns
from eyas.text import FIELD_MARKS

TEXT_COLUMNS = ("text", "sentence", "review", "content", "tweet")
PAIR_COLUMNS = (
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("sent_A", "sent_B"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text", "text_pair"),
)
LABEL_COLUMNS = ("label", "labels")
SCORE_COLUMNS = ("score", "similarity", "similarity_score")
WORD_COLUMNS = ("tokens", "words", "passage")
TAG_COLUMNS = ("tags", "ner_tags", "chunk_tags", "pos_tags", "seq_label", "labels", "label")
QUESTION_COLUMNS = ("question",)
# Of texts and the texts to be written for them.
SOURCE_COLUMNS, TARGET_COLUMNS = ("source", "text"), ("target",)
# The number of columns in a CoNLL-U file: the second has words, the fourth universal parts of speech.
UNIVERSAL = 10
# A column counts as an aspect if the first rows have at most this many values, each at most this long.
ASPECT_VALUES, ASPECT_CHARACTERS = 8, 20


@dataclass(frozen=True)
class LabelColumns:
    """The columns of labels: the first of the `usual` names or, if `several`, one column each."""

    usual: tuple[str, ...] = (*LABEL_COLUMNS, *SCORE_COLUMNS)
    several: bool = False


COLUMNS: dict[Kind, LabelColumns] = {
    "classification": LabelColumns(),
    "tagging": LabelColumns(TAG_COLUMNS),
    "regression": LabelColumns((*SCORE_COLUMNS, *LABEL_COLUMNS)),
    "multi-label": LabelColumns(several=True),
    "aspects": LabelColumns((), several=True),
    "fields": LabelColumns((*LABEL_COLUMNS, "click")),
}


@dataclass(frozen=True)
class Resolved:
    """The columns of a table; all of them exist.

    Args:
        text: texts, or the words of a sentence; of a row of fields, their names, separated by commas.
        text_pair: second texts, or a question.
        labels: one column, or one per aspect or binary label; empty for unlabeled text.
    """

    task: Kind
    text: str
    text_pair: str | None
    labels: tuple[str, ...]


def resolve(columns: Columns, names: Sequence[str], rows: Sequence[Row], source: str, labeled: bool) -> Resolved:
    """Find the columns that were not named, and check those that were.

    Args:
        names: the columns of the table.
        rows: the first rows, used to infer the task.

    Raises:
        DataError: a named column does not exist, or a required one can't be found.
    """
    if columns.task == GENERATION:
        raise DataError(
            "The task (--task) generation is for models that write (docs/generation.md). Here expected one of "
            f"{', '.join(KINDS)}."
        )
    if columns.task not in (None, *KINDS):
        raise DataError(f"task (--task) is {columns.task!r}, expected one of {', '.join(KINDS)}.")
    label_names = _several(columns.label, names)
    fields = _several(columns.text, names) if columns.task == "fields" else ()
    for wanted in (*(fields or (columns.text,)), columns.text_pair, *label_names):
        if wanted is not None and wanted not in names:
            close = difflib.get_close_matches(wanted, names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise DataError(f"{source}: no column {wanted!r}. It has {list(names)}.{hint}")
    if columns.task == "fields":
        return _fields(fields, label_names, names, source, labeled)
    named = cast(Kind | None, columns.task)
    if named in (None, "tagging"):
        found = _tagging(columns, names, rows, source, labeled)
        if found is not None:
            return found
    text, pair = columns.text, columns.text_pair
    if text is None and pair is None:
        text, pair = next((p for p in PAIR_COLUMNS if p[0] in names and p[1] in names), (None, None))
    text = text or next((name for name in (*TEXT_COLUMNS, *WORD_COLUMNS) if name in names), None)
    if text is None or (text in WORD_COLUMNS and rows and not _is_list(rows[0].get(text))):
        raise DataError(
            f"{source}: no text column. Expected {', '.join(TEXT_COLUMNS)} or a pair such as text1 and "
            f"text2, found {list(names)}. Name it with "
            "Columns(text=..., text_pair=...) or --text (and --text-pair)."
            + f" For {TARGET_COLUMNS[0]}s to be written: --task {GENERATION}."
            * (TARGET_COLUMNS[0] in names)
        )
    if not labeled:
        return Resolved(named or "classification", text, pair, ())
    label_names = label_names or _found_labels(names, rows, (text, pair), named)
    if not label_names:
        raise DataError(
            f"{source}: no label column. Expected label, found {list(names)}. Name it with "
            "Columns(label=...) or --label."
        )
    task = named or _task(label_names, rows)
    if len(label_names) > 1 and not COLUMNS[task].several:
        raise DataError(
            f"{source}: {task} takes one label column; Columns(label=...) or --label names {', '.join(label_names)}."
        )
    wrong = [name for name in label_names if task == "aspects" and IS in name]
    if wrong:
        raise DataError(
            f"{source}: the aspect {wrong[0]!r} has {IS!r} in its name, which separates aspect and value. Rename it."
        )
    return Resolved(task, text, pair, label_names)


def _several(written: str | None, names: Sequence[str]) -> tuple[str, ...]:
    """Columns that are written with commas between them."""
    if written is None:
        return ()
    if written in names or "," not in written:
        return (written,)
    return tuple(name.strip() for name in written.split(","))


def _fields(
    fields: tuple[str, ...], labels: tuple[str, ...], names: Sequence[str], source: str, labeled: bool
) -> Resolved:
    """The columns of rows of fields: those that are named, or all but the label."""
    if labeled or not fields:
        labels = labels or tuple(name for name in COLUMNS["fields"].usual if name in names)[:1]
    if labeled and len(labels) != 1:
        raise DataError(
            f"{source}: fields needs one label column, found {list(labels or names)}. Name it with Columns(label=...) "
            "or --label."
        )
    fields = fields or tuple(name for name in names if name not in labels)
    wrong = [name for name in fields if name in labels or not name or not FIELD_MARKS.isdisjoint(name)]
    if wrong or not fields or len(set(fields)) < len(fields):
        raise DataError(
            f"{source}: the fields are {list(fields)}, expected different columns other than the label, whose names "
            "have no =, comma, bracket or tab. Name them with Columns(text='a,b') or --text a,b."
        )
    return Resolved("fields", ",".join(fields), None, labels if labeled else ())


def _tagging(
    columns: Columns, names: Sequence[str], rows: Sequence[Row], source: str, labeled: bool
) -> Resolved | None:
    """The columns of words and tags; None if the task is not tagging."""
    usual = _usual(names)
    words, tags = columns.text or usual[0], columns.label or usual[1]
    if columns.task is None and not _looks_tagged(rows, words, tags, labeled):
        return None
    if words is None and not labeled:
        words = next((name for name in TEXT_COLUMNS if name in names), None)
    if words is None or (labeled and tags is None):
        raise DataError(
            f"{source}: tagging needs a column of words and one of tags, found {list(names)}. Expected tokens and "
            "tags; name them with Columns(text=..., label=...) or --text and --label."
        )
    if labeled and words == tags:
        raise DataError(f"{source}: one column, expected a word and at least one tag on each line.")
    question = columns.text_pair or next((name for name in QUESTION_COLUMNS if name in names), None)
    return Resolved("tagging", words, question, (str(tags),) if labeled else ())


def _usual(names: Sequence[str]) -> tuple[str | None, str | None]:
    """The columns of words and tags by convention."""
    if is_conll(names):
        return ("1", "3") if len(names) == UNIVERSAL else (names[0], names[-1])
    found = (next((name for name in known if name in names), None) for known in (WORD_COLUMNS, TAG_COLUMNS))
    return next(found), next(found)


def is_conll(names: Sequence[str]) -> bool:
    """Whether the columns come from a CoNLL file, whose columns are numbered."""
    return bool(names) and all(name == str(number) for number, name in enumerate(names))


def _looks_tagged(rows: Sequence[Row], words: str | None, tags: str | None, labeled: bool) -> bool:
    needed = [words, tags] if labeled else [words]
    return bool(rows) and all(name is not None and _is_list(rows[0].get(name)) for name in needed)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.startswith("[") and value.endswith("]"))


def _found_labels(
    names: Sequence[str], rows: Sequence[Row], texts: tuple[str | None, ...], task: Kind | None
) -> tuple[str, ...]:
    one = next((name for name in COLUMNS[task or "classification"].usual if name in names), None)
    if one is not None:
        return (one,)
    others = tuple(name for name in names if name not in texts and _is_aspect([row.get(name) for row in rows]))
    return others if len(others) > 1 and len(others) + sum(t is not None for t in texts) == len(names) else ()


def _is_aspect(values: list[Any]) -> bool:
    if not all(isinstance(value, str | int | float) and 0 < len(str(value)) <= ASPECT_CHARACTERS for value in values):
        return False
    return len(set(values)) <= ASPECT_VALUES


def _task(labels: tuple[str, ...], rows: Sequence[Row]) -> Kind:
    """The task inferred from the labels."""
    if len(labels) > 1:
        found = {str(row.get(name)).strip() for row in rows for name in labels}
        return "multi-label" if found <= {"0", "1", "0.0", "1.0", "True", "False"} else "aspects"
    values = [row.get(labels[0]) for row in rows if row.get(labels[0]) not in (None, "")]
    if any(_is_list(value) for value in values):
        return "multi-label"
    written = [value for value in values if _NUMBER.fullmatch(str(value).strip())]
    if labels[0] in SCORE_COLUMNS and 2 * len(written) > len(values):
        return "regression"  # what is no number is refused with its line
    numbers = [_number(value) for value in values]
    if None in numbers or not numbers:
        return "classification"
    fractions = any(not float(str(number)).is_integer() for number in numbers)
    return "regression" if labels[0] in SCORE_COLUMNS or fractions else "classification"


_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?")


def looks_like_scores(names: Sequence[str]) -> bool:
    """Whether the names of classes are numbers, some with fractions."""
    return all(map(_NUMBER.fullmatch, names)) and any(re.search(r"[.,]0*[1-9]", name) for name in names)


def _number(value: Any) -> float | None:
    try:
        return float(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError, OverflowError):
        return None
