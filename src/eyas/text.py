"""Cleaning of every text before tokenization, the same in training and in production."""

import ast
import hashlib
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eyas.errors import DataError

# A tokenizer reads the whole text before it truncates, so a text of 1 MB would cost a second.
# No real text averages 16 characters per token; characters beyond that can't reach the model.
CHARACTERS_PER_TOKEN = 16
# Separates a question from its sentence.
SEPARATOR = "[SEP]"
# A row of fields as a text, which everything else carries: "user=196<tab>age=49".
BETWEEN_FIELDS, IS_VALUE = "\t", "="
# What the name of a field must not have: those two, the commas between names, and what special tokens are written with.
FIELD_MARKS = frozenset("\t\n\r=,[")
# Characters of a value; a longer one is replaced by its hash.
LONGEST_VALUE = 40
_NO_COMMAS = re.compile(r"""\w['"]\s+['"]\w""")


def clean_text(text: Any, index: int = 0) -> str:
    """Return `text` as valid Unicode: lone surrogates become U+FFFD.

    Raises:
        DataError: `text` is not a string; the message names `index`.
    """
    if not isinstance(text, str):
        raise DataError(
            f"Text {index} is {type(text).__name__} ({text!r:.60}), expected a string. "
            "Pass a list of strings; leave out rows without a text."
        )
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def wrong_shape(pair: bool | None) -> DataError:
    """The error for single texts where pairs are expected (`pair`), or the reverse."""
    expected, found = ("two texts", "one") if pair else ("one text", "two")
    return DataError(f"This model reads {expected} at a time, got {found}. In JSON, name them text and text_pair.")


def clean_texts(texts: Iterable[Any], max_length: int) -> list[str]:
    """Clean every text and cut it to the characters that `max_length` tokens can cover."""
    limit = CHARACTERS_PER_TOKEN * max_length
    return [clean_text(text, index)[:limit] for index, text in enumerate(texts)]


def is_too_long(text: Any, max_length: int) -> bool:
    """Whether `clean_texts` cuts a text."""
    return isinstance(text, str) and len(text) > CHARACTERS_PER_TOKEN * max_length


def word_places(text: str) -> list[tuple[int, int]]:
    """The words of a plain text as (start, end) in characters; punctuation is split off, as in BERT."""
    from tokenizers import pre_tokenizers

    return [place for _, place in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]


def split_words(value: Any, place: str) -> list[str]:
    """The words of a sentence, given as a list, a list written as text, or plain text.

    Raises:
        DataError: any other value, or a list without commas, as numpy prints it; the message names `place`.
    """
    if isinstance(value, str):
        parsed = written_list(value, place)
        if parsed is None or (parsed and not any(isinstance(word, str) for word in parsed)):  # "[1]" is a text
            text = clean_text(value)
            return [text[start:end] for start, end in word_places(text)]
        value = parsed
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise DataError(f"{place}: {value!r:.60}, expected a list of words.")
    return [clean_text(word) for word in value]


def with_question(question: list[str], words: list[str]) -> list[str]:
    """A question and its sentence as one list: the question, a separator, the words to tag."""
    return [*question, SEPARATOR, *words]


def written_list(value: str, place: str) -> list[Any] | None:
    """Parse a list written as text; None if `value` is not a list.

    Raises:
        DataError: a list without commas, as numpy prints it; the message names `place`.
    """
    if not (value.startswith("[") and value.endswith("]")):
        return None
    if _NO_COMMAS.search(value):
        raise DataError(f"{place}: {value[:60]!r} is a list without commas, as numpy prints it. Write it with commas.")
    try:
        return list(ast.literal_eval(value))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def write_fields(row: Any, fields: Sequence[str], place: str) -> str:
    """A row of fields as a text, in the order of `fields`; other columns are left out.

    Args:
        row: {field: value}, or such a text. A value is a string, a number, or empty or None if it is not known.

    Raises:
        DataError: a field is missing, or a value is none; the message names `place`.
    """
    if isinstance(row, str):
        row = read_fields(row)
    if not isinstance(row, Mapping):
        raise DataError(f"{place} is {row!r:.60}, expected the fields {', '.join(fields)}, by name.")
    missing = [name for name in fields if name not in row]
    if missing:
        raise DataError(
            f"{place} has no field {missing[0]!r}, expected {', '.join(fields)}. Give a value that is not known as an "
            "empty one."
        )
    return BETWEEN_FIELDS.join(f"{name}{IS_VALUE}{_field_value(row[name], name, place)}" for name in fields)


def read_fields(text: str) -> dict[str, str]:
    """The fields of a text from `write_fields`."""
    pairs = (part.partition(IS_VALUE) for part in text.split(BETWEEN_FIELDS))
    return {name: value for name, _, value in pairs}


_WHOLE = re.compile(r"^(-?[0-9]+)\.0+$")


def _field_value(value: Any, name: str, place: str) -> str:
    if isinstance(value, numbers.Real):
        if value != value:  # NaN; of any size
            return ""
        if not isinstance(value, numbers.Integral) and float(value).is_integer():
            value = int(float(value))  # as a column of integers is read that has gaps
    if isinstance(value, list | Mapping):
        raise DataError(f"{place}: {name!r} is a {type(value).__name__}, expected one value.")
    # A tokenizer finds its special tokens, such as [PAD], anywhere in a text.
    written = "" if value is None else " ".join(clean_text(str(value)).split()).replace("[", "(")
    written = _WHOLE.sub(r"\1", written)  # as a CSV has a column of integers with gaps
    return written if len(written) <= LONGEST_VALUE else f"#{hashlib.sha256(written.encode()).hexdigest()[:16]}"
