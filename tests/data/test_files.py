"""Files of every kind, compressed or not, whole or damaged: read right, or refused with the file's name."""

import bz2
import gzip
import json
import lzma
import random
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas
import pytest

from eyas import load_data, load_unlabeled
from eyas.data.embeddings import read_vectors
from eyas.errors import DataError, EyasError

ROWS = [{"text": f'a film of {n} hours, "so" good', "label": "pos" if n % 2 else "neg"} for n in range(40)]
FRAME = pandas.DataFrame(ROWS)
KINDS: dict[str, Callable[[], bytes]] = {
    ".csv": lambda: FRAME.to_csv(index=False).encode(),
    ".tsv": lambda: "".join(f"{a}\t{b}\n" for a, b in [("text", "label"), *FRAME.itertuples(index=False)]).encode(),
    ".jsonl": lambda: "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    ".conll": lambda: "".join(
        "".join(f"{word} O\n" for word in row["text"].split()) + "Anna B-PER\n\n" for row in ROWS
    ).encode(),
}  # fmt: skip
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EYAS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("kind", KINDS)
def test_load_data_reads_compressed_files(kind: str, packed: str, tmp_path: Path) -> None:
    """By what they are, whatever their name says."""
    path = tmp_path / f"all{kind}{packed}"
    for content in (PACK[packed](KINDS[kind]()), KINDS[kind](), gzip.compress(KINDS[kind]())):
        path.write_bytes(content)
        data = load_data(path)
        assert sum(map(len, data.values())) == 40
        if kind == ".conll":
            assert data.labels == ["O", "B-PER"]
        else:
            assert data.labels == ["neg", "pos"]
            assert {text for split in data.values() for text in split["text"]} == {row["text"] for row in ROWS}


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz"])
def test_damaged_file_is_refused_with_its_name(packed: str, tmp_path: Path) -> None:
    whole = PACK[packed](KINDS[".csv"]())
    for name, read in (
        (f"all.csv{packed}", load_data),
        (f"more.txt{packed}", load_unlabeled),
        (f"vectors.txt{packed}", read_vectors),
    ):
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=rf"{name} is a damaged (gzip|bzip2|xz) file"):
            read(tmp_path / name)  # type: ignore[operator]


def test_file_that_is_no_text_is_refused_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    FRAME.to_parquet(path)
    with pytest.raises(DataError, match=r"all.csv is a Parquet file: name it .parquet"):
        load_data(path)
    path.write_text(FRAME.to_csv(index=False), encoding="utf-16")
    with pytest.raises(DataError, match=r"all.csv is UTF-16: save it as UTF-8"):
        load_data(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("all.csv", KINDS[".csv"]())
    with pytest.raises(DataError, match=r"all.csv is a zip file or a spreadsheet"):
        load_data(path)


def _mutated(content: bytes, chance: random.Random) -> bytes:
    """Truncated, with flipped bits, with a part repeated, or in another encoding."""
    kind, place = chance.randrange(4), chance.randrange(len(content))
    if kind == 0:
        return content[:place]
    if kind == 1:
        changed = bytearray(content)
        for _ in range(chance.randrange(1, 8)):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return bytes(changed)
    if kind == 2:
        return content[:place] + content[chance.randrange(len(content)) :]
    return content.decode(errors="replace").encode(
        chance.choice(["utf-16", "latin-1", "utf-8-sig", "cp037"]), "replace"
    )


@pytest.mark.process
def test_mutated_files_are_read_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No other exception than ours, for 1,000 damaged files under right and wrong names."""
    chance = random.Random(0)
    contents = {kind: make() for kind, make in KINDS.items()}
    FRAME.to_parquet(tmp_path / "whole.parquet")
    contents[".parquet"] = (tmp_path / "whole.parquet").read_bytes()
    for number in range(1000):
        kind, packed = chance.choice(list(contents)), chance.choice(list(PACK))
        name = chance.choice(list(contents)) if number % 10 == 0 else kind
        content = _mutated(contents[kind], chance)
        packed_content = PACK[packed](content)
        if number % 3 == 0:
            packed_content = _mutated(packed_content, chance) if packed_content else b""
        path = tmp_path / f"{number}{name}{packed}"
        path.write_bytes(packed_content)
        for read in (load_data, load_unlabeled):
            with suppress(EyasError):
                read(path)  # type: ignore[operator]
        path.unlink()
