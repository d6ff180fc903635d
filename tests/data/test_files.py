"""Files of every kind, compressed or not, whole or damaged: read right, or refused with the file's name."""

import bz2
import gzip
import json
import lzma
import os
import random
import struct
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest

from eyas import load_data, load_unlabeled
from eyas.data.embeddings import read_vectors
from eyas.data.labels import parse_label_map
from eyas.errors import DataError, EyasError
from eyas.exam.plan_file import read_plan

ROWS = [{"text": f'a film of {n} hours, "so" good', "label": "pos" if n % 2 else "neg"} for n in range(40)]
FRAME = pandas.DataFrame(ROWS)
PLAN = "data: reviews.csv\nteacher: teacher\nstudents:\n- architecture: cnn\n  name: caf\u00e9\n"
KINDS: dict[str, Callable[[], bytes]] = {
    ".csv": lambda: FRAME.to_csv(index=False).encode(),
    ".tsv": lambda: "".join(f"{a}\t{b}\n" for a, b in [("text", "label"), *FRAME.itertuples(index=False)]).encode(),
    ".json": lambda: json.dumps(ROWS, indent=1).encode(),
    ".ndjson": lambda: "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
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
    ".zst": lambda content: bytes(pyarrow.compress(content, "zstd", asbytes=True)),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32")
VECTORS = "the 0.1 0.2 0.3\nfilm 0.5 -0.1 0.2\nca\u00fe 1e-3 2 3\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EYAS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("kind", KINDS)
def test_load_data_reads_compressed_files(kind: str, packed: str, tmp_path: Path) -> None:
    """By what they are, whatever their name says."""
    path = tmp_path / f"all{kind}{packed}"
    plain = KINDS[kind]()
    texts = [plain.decode().encode(encoding) for encoding in ENCODINGS]
    for content in (*map(PACK[packed], texts), plain, gzip.compress(plain)):
        path.write_bytes(content)
        data = load_data(path)
        assert sum(map(len, data.values())) == 40
        if kind == ".conll":
            assert data.labels == ["O", "B-PER"]
        else:
            assert data.labels == ["neg", "pos"]
            assert {text for split in data.values() for text in split["text"]} == {row["text"] for row in ROWS}


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_place_reads_compressed_and_encoded_files(packed: str, encoding: str, tmp_path: Path) -> None:
    pack = PACK[packed]
    (tmp_path / f"more.txt{packed}").write_bytes(pack("a film\nanother \u00e9\n".encode(encoding)))
    assert list(load_unlabeled(tmp_path / f"more.txt{packed}")["text"]) == ["a film", "another \u00e9"]
    (tmp_path / f"vectors.txt{packed}").write_bytes(pack(VECTORS.encode(encoding)))
    words, vectors = read_vectors(tmp_path / f"vectors.txt{packed}")
    assert words == ["the", "film", "ca\u00fe"]
    assert vectors[1].tolist() == pytest.approx([0.5, -0.1, 0.2])
    (tmp_path / f"plan.yaml{packed}").write_bytes(pack(PLAN.encode(encoding)))
    assert read_plan(tmp_path / f"plan.yaml{packed}").students[0].architecture == "cnn"


def test_parquet_folders_and_shards_are_read(tmp_path: Path) -> None:
    spark = tmp_path / "reviews"
    spark.mkdir()
    for part in range(2):
        FRAME[part * 20 : part * 20 + 20].to_parquet(spark / f"part-0000{part}.parquet")
    (spark / "_SUCCESS").touch()
    assert sum(map(len, load_data(spark).values())) == len(load_unlabeled(spark)) == 40
    hub = tmp_path / "hub"
    (hub / "test").mkdir(parents=True)
    for part in range(2):
        FRAME[part * 15 : part * 15 + 15].to_parquet(hub / f"train-0000{part}-of-00002.parquet")
    FRAME[30:35].to_parquet(hub / "validation-00000-of-00001.parquet")
    FRAME[35:].to_parquet(hub / "test" / "0000.parquet")
    data = load_data(hub)
    assert {name: len(split) for name, split in data.items()} == {"train": 30, "validation": 5, "test": 5}
    assert data["train"]["text"][0] == ROWS[0]["text"]
    assert data["train"]["text"][-1] == ROWS[29]["text"]
    FRAME.rename(columns={"label": "score"}).to_parquet(hub / "train-00001-of-00002.parquet")
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet has the columns .*score"):
        load_data(hub)


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz", ".zst"])
def test_damaged_file_is_refused_with_its_name(packed: str, tmp_path: Path) -> None:
    whole = PACK[packed](KINDS[".csv"]())
    for name, read in (
        (f"all.csv{packed}", load_data),
        (f"more.txt{packed}", load_unlabeled),
        (f"vectors.txt{packed}", read_vectors),
    ):
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=rf"{name} is a damaged (gzip|bzip2|xz|zstd) file"):
            read(tmp_path / name)  # type: ignore[operator]


