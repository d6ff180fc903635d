"""Sources of data: names, tables in memory, one table per split."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from conftest import toy_rows, write_jsonl
from datasets import ClassLabel, Dataset, DatasetDict

from eyas import load_data, load_unlabeled
from eyas.data.datasets import TaskData, ids_of, labels_of, texts_of
from eyas.data.sources import Columns
from eyas.errors import DataError

FRAME = pandas.DataFrame(toy_rows(40))
TEXTS, LABELS = list(FRAME["text"]), list(FRAME["label"])
TABLE = Dataset.from_dict({"text": TEXTS, "label": LABELS})
WORDS = [text.split() for text in TEXTS]
TAGS = [["B-X", *["O"] * (len(words) - 1)] for words in WORDS]


def rows_of(data: TaskData) -> set[tuple[str, str]]:
    """(text, name of its label) of every split."""
    return {
        (text, data.labels[label])
        for part in data.values()
        for text, label in zip(part["text"], labels_of(part), strict=True)
    }


@pytest.mark.parametrize(
    "table",
    [
        FRAME,
        FRAME.set_index(FRAME.index[::-1]),
        FRAME.astype({"label": "category"}),
        {"text": TEXTS, "label": LABELS},
        {"text": FRAME["text"], "label": np.array(LABELS)},
        (TEXTS, LABELS),
        (np.array(TEXTS), FRAME["label"].set_axis(range(40, 0, -1))),
        (TABLE["text"], TABLE["label"]),
        TABLE,
        TABLE.with_format("torch", columns=["label"]),
        TABLE.cast_column("label", ClassLabel(names=["positive", "negative"])),
    ],
    ids=str,
)
def test_load_data_splits_table_like_file(table: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "eyas"):
        data = load_data(table, seed=3)
    assert {name: len(part) for name, part in data.items()} == {"train": 32, "validation": 4, "test": 4}
    assert "data has no validation split: split train with seed 3" in caplog.text
    assert rows_of(data) == set(zip(TEXTS, LABELS, strict=True))


def test_load_data_gives_table_and_file_the_same_fingerprint(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "all.jsonl", toy_rows(40))
    assert load_data(path).fingerprint() == load_data((TEXTS, LABELS)).fingerprint()


def test_load_data_accepts_lists_of_words_and_tags() -> None:
    data = load_data((WORDS, TAGS))
    assert data.task.kind == "tagging"
    assert data.labels == ["O", "B-X"]
    assert all(words in WORDS for part in data.values() for words in texts_of(part))
    assert load_data({"tokens": WORDS, "tags": TAGS}).fingerprint() == data.fingerprint()


def test_load_data_accepts_pairs_numbers_and_named_columns() -> None:
    data = load_data({"text": TEXTS, "text_pair": TEXTS[::-1], "score": np.linspace(0, 1, 40)})
    assert (data.is_pair, data.task.kind) == (True, "regression")
    data = load_data(FRAME.rename(columns={"text": "body", "label": "mark"}), Columns("body", label="mark"))
    assert rows_of(data) == set(zip(TEXTS, LABELS, strict=True))


def test_load_data_refuses_frame_with_missing_labels() -> None:
    with pytest.raises(DataError, match="1 of 40 rows have no label, the first is row 6"):
        load_data(FRAME.assign(label=[None if row == 5 else row % 2 for row in range(40)]))


def test_load_data_accepts_one_table_per_split(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "dev.jsonl", toy_rows(6, 100))
    more = [row["text"] for row in toy_rows(2, 200)]
    data = load_data({"training": FRAME, "dev": path, "test": {"text": more}})
    assert {name: len(part) for name, part in data.items()} == {"train": 40, "validation": 6, "test": 2}
    assert data["validation"]["text"][0] == toy_rows(1, 100)[0]["text"]
    assert labels_of(data["test"]).tolist() == [-1, -1]
    tagged = load_data({"train": (WORDS, TAGS), "validation": (WORDS, TAGS), "test": {"tokens": WORDS[:1]}})
    assert labels_of(tagged["test"]).tolist() == [-1] * len(WORDS[0])


def test_load_data_ignores_other_splits_of_dataset_dict() -> None:
    data = load_data(DatasetDict(train=TABLE, validation=TABLE, unsupervised=TABLE.remove_columns("label")))
    assert set(data) == {"train", "validation"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, r"data: got NoneType, expected a path, a Hub name, a Dataset, .*'train'"),
        (TEXTS, r"data: got list of 40 items, expected a path"),
        ((TEXTS, TEXTS, LABELS), r"data: got tuple of 3 items"),
        (TABLE.to_iterable_dataset(), r"data: got IterableDataset"),
        ({"text": "one", "label": "a"}, r"data, 'text': got str, expected a list"),
        ((TEXTS, 5), r"data: 'int' object is not iterable"),
        ((TEXTS, LABELS[:3]), r"data: .*label expected length 40 but got length 3"),
        ((TEXTS, [0, *LABELS[1:]]), r"data, 'label': .*Expected a list of values of one type"),
        ((TEXTS, np.eye(40)), r"data, 'label': only handle 1-dimensional"),
        ((TEXTS, [[0, 1, 0]] * 40), r"data, row 1: labels \[0, 1, 0\], .*Give each label a column of 0 and 1"),
        (([("a", "b")] * 40, LABELS), r"the first text is \('a', 'b'\), .*'text_pair'"),
        (([None, *TEXTS[1:]], LABELS), r"the first text is None"),
        (([*TEXTS[1:], None], LABELS), r"data, row 40: 'text' is None, expected a text"),
        ({"text": TEXTS}, r"data: no label column.*Columns\(label=...\) or --label"),
        ({"words": TEXTS, "label": LABELS}, r"data: no text column.*Columns\(text=.*--text-pair"),
        ({"text": [], "label": []}, r"data: the training split has no rows"),
        (FRAME.set_axis(["text", "text"], axis=1), r"data: Duplicate column names"),
        ({"validation": FRAME}, r"data: no training split, found validation"),
        ({"trian": FRAME}, r"data, 'trian': got DataFrame, .*Splits are called train"),
        ({"train": FRAME, "validaton": FRAME}, r"data: unknown split 'validaton'"),
        ({"train": FRAME, "val": FRAME, "dev": FRAME}, r"data: val and dev are both the validation split"),
        ({"train": FRAME, "test": "no.csv"}, r"test: no such file: no.csv"),
        ({"train": FRAME, "validation": {"text": TEXTS}}, r"data, validation: no column 'label'"),
        ({"train": FRAME, "validation": LABELS}, r"validation: got list of 40 items"),
    ],
    ids=str,
)
def test_load_data_refuses_invalid_tables(table: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"(?s){message}"):
        load_data(table)


@pytest.fixture
def hub_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the layout of the Hub, with two configurations."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")  # not the user's
    configs: list[dict[str, Any]] = []
    for name in ("sst2", "cola"):
        (tmp_path / "glue" / name).mkdir(parents=True)
        for split, count in (("train", 20), ("validation", 4)):
            rows: list[Any] = [{"sentence": f"{name} {split} {n}", "label": n % 2} for n in range(count)]
            write_jsonl(tmp_path / "glue" / name / f"{split}.jsonl", rows)
        files = [{"split": split, "path": f"{name}/{split}.jsonl"} for split in ("train", "validation")]
        configs.append({"config_name": name, "data_files": files})
    (tmp_path / "glue" / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    return tmp_path / "glue"


def test_load_data_reads_configuration_after_colon(hub_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data(f"{hub_copy}:cola")
    assert {name: len(part) for name, part in data.items()} == {"train": 20, "validation": 4}
    assert data["train"]["text"][0] == "cola train 0"
    assert load_unlabeled(f"{hub_copy}:sst2")["text"][0] == "sst2 train 0"
    with pytest.raises(DataError, match=r"BuilderConfig 'rte' not found.*sst2"):
        load_data(f"{hub_copy}:rte")
    with pytest.raises(DataError, match=r"no train, validation or test file in it .*:default"):
        load_data(hub_copy)
    monkeypatch.chdir(hub_copy.parent)
    (hub_copy.parent / "glue:cola").mkdir()
    write_jsonl(hub_copy.parent / "glue:cola" / "train.jsonl", toy_rows(20))
    assert "cola" not in load_data("glue:cola")["train"]["text"][0]
    write_jsonl(hub_copy.parent / "a:b.jsonl", toy_rows(20))
    assert sum(map(len, load_data("a:b.jsonl").values())) == 20


def test_load_data_explains_missing_hub_name() -> None:
    with pytest.raises(DataError, match=r"'glue:sst2' is neither a file nor a folder .*glue.*after a colon: glue:sst2"):
        load_data("glue:sst2")
    with pytest.raises(DataError, match=r"No such file or folder: reviws.csv:a"):
        load_data("reviws.csv:a")
    with pytest.raises(DataError, match="No such file or folder: reviws/"):
        load_data("reviws/")


@pytest.mark.parametrize(
    "texts",
    [
        {"text": TEXTS},
        FRAME,
        FRAME["text"],
        TABLE,
        DatasetDict(train=TABLE),
        [{"text": TEXTS[:3]}, FRAME["text"][3:]],
    ],
    ids=str,
)
def test_load_unlabeled_accepts_tables(texts: Any) -> None:
    found = load_unlabeled(texts)
    assert found.column_names == ["example_id", "text"]
    assert list(found["text"]) == TEXTS
    assert texts_of(load_unlabeled(texts, tagging=True)) == WORDS


def test_load_unlabeled_reads_string_as_path(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("one\ntwo\n")
    assert list(load_unlabeled(str(tmp_path / "more.txt"))["text"]) == ["one", "two"]
    assert list(load_unlabeled(f"{tmp_path}/*.txt")["text"]) == ["one", "two"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["a good film", "a bad one"], r"'a good film' is neither .*pass texts as \{'text': \[...\]\}"),
        ("moer.txt", r"No such file or folder: moer.txt. A string is a path"),
        (["so good " * 200], r"'so good .* is neither"),
        ([WORDS[0]], r"unlabeled: got list"),
        (5, r"unlabeled: got int"),
        ([], r"no unlabeled texts \(--unlabeled\)"),
        (pandas.Series([], dtype="str"), r"no unlabeled texts"),
        ({"text": ["a", None]}, r"unlabeled, row 2: 'text' is None"),
    ],
    ids=str,
)
def test_load_unlabeled_refuses_invalid_sources(sources: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"(?s){message}"):
        load_unlabeled(sources)


def test_load_data_keeps_loaded_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    aspects = {"text": TEXTS, "price": ["low", "high"] * 20, "service": ["bad", "good", "none", "bad"] * 10}
    data = load_data(aspects)
    caplog.clear()
    again = load_data({"train": data["train"].shuffle(1), "validation": data["train"].select(range(5))})
    assert again.task == data.task
    assert again.task.kind == "aspects"
    assert set(ids_of(again["train"])) == set(ids_of(data["train"]))
    assert not caplog.records
    assert load_data(data).fingerprint() == data.fingerprint()
    assert {name: len(part) for name, part in load_data(data["train"]).items()} == {
        "train": 26,
        "validation": 3,
        "test": 3,
    }


def test_load_data_replaces_ids_that_do_not_match() -> None:
    rows = {"example_id": list(range(40)), "text": TEXTS, "label": LABELS}
    assert load_data(rows).fingerprint() == load_data((TEXTS, LABELS)).fingerprint()
    data = load_data((TEXTS, LABELS))
    upper = load_data(data.map(lambda row: {"text": row["text"].upper()}))
    fresh = load_data({name: (part["text"], part["label"]) for name, part in upper.items()})
    assert all(upper.fingerprint(name) == fresh.fingerprint(name) for name in upper)
