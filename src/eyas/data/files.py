"""Files as bytes, compressed or not: what a file is, its first bytes say, not its name."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from eyas.errors import DataError

COMPRESSED = (".gz", ".bz2", ".xz")
_OPENERS: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\0": ("xz", lzma.open),
}
# What is no text, and how to make text of it.
_REFUSED = {
    b"\x28\xb5\x2f\xfd": "a zstd file: decompress it first",
    b"PK\x03\x04": "a zip file or a spreadsheet: unpack it, or save it as CSV",
    b"PAR1": "a Parquet file: name it .parquet",
    b"\xff\xfe": "UTF-16: save it as UTF-8",
    b"\xfe\xff": "UTF-16: save it as UTF-8",
}


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """The content of `path`, decompressed.

    Raises:
        DataError: it is damaged, or of a kind that is no text.
    """
    with open(path, "rb") as raw:
        start = raw.read(8)
        raw.seek(0)
        kind, opener = next((found for magic, found in _OPENERS.items() if start.startswith(magic)), ("", None))
        if opener is None:
            refuse_binary(start, str(path))
            yield raw
            return
        try:
            with opener(raw) as file:
                yield file
        except (EOFError, zlib.error, lzma.LZMAError) as error:
            raise _damaged(path, kind, error) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise _damaged(path, kind, error) from None


def refuse_binary(start: bytes, name: str) -> None:
    """Raises DataError if a file or stream that begins with `start` is no text."""
    for magic, what in _REFUSED.items():
        if start.startswith(magic):
            raise DataError(f"{name} is {what}.")


def _damaged(path: Path, kind: str, error: Exception) -> DataError:
    return DataError(f"{path} is a damaged {kind} file ({str(error).rstrip('.')}). Copy or compress it again.")
