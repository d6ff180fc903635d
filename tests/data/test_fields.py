"""Rows of categorical fields: from any file to one token a field."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from eyas import load_data
from eyas.data.datasets import fields_of, labels_of
from eyas.data.tokenization import field_tokenizer
from eyas.errors import DataError, EyasError, LabelError
from eyas.settings import Columns
from eyas.text import read_fields, write_fields

FIELDS = Columns(task="fields")
ROWS = [{"user": str(n % 3), "city": "New York" if n % 2 else "", "click": n % 2} for n in range(20)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_has_same_rows(suffix: str, tmp_path: Path) -> None:
    frame = pandas.DataFrame(ROWS)
    file = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(file)
    elif suffix == ".jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_csv(file, index=False, sep="," if suffix == ".csv" else "\t")
    data = load_data({"train": file, "validation": file}, FIELDS)
    assert data.task.kind == "fields"
    assert data.task.metric == "auc"
    assert fields_of(data["train"]) == ["user", "city"]
    assert data["train"]["text"][:2] == ["user=0\tcity=", "user=1\tcity=New York"]
    assert labels_of(data["train"]).tolist() == [0, 1] * 10


def test_named_fields_are_read_in_their_order() -> None:
    table = [{**row, "bought": 1 - row["click"], "hour": 3} for row in ROWS]
    columns = Columns(task="fields", text="hour,user", label="bought")
    train = load_data({"train": pandas.DataFrame(table), "validation": pandas.DataFrame(table)}, columns)["train"]
    assert train["text"][:2] == ["hour=3\tuser=0", "hour=3\tuser=1"]
    assert labels_of(train).tolist() == [1, 0] * 10


def test_field_may_have_the_name_of_a_label() -> None:
    table = pandas.DataFrame(ROWS).rename(columns={"city": "label"})
    splits = {"train": table, "validation": table, "test": table.drop(columns="click")}
    data = load_data(splits, Columns(task="fields", label="click"))
    assert fields_of(data["test"]) == ["user", "label"]
    assert set(labels_of(data["test"])) == {-1}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (49, "49"),
        (49.0, "49"),  # a column of integers with gaps
        ("49.0", "49"),  # as pandas writes it to a CSV
        (np.float32(49), "49"),
        ("-3.00", "-3"),
        ("4.50", "4.50"),
        (0.5, "0.5"),
        (None, ""),
        (float("nan"), ""),
        (True, "True"),
        (" a\tb\n c ", "a b c"),
        ("a=b", "a=b"),
        ("[PAD]", "(PAD]"),  # no special token
    ],
)
def test_value_is_written_as_one_word(value: Any, written: str) -> None:
    text = write_fields({"f": value, "other": 1}, ["f"], "Row 0")
    assert text == f"f={written}"
    assert read_fields(text) == {"f": written}


def test_long_values_stay_different() -> None:
    texts = {write_fields({"f": "x" * 1000 + end}, ["f"], "Row 0") for end in ("a", "b")}
    assert len(texts) == 2
    assert max(map(len, texts)) < 50


@pytest.mark.parametrize(
    ("rows", "columns", "error", "said"),
    [
        ([{**row, "click": 2} for row in ROWS], FIELDS, LabelError, "train, row 1: 2 for a binary label"),
        ([{**row, "click": "yes"} for row in ROWS], FIELDS, LabelError, "expected 0 or 1"),
        ([{**row, "click": 1} for row in ROWS], FIELDS, LabelError, "nothing to learn"),
        ([{**row, "user": [1]} for row in ROWS], FIELDS, DataError, "expected one value"),
        ([{"user": row["user"]} for row in ROWS], FIELDS, DataError, "--label"),
        ([{"click": row["click"]} for row in ROWS], FIELDS, DataError, "the fields are []"),
        ([{**row, "a=b": 1} for row in ROWS], FIELDS, DataError, "have no =, comma, bracket or tab"),
        (ROWS, Columns(task="fields", text="user,city,age"), DataError, "no column 'age'"),
        (ROWS, Columns(task="fields", text="user,click"), DataError, "other than the label"),
    ],
)
def test_bad_rows_are_refused(rows: list[Any], columns: Columns, error: type[EyasError], said: str) -> None:
    with pytest.raises(error) as raised:
        load_data({"train": pandas.DataFrame(rows), "validation": pandas.DataFrame(ROWS)}, columns)
    assert said in str(raised.value)


def test_later_split_without_a_field_is_refused(tmp_path: Path) -> None:
    bare = pandas.DataFrame(ROWS).drop(columns="city")
    with pytest.raises(DataError, match="no column 'city'"):
        load_data({"train": pandas.DataFrame(ROWS), "validation": bare}, FIELDS)
    lines = [json.dumps(row) for row in (*ROWS, {"user": "1", "click": 1})]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"train.jsonl:21 has no field 'city'"):
        load_data(tmp_path, FIELDS)


def test_later_split_may_have_more_columns_in_another_order() -> None:
    other = [{"extra": 1, "click": row["click"], "city": row["city"], "user": row["user"]} for row in ROWS]
    data = load_data({"train": pandas.DataFrame(ROWS), "validation": pandas.DataFrame(other)}, FIELDS)
    assert data["validation"]["text"][:] == data["train"]["text"][:]


def test_vocabulary_is_cut_by_frequency() -> None:
    """The frequent values survive among ten times as many ids as fit; each row has a token a field."""
    rows = [{"user": f"u{n % 2 * n}", "item": f"i{n % 3}", "click": n % 2} for n in range(2000)]
    train = load_data({"train": pandas.DataFrame(rows), "validation": pandas.DataFrame(rows[:9])}, FIELDS)["train"]
    fields = fields_of(train)
    assert field_tokenizer(train, fields).get_vocab_size() == 4 + 2 + 4  # the other users have one row each
    small = field_tokenizer(train, fields, vocab_size=8)
    assert small.get_vocab_size() == 8
    assert small.encode("user=u0\titem=never seen").tokens == ["[CLS]", "user=u0", "[UNK]"]


def test_many_ids_need_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from eyas.data import tokenization

    monkeypatch.setattr(tokenization, "TEXTS_PER_BATCH", 100)
    most = 0

    class Counter(tokenization.Counter):  # type: ignore[type-arg, misc]
        def update(self, *given: Any) -> None:  # type: ignore[override]
            nonlocal most
            super().update(*given)
            most = max(most, len(self))

    monkeypatch.setattr(tokenization, "Counter", Counter)
    rows = [{"user": f"u{n}", "site": "s", "click": n % 2} for n in range(5000)]
    train = load_data({"train": pandas.DataFrame(rows), "validation": pandas.DataFrame(rows[:9])}, FIELDS)["train"]
    monkeypatch.setattr(tokenization.batches_of_texts, "__defaults__", (100,))
    assert field_tokenizer(train, ["user", "site"], vocab_size=20).get_vocab_size() == 4 + 2 + 1
    assert most < 200
