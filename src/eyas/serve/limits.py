"""What the server takes, and how it says no."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

Text = str | tuple[str, str] | list[str]


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        message: for the client; holds nothing of its text.
    """

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


@dataclass(frozen=True)
class Limits:
    """What a request may hold, and how long it may take.

    Args:
        body_bytes: of a request's body.
        texts: in one request.
        characters: of one text.
        words: of one sentence that comes in words.
        waiting: requests at once, in one worker; others are turned away.
        read_seconds: for a request to arrive whole.
        answer_seconds: for its answer.
    """

    body_bytes: int = 1_000_000
    texts: int = 256
    characters: int = 100_000
    words: int = 20_000
    waiting: int = 64
    read_seconds: float = 10.0
    answer_seconds: float = 10.0

    def check(self, texts: Sequence[Text]) -> None:
        """Raises RequestError for too many texts, and for one that is too long."""
        if len(texts) > self.texts:
            raise _too_large(f"{len(texts):,} texts in one request, at most {self.texts:,} are taken.")
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
