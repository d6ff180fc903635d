"""Files as bytes, compressed or not: what a file is, its first bytes say, not its name."""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from eyas.errors import DataError

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def _open_zstd(raw: Any) -> Any:
    from pyarrow import CompressedInputStream, PythonFile

    return io.BufferedReader(CompressedInputStream(PythonFile(raw), "zstd"))


_OPENERS: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\0": ("xz", lzma.open),
    b"\x28\xb5\x2f\xfd": ("zstd", _open_zstd),
}
# Byte order marks of text that is not UTF-8; the longer first.
_ENCODINGS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# What is no text, and how to make text of it.
_REFUSED = {
    b"PK\x03\x04": "a zip file or a spreadsheet: unpack it, or save it as CSV",
    b"PAR1": "a Parquet file: name it .parquet",
    b"%PDF": "a PDF: extract its text",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
}


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """The content of `path`, decompressed, without a byte order mark; UTF-16 and UTF-32 with one as UTF-8.

    Raises:
        DataError: it is damaged, or of a kind that is no text.
    """
    with open(path, "rb") as raw:
        start = raw.read(8)
        raw.seek(0)
        kind, opener = next((found for magic, found in _OPENERS.items() if start.startswith(magic)), ("", None))
        if opener is None:
            refuse_binary(start, str(path))
            yield _in_utf8(raw, start, path)
            return
        try:
            with opener(raw) as file:
                start = file.peek(8)
                refuse_binary(start, str(path))
                yield _in_utf8(file, start, path)
        except (EOFError, zlib.error, lzma.LZMAError) as error:
            raise _damaged(path, kind, error) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise _damaged(path, kind, error) from None


def _in_utf8(file: Any, start: bytes, path: Path) -> Any:
    if start.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    encoding = next((name for mark, name in _ENCODINGS.items() if start.startswith(mark)), None)
    if encoding is None:
        return file
    try:
        return io.BytesIO(file.read().decode(encoding).encode())
    except UnicodeError as error:
        raise DataError(f"{path} starts like {encoding.upper()} but is not ({error}). Save it as UTF-8.") from None


def refuse_binary(start: bytes, name: str) -> None:
    """Raises DataError if a file or stream that begins with `start` is no text."""
    for magic, what in _REFUSED.items():
        if start.startswith(magic):
            raise DataError(f"{name} is {what}.")


def refuse_encoded(start: bytes, name: str) -> None:
    """Raises DataError if a stream, which is read line by line, is compressed or not UTF-8."""
    kind = next((kind for magic, (kind, _) in _OPENERS.items() if start.startswith(magic)), None)
    if kind:
        raise DataError(f"{name} is compressed with {kind}: decompress it first, or name the file.")
    encoding = next((encoding for mark, encoding in _ENCODINGS.items() if start.startswith(mark)), None)
    if encoding:
        raise DataError(f"{name} is {encoding.upper()}: save it as UTF-8, or name the file.")


def _damaged(path: Path, kind: str, error: Exception) -> DataError:
    return DataError(f"{path} is a damaged {kind} file ({str(error).rstrip('.')}). Copy or compress it again.")
