"""Limits on requests, and the error for requests that are refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

Text = str | tuple[str, str] | list[str]


class RequestError(Exception):
    """An error to answer a request with.

    Args:
        message: for the client; contains none of the client's text.
    """

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


@dataclass(frozen=True)
class Limits:
    """Limits on the size and the duration of requests.

    Args:
        body_bytes: bytes of a request's body.
        texts: texts per request.
        characters: characters per text.
        words: words per sentence, if it is sent as words.
        waiting: concurrent requests per worker; others are refused.
        read_seconds: time to receive a request.
        answer_seconds: time to answer it.
    """

    body_bytes: int = 1_000_000
    texts: int = 256
    characters: int = 100_000
    words: int = 20_000
    waiting: int = 64
    read_seconds: float = 10.0
    answer_seconds: float = 10.0

    def check(self, texts: Sequence[Text]) -> None:
        """Raises RequestError if there are too many texts, or a text is too long."""
        if len(texts) > self.texts:
            raise _too_large(f"Expected at most {self.texts:,} texts in one request, got {len(texts):,}.")
        for index, text in enumerate(texts):
            if isinstance(text, list) and len(text) > self.words:
                raise _too_large(f"Text {index} has more than {self.words:,} words.")
            if _length(text) > self.characters:
                raise _too_large(f"Text {index} has more than {self.characters:,} characters.")


def _length(text: Text) -> int:
    if isinstance(text, str):
        return len(text)
    return max(map(len, text)) if isinstance(text, tuple) else sum(map(len, text))


def _too_large(message: str) -> RequestError:
    return RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