def test_file_that_is_no_text_is_refused_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    FRAME.to_parquet(path)
    with pytest.raises(DataError, match=r"all.csv is a Parquet file: name it .parquet"):
        load_data(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("all.csv", KINDS[".csv"]())
    with pytest.raises(DataError, match=r"all.csv is a zip file or a spreadsheet"):
        load_data(path)


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": "a", "label": int("9" * 400)}],
        [{"text": "a", "score": int("9" * 400)}],
        [{"text": "a", "score": 1e39}],
        [{"text": "a", "label": "\ud800"}, {"text": "b", "label": "c"}],
        [{"text": "a", "label": "[" * 100_000}],
        [{"text": "a", "\ud800": "b", "label": "c"}, {"text": "b", "\ud800": "b", "label": "d"}],
        [{"text": "a", "label": "c", "when": datetime(9000, 1, 1)}],
    ],
    ids=lambda rows: "-".join(map(ascii, rows[0])),
)
def test_odd_values_are_read_or_refused(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    if "when" in rows[0]:
        path = path.with_suffix(".parquet")
        pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "label": ["c"], "when": pyarrow.array([2**62])
            .cast(pyarrow.timestamp("us"))}), path)  # fmt: skip
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with suppress(EyasError):
        load_data({"train": path, "validation": path})


@pytest.mark.parametrize(
    "text",
    [
        "data: a\nteacher: t\nunlabeled: 5\n",
        "data: {source: a, augment: 3}\nteacher: t\n",
        f"data: {'a' * 300}\n",
        "data: a\nteacher: t\nstudents: [{architecture: cnn, init: ~nosuchuser/x}]\n",
    ],
)
def test_odd_plans_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(DataError, match=r"plan\.yaml"):
        read_plan(tmp_path / "plan.yaml")


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
    """No other exception than ours, for 1,000 damaged files under right and wrong names.

    EYAS_MUTATIONS sets another number.
    """
    chance = random.Random(0)
    contents = {kind: make() for kind, make in KINDS.items()}
    FRAME.to_parquet(tmp_path / "whole.parquet")
    contents[".parquet"] = (tmp_path / "whole.parquet").read_bytes()
    vectors = struct.pack("<3f", 0.1, 0.2, 0.3)
    contents[".bin"] = b"2 3\nthe " + vectors + b"\nfilm " + vectors
    contents |= {".txt": VECTORS.encode(), ".yaml": PLAN.encode()}
    for number in range(int(os.environ.get("EYAS_MUTATIONS", "1000"))):
        kind, packed = chance.choice(list(contents)), chance.choice(list(PACK))
        name = chance.choice(list(contents)) if number % 10 == 0 else kind
        content = _mutated(contents[kind], chance)
        packed_content = PACK[packed](content)
        if number % 3 == 0:
            packed_content = _mutated(packed_content, chance) if packed_content else b""
        path = tmp_path / f"{number}{name}{packed}"
        path.write_bytes(packed_content)
        for read in (load_data, load_unlabeled, read_vectors, read_plan, lambda file: parse_label_map(str(file))):
            started = time.monotonic()
            with suppress(EyasError):
                read(path)  # type: ignore[operator]
            assert time.monotonic() - started < 10
        path.unlink()
