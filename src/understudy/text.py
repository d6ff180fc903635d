"""What every text goes through before a tokenizer sees it, in training and in production alike."""

from collections.abc import Iterable
from typing import Any

from understudy.errors import DataError

# A tokenizer reads the whole text before it truncates, so a text of 1 MB would cost a second.
# No real text has 16 characters a token on average; what lies beyond can't reach the model.
CHARACTERS_PER_TOKEN = 16


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
    return DataError(f"This model reads {expected} at a time, got {found}. In JSON they are called text and text_pair.")


def clean_texts(texts: Iterable[Any], max_length: int) -> list[str]:
    """Clean every text and cut it to the characters that `max_length` tokens can cover."""
    limit = CHARACTERS_PER_TOKEN * max_length
    return [clean_text(text, index)[:limit] for index, text in enumerate(texts)]
