import json
import logging
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import toy_rows, write_jsonl
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from eyas.data.datasets import (
    ids_of,
    is_pair,
    labels_of,
    load_data,
    load_unlabeled,
)
from eyas.errors import DataError, LabelError
from eyas.settings import Columns


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_load_data_reads_folder(toy_data: Path) -> None:
    data = load_data(toy_data)
    assert {name: len(part) for name, part in data.items()} == {"train": 240, "validation": 60, "test": 60}
    assert data.labels == ["negative", "positive"]
    assert data["train"][0] == {**data["train"][0], "text": toy_rows(1)[0]["text"], "label": 0}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_load_data_splits_single_file_by_seed(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = toy_rows(100)
    path = tmp_path / f"all.{suffix}"
    if suffix == "jsonl":
        write_jsonl(path, rows)
    elif suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        separator = "," if suffix == "csv" else "\t"
        lines = [separator.join([f'"{r["text"]}"' if suffix == "csv" else r["text"], r["label"]]) for r in rows]
        write(path, "\n".join([separator.join(["text", "label"]), *lines]))
    with caplog.at_level(logging.INFO, "eyas"):
        first = load_data(path, seed=1)
    assert {name: len(part) for name, part in first.items()} == {"train": 80, "validation": 10, "test": 10}
    assert "split train with seed 1" in caplog.text
    assert ids_of(load_data(path, seed=1)["test"]).tolist() == ids_of(first["test"]).tolist()
    assert ids_of(load_data(path, seed=2)["test"]).tolist() != ids_of(first["test"]).tolist()


def test_load_data_keeps_equal_texts_in_one_split(tmp_path: Path) -> None:
    rows = [{"text": f"text {i % 20}", "label": i % 2} for i in range(200)]
    data = load_data(write_jsonl(tmp_path / "all.jsonl", rows))
    ids = [set(ids_of(part).tolist()) for part in data.values()]
    assert not ids[0] & ids[1]
    assert not ids[0] & ids[2]


def test_csv_keeps_texts_that_look_like_missing_values(tmp_path: Path) -> None:
    rows = "text,label\nNA,a\nnull,b\nNone,a\nnan,b\n1.0,a\n" + "".join(f"t{i},a\n" for i in range(20))
    data = load_data(write(tmp_path / "all.csv", rows))
    texts = {text for part in data.values() for text in part["text"]}
    assert {"NA", "null", "None", "nan", "1.0"} <= texts


def test_csv_accepts_byte_order_mark_and_quoted_line_ends(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbftext,label\r\n"two\r\nlines, and ""quotes""",a\r\nlast,b'
    path = tmp_path / "train.csv"
    write(path, content)
    write(tmp_path / "validation.csv", "text,label\nx,a\n")
    train = load_data(tmp_path)["train"]
    assert train["text"][:] == ['two\nlines, and "quotes"', "last"]


def test_tsv_quotes_are_ordinary_characters(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", 'sentence\tlabel\n"unbalanced\t0\nfine\t1\n')
    write(tmp_path / "dev.tsv", "sentence\tlabel\nx\t1\n")
    data = load_data(tmp_path)
    assert data["train"]["text"][:] == ['"unbalanced', "fine"]
    assert data.labels == ["0", "1"]


def test_load_data_reads_pairs_from_named_columns(tmp_path: Path) -> None:
    rows = [{"a": f"one {i}", "b": f"two {i}", "verdict": "yes" if i % 2 else "no"} for i in range(40)]
    data = load_data(write_jsonl(tmp_path / "all.jsonl", rows), Columns("a", "b", "verdict"))
    assert is_pair(data["train"])
    assert data["train"].column_names == ["example_id", "text", "text_pair", "label"]


def test_load_data_accepts_dataset_dict_with_class_labels() -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    part = Dataset.from_dict({"text": ["x", "y", "z"], "label": [0, 1, 1]}, features=features)
    data = load_data(DatasetDict({"train": part, "validation": part}))
    assert data.labels == ["bad", "good"]
    assert labels_of(data["train"]).tolist() == [0, 1, 1]


def test_integer_labels_are_ordered_as_numbers(tmp_path: Path) -> None:
    rows = [{"text": f"t {i}", "label": i % 12} for i in range(120)]
    assert load_data(write_jsonl(tmp_path / "all.jsonl", rows)).labels == [str(i) for i in range(12)]


def test_load_data_counts_leaks_and_conflicts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows: list[dict[str, object]] = [
        {"text": "same", "label": 0},
        {"text": "same", "label": 1},
        {"text": "t", "label": 0},
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    write_jsonl(tmp_path / "validation.jsonl", [{"text": "t", "label": 0}, {"text": "u", "label": 1}])
    load_data(tmp_path)
    assert "1 of 2 validation texts also occur in train" in caplog.text
    assert "1 training texts occur with different labels" in caplog.text


def test_load_data_accepts_unlabeled_test_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_jsonl(tmp_path / "train.jsonl", toy_rows(20))
    write_jsonl(tmp_path / "test.jsonl", [{"text": f"t {i}", "label": -1} for i in range(5)])
    data = load_data(tmp_path)
    assert set(labels_of(data["test"]).tolist()) == {-1}
    assert "test split has no labels" in caplog.text


def test_load_unlabeled_reads_text_and_csv_files(tmp_path: Path) -> None:
    lines = write(tmp_path / "more.txt", "first\n\n  \nsecond\n")
    table = write(tmp_path / "more.csv", "text,stars\nthird,5\n")
    texts = load_unlabeled([lines, table])
    assert texts["text"][:] == ["first", "second", "third"]
    assert texts.column_names == ["example_id", "text"]


def test_load_data_keeps_odd_texts(tmp_path: Path) -> None:
    odd = ["", "   ", "\u0000nul", "\u200d🙂🙃", "\x01\x02", "x" * 1_000_000, "\ud800 surrogate"]
    lines = [json.dumps({"text": text, "label": i % 2}) for i, text in enumerate(odd)]
    write(tmp_path / "train.jsonl", "\n".join(lines))
    write_jsonl(tmp_path / "validation.jsonl", [{"text": "a", "label": 0}])
    train = load_data(tmp_path)["train"]
    assert train["text"][:6] == odd[:6]
    assert train["text"][6] == "\ufffd surrogate"


GOOD = "text,label\na,x\nb,y\n"


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("text,label\na,x\nb\xff,y\n".encode("latin-1"), Columns(), r"csv:3: byte 2 of the line is not valid UTF-8"),
        ("words,label\na,x\n", Columns(), r"no text column.*words"),
        ("text,mark\na,x\n", Columns(), r"no label column"),
        (GOOD, Columns(text="txet"), r"no column 'txet'.*Did you mean 'text'"),
        ("text,text,label\na,b,x\n", Columns(), r"column 'text' occurs twice"),
        ("text,label\na,x\nb,\nc,y\n", Columns(), r"1 of 3 rows have no label, the first is row 2"),
        ("text,label\na,x\nb,x\n", Columns(), r"Every training row has the label 'x'"),
        ("text,label\na,x\nb,y,z\n", Columns(), r"train.csv:3: 3 fields, expected 2"),
        ('text,label\n"a,x\nb,y\n', Columns(), r"not valid CSV"),
        ("", Columns(), r"is empty"),
    ],
)  # fmt: skip
def test_load_data_explains_bad_csv(tmp_path: Path, content: str | bytes, columns: Columns, message: str) -> None:
    write(tmp_path / "train.csv", content)
    write(tmp_path / "validation.csv", GOOD)
    with pytest.raises(DataError, match=message):
        load_data(tmp_path, columns)


def test_load_data_explains_bad_jsonl(tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label"\n')
    with pytest.raises(DataError, match=r"all.jsonl:2: not valid JSON"):
        load_data(path)
    path = write(tmp_path / "other.jsonl", '{"text": "a", "label": 1}\n{"text": null, "label": 0}\n')
    with pytest.raises(DataError, match=r"other.jsonl:2: 'text' is None, expected a text"):
        load_data(path)


def test_load_data_refuses_label_unseen_in_training(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", GOOD)
    write(tmp_path / "validation.csv", "text,label\nc,z\n")
    with pytest.raises(LabelError, match=r"validation, row 1: label 'z' does not occur in train"):
        load_data(tmp_path)


def test_load_data_refuses_missing_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file or folder"):
        load_data(tmp_path / "nothing.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no train, validation or test file"):
        load_data(tmp_path / "empty")


def test_load_data_rereads_changed_files(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "train.jsonl", toy_rows(20))
    write_jsonl(tmp_path / "validation.jsonl", toy_rows(4, 100))
    before = ids_of(load_data(tmp_path)["train"])
    write_jsonl(path, toy_rows(22, 50))
    assert not np.isin(ids_of(load_data(tmp_path)["train"]), before).any()


def test_split_keeps_shares_of_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": f"ham {n}", "label": "ham"} for n in range(57)] + [
        {"text": f"spam {n}", "label": "spam"} for n in (1, 2)
    ]
    for seed in range(5):
        data = load_data(write_jsonl(tmp_path / "all.jsonl", rows), seed=seed)
        assert sorted(set(data["train"]["label"])) == [0, 1]
        assert [len(data[name]) for name in ("train", "validation", "test")] == [47, 6, 6]
    assert "1 of 2 labels have no text in test (spam)" in caplog.text
    even = [{"text": f"text {n}", "label": "abcde"[n % 5]} for n in range(500)]
    data = load_data(write_jsonl(tmp_path / "even.jsonl", even))
    for name in ("validation", "test"):
        assert all(8 <= data[name]["label"].count(label) <= 12 for label in range(5))


def test_split_keeps_equal_texts_together(tmp_path: Path) -> None:
    rows = [{"text": f"text {n % 40}", "label": "ab"[n % 2]} for n in range(200)]
    data = load_data(write_jsonl(tmp_path / "all.jsonl", rows))
    texts = [set(data[name]["text"]) for name in ("train", "validation", "test")]
    assert sum(map(len, texts)) == 40
    assert sum(len(data[name]) for name in data) == 200


def test_split_of_classes_with_one_text_each(tmp_path: Path) -> None:
    """More classes than texts to spare: the sizes hold, and nothing is lost."""
    rows = [{"text": f"text {n}", "label": f"class {n}"} for n in range(20)]
    data = load_data(write_jsonl(tmp_path / "all.jsonl", rows))
    assert [len(data[name]) for name in ("train", "validation", "test")] == [16, 2, 2]


def test_labels_of_few_json_rows_are_a_column(tmp_path: Path) -> None:
    """The message says what is missing, not that there is no such column."""
    labels = [{"label": ("bad", "good")[row // 20 % 2]} if row % 20 == 1 else {} for row in range(400)]
    rows = [{"text": f"text number {row}", **label} for row, label in enumerate(labels)]
    (tmp_path / "some.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(LabelError, match="380 of 400 rows have no label"):
        load_data(tmp_path / "some.jsonl")
