"""Pairs of texts: files, columns, splits, bad input."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from eyas.errors import DataError
from eyas.generation import load_pairs
from eyas.generation.data import EncodedPairs
from eyas.settings import Columns

PAIRS = {"source": ["a b", "c", "d e"], "target": ["k l", "m", "n o"]}


def _lines(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        split, _, ending = name.rpartition("_")
        (folder / f"{split}.{ending}.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def test_columns_by_convention_or_name() -> None:
    for columns, named in (
        (PAIRS, Columns()),
        ({"text": PAIRS["source"], "target": PAIRS["target"]}, Columns()),
        ({"en": PAIRS["source"], "de": PAIRS["target"]}, Columns(text="en", label="de")),
    ):
        data = load_pairs({"train": columns, "validation": columns}, named)
        assert data["train"]["source"][:] == PAIRS["source"]
        assert data["train"]["target"][:] == PAIRS["target"]
        assert len(set(data["train"]["example_id"])) == 3


def test_translations_of_the_hub_are_named_by_language() -> None:
    rows = [{"id": "1", "translation": {"de": "eins", "en": "one"}}]
    table = Dataset.from_list(rows)
    data = load_pairs({"train": table, "validation": table}, Columns(text="en", label="de"))
    assert (data["train"]["source"][0], data["train"]["target"][0]) == ("one", "eins")
    with pytest.raises(DataError, match=r"no column of sources, found \['de', 'en'\]"):
        load_pairs({"train": table, "validation": table})


def test_files_of_lines_that_belong_together(tmp_path: Path) -> None:
    parts = {"train_en": "one\ntwo\n", "train_de": "eins\nzwei\n", "val_en": "three\n", "val_de": "drei\n"}
    more = {"test_2016_flickr_en": "four\n", "test_2016_flickr_de": "vier\n"}
    data = load_pairs(_lines(tmp_path, **parts, **more), Columns(text="en", label="de"))
    assert {name: list(zip(rows["source"], rows["target"], strict=True)) for name, rows in data.items()} == {
        "train": [("one", "eins"), ("two", "zwei")],
        "validation": [("three", "drei")],
        "test": [("four", "vier")],
    }
    with pytest.raises(DataError, match=r"end with de, en\. Name the ending .*--text and --label"):
        load_pairs(tmp_path)


def test_a_file_without_splits_is_split(tmp_path: Path) -> None:
    """Equal sources stay together."""
    rows = [(str(number // 2), str(number)) for number in range(100)]
    data = load_pairs({"source": [s for s, _ in rows], "target": [t for _, t in rows]})
    assert {name: len(part) for name, part in data.items()} == {"train": 80, "validation": 10, "test": 10}
    assert not set(data["train"]["source"]) & {*data["validation"]["source"], *data["test"]["source"]}


@pytest.mark.parametrize(
    ("short", "long"), [("de", "en"), ("en", "de")], ids=["more sources than targets", "more targets than sources"]
)
def test_different_counts_are_refused(tmp_path: Path, short: str, long: str) -> None:
    _lines(tmp_path, **{f"train_{long}": "one\ntwo\n", f"train_{short}": "eins\n"})
    with pytest.raises(DataError, match=rf"train\.{short}\.gz has 1 lines, train\.{long}\.gz has more"):
        load_pairs(tmp_path, Columns(text="en", label="de"))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("empty", [{"source": [], "target": []}, {"translation": []}])
def test_empty_splits_are_refused(split: str, empty: dict[str, Any]) -> None:
    splits = {name: {"source": ["a"], "target": ["b"]} for name in ("train", "validation", "test")}
    with pytest.raises(DataError, match=f"no pairs in {split}|no column of sources"):
        load_pairs({**splits, split: empty})


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="Expected columns of the same length"):
        load_pairs({"source": ["a", "b"], "target": ["k"]})


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_empty_targets_are_refused(empty: Any) -> None:
    with pytest.raises(DataError, match=r"row 2: 'target' is .*expected a text\. Leave the row out"):
        load_pairs({"source": ["a", "b", "c"], "target": ["k", empty, "m"]})


def test_missing_columns_are_named() -> None:
    with pytest.raises(DataError, match=r"no column of targets, found \['text', 'label'\].*--text and --label"):
        load_pairs({"text": ["a"], "label": ["x"]})
    with pytest.raises(DataError, match="no column 'de'"):
        load_pairs(PAIRS, Columns(label="de"))


def test_targets_longer_than_the_model_writes_are_refused(writer_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(writer_folder)
    table = {"source": ["a", "b"], "target": ["k", " ".join("l" * 20)]}
    train = load_pairs({"train": table, "validation": table})["train"]
    with pytest.raises(DataError, match=r"1 of 2 targets are longer than the model writes: 21 tokens, at most 12"):
        EncodedPairs(train, tokenizer, max_length=12, max_target=12)
