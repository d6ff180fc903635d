"""Static word vectors for students: from the teacher's embedding table or from a file."""

from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np

from eyas.data.files import open_binary
from eyas.errors import DataError, ModelError

# Smooth inverse frequency (Arora et al. 2017): a token of probability p gets the weight a / (a + p).
SIF = 1e-3
# Standard deviation of the elements: small compared to the weights of a new encoder, large compared to noise.
SCALE = 0.5
# Dimensions that a file of word vectors may have.
MOST_DIMENSIONS = 100_000


def teacher_embeddings(
    teacher_table: np.ndarray, rows: list[list[int]], frequencies: np.ndarray, size: int
) -> np.ndarray:
    """Principal components of the teacher's input embeddings, weighted by smooth inverse frequency.

    Args:
        teacher_table: [teacher vocabulary, hidden] the teacher's input embeddings.
        rows: for each student token, its teacher tokens; their vectors are averaged.
        frequencies: [student vocabulary] how often each token occurs in the transfer set.
        size: the dimension of the result.

    Returns:
        [student vocabulary, size] float32.

    Raises:
        ModelError: `size` is larger than the teacher's.
    """
    if size > teacher_table.shape[1]:
        raise ModelError(
            f"embedding_size (--embedding-size) is {size}, larger than the teacher's "
            f"{teacher_table.shape[1]} dimensions, so there are too few principal components. Choose a smaller "
            "size, or embeddings='random' (--embeddings random)."
        )
    table = np.stack([teacher_table[row].mean(axis=0) if row else np.zeros(teacher_table.shape[1]) for row in rows])
    table = table - table.mean(axis=0)
    _, vectors = np.linalg.eigh(table.T @ table)  # ascending: the last are the principal ones
    components = table @ vectors[:, ::-1][:, :size]
    probability = frequencies / max(frequencies.sum(), 1.0)
    weighted = components * (SIF / (SIF + probability))[:, None]
    return scaled(weighted)


def scaled(table: np.ndarray) -> np.ndarray:
    """The same vectors with elements of standard deviation `SCALE`, float32."""
    return (table * (SCALE / max(float(table.std()), 1e-12))).astype(np.float32)


def read_vectors(path: str | Path, wanted: Collection[str] | None = None) -> tuple[list[str], np.ndarray]:
    """Read word vectors: word2vec text or binary, GloVe or fastText text, compressed or not.

    Args:
        wanted: keep only these words (all when None).

    Returns:
        Words in the file's order and their vectors, [words, size] float32.

    Raises:
        DataError: a line does not parse; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"No such file of word vectors: {path}.")
    keep = None if wanted is None else frozenset(wanted)
    with open_binary(path) as file:
        if ".bin" in path.suffixes:
            words, vectors = _read_binary(file, path, keep)
        else:
            words, vectors = _read_text(file, path, keep)
    if not words:
        raise DataError(f"{path} has none of the required words. Check its language and case.")
    return words, np.stack(vectors)


def _read_text(file: IO[bytes], path: Path, keep: frozenset[str] | None) -> tuple[list[str], list[np.ndarray]]:
    found: dict[str, np.ndarray] = {}
    size: int | None = None
    for number, line in enumerate(file, 1):
        fields = line.decode("utf-8", errors="replace").rstrip().split(" ")
        if number == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):
            size = int(fields[1])  # word2vec's header; GloVe files start with a vector
            continue
        if size is None:
            size = len(fields) - 1
        if len(fields) <= size and fields != [""]:
            raise DataError(f"{path}:{number}: expected a word and {size} numbers, got {line[:60]!r}.")
        word = " ".join(fields[:-size])
        if not word or (keep is not None and word not in keep) or word in found:
            continue
        try:
            found[word] = np.array(fields[-size:], dtype=np.float32)
        except ValueError:
            raise DataError(f"{path}:{number}: expected a word and {size} numbers, got {line[:60]!r}.") from None
        if not np.isfinite(found[word]).all():
            raise DataError(f"{path}:{number}: the vector of {word!r:.60} has a number that is not finite.")
    return list(found), list(found.values())


def _read_binary(file: IO[bytes], path: Path, keep: frozenset[str] | None) -> tuple[list[str], list[np.ndarray]]:
    try:
        count, size = (int(number) for number in file.readline().split())
        if not (0 < size <= MOST_DIMENSIONS):
            raise ValueError
    except ValueError:
        raise DataError(
            f"{path}: not word2vec's binary format (its first line should hold the number of words and of dimensions)."
        ) from None
    found: dict[str, np.ndarray] = {}
    for _ in range(count):
        word = bytearray()
        while (character := file.read(1)) not in (b" ", b""):
            word += character
        vector = file.read(4 * size)
        if len(vector) < 4 * size:
            raise DataError(f"{path}: ends after {len(found)} of {count} words; the file is cut short.")
        name = word.decode("utf-8", errors="replace").lstrip("\n")
        if keep is None or name in keep:
            found.setdefault(name, np.frombuffer(vector, dtype="<f4"))
            if not np.isfinite(found[name]).all():
                raise DataError(f"{path}: the vector of {name!r:.60} has a number that is not finite.")
    return list(found), list(found.values())
