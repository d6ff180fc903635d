import gzip
from pathlib import Path

import numpy as np
import pytest

from eyas.data.embeddings import SCALE, read_vectors, teacher_embeddings
from eyas.errors import DataError, ModelError


def test_teacher_embeddings_keep_distances() -> None:
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(32, 4)))[0]
    table = random.normal(size=(50, 4)) @ basis.T  # rank 4 in 32 dimensions
    made = teacher_embeddings(table, [[i] for i in range(50)], np.zeros(50), 4)
    centered = table - table.mean(0)
    expected = np.linalg.norm(centered[:, None] - centered[None], axis=-1)
    found = np.linalg.norm(made[:, None] - made[None], axis=-1)
    np.testing.assert_allclose(found / found.max(), expected / expected.max(), atol=1e-5)
    assert made.std() == pytest.approx(SCALE, rel=1e-4)


def test_teacher_embeddings_shrink_frequent_tokens() -> None:
    table = np.random.default_rng(0).normal(size=(10, 8))
    rows = [[i] for i in range(10)]
    even = teacher_embeddings(table, rows, np.ones(10), 4)
    skewed = teacher_embeddings(table, rows, np.array([1e6, *[1.0] * 9]), 4)
    ratio = np.linalg.norm(skewed[0]) / np.linalg.norm(skewed[1:], axis=1).mean()
    assert ratio < 0.1 * np.linalg.norm(even[0]) / np.linalg.norm(even[1:], axis=1).mean()


def test_teacher_embeddings_refuse_too_many_dimensions() -> None:
    with pytest.raises(ModelError, match="larger than the teacher's 8 dimensions"):
        teacher_embeddings(np.ones((3, 8)), [[0], [1], [2]], np.ones(3), 9)


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_read_vectors_reads_text_files(tmp_path: Path, header: bool, zipped: bool) -> None:
    content = ("3 2\n" if header else "") + "good 1 2\nfilm 3 4\nnew york 5 6\n"
    path = tmp_path / ("v.txt.gz" if zipped else "v.txt")
    path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    words, vectors = read_vectors(path, {"film", "new york"} if header else {"film"})
    assert words == (["film", "new york"] if header else ["film"])
    assert vectors[0].tolist() == [3, 4]


def test_read_vectors_reads_binary_files(tmp_path: Path) -> None:
    path = tmp_path / "v.bin"
    rows = [b"good " + np.array([1, 2], "<f4").tobytes(), b"\nfilm " + np.array([3, 4], "<f4").tobytes()]
    path.write_bytes(b"2 2\n" + b"".join(rows))
    words, vectors = read_vectors(path)
    assert words == ["good", "film"]
    assert vectors.tolist() == [[1, 2], [3, 4]]
    path.write_bytes(b"2 2\n" + rows[0])
    with pytest.raises(DataError, match="ends after 1 of 2 words"):
        read_vectors(path)


def test_read_vectors_refuses_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("2 2\ngood 1 2\nbad 1 x\n")
    with pytest.raises(DataError, match=r"v.txt:3: expected a word and 2 numbers"):
        read_vectors(path)
    with pytest.raises(DataError, match="none of the required words"):
        read_vectors(path, {"zebra"})
    with pytest.raises(DataError, match="No such file"):
        read_vectors(tmp_path / "nothing.txt")
