"""Files that are easily read as something else."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from toys import write_jsonl

import eyas
from eyas.data.rows import example_id
from eyas.errors import DataError, LabelError


def test_split_that_was_changed_is_read_again() -> None:
    """Its ids would find the teacher's answers to the old texts."""
    texts = [f"{'a great' if n % 2 else 'an awful'} film {n}" for n in range(60)]
    table = {"text": texts, "label": [n % 2 for n in range(60)]}
    data = eyas.load_data({"train": table, "validation": {"text": ["so good", "so bad"], "label": [1, 0]}})
    data["train"] = data["train"].map(lambda row: {"text": row["text"].replace("great", "boring")})
    rows = eyas.load_data(data)["train"]
    assert rows["text"][1] == "a boring film 1"
    assert [example_id(text) for text in rows["text"]] == list(rows["example_id"])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("score", f'"{n % 5},{n % 10}"') for n in range(60)], r":2: score '0,0', expected a number"),
        ([("score", "N/A" if n == 30 else n / 7) for n in range(60)], r":32: score 'N/A', expected a number"),
        (
            [("label", n % 5 + (0.5 if n > 250 else 0)) for n in range(300)],
            r"later ones have fractions.*--task regression",
        ),
    ],
)
def test_scores_are_not_read_as_classes(rows: list[tuple[str, object]], expected: str, tmp_path: Path) -> None:
    file, name = tmp_path / "rows.csv", rows[0][0]
    values = [f"{value:g}" if isinstance(value, float) else value for _, value in rows]
    file.write_text(f"text,{name}\n" + "".join(f"text {n},{value}\n" for n, value in enumerate(values)))
    with pytest.raises(LabelError, match=expected):
        eyas.load_data(file)


def test_first_json_row_does_not_decide_what_columns_there_are(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"text": f"text {n}", "text_pair": f"other {n}", "label": n % 2} for n in range(40)
    ]
    del rows[0]["text_pair"]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"rows.jsonl:1: 'text_pair' is None"):
        eyas.load_data(tmp_path / "rows.jsonl")
    rows[0]["text_pair"] = "other 0"
    write_jsonl(tmp_path / "rows.jsonl", [dict(reversed(rows[0].items())), *rows[1:]])
    assert eyas.load_data(tmp_path / "rows.jsonl").is_pair


@pytest.mark.parametrize("name", ["x.conllu", "x.conllu.gz", "x.CONLLU"])
def test_contractions_are_no_words_in_any_conllu_file(name: str, tmp_path: Path) -> None:
    lines = ["1\tJe\tPRON", "2-3\tdu\t_", "2\tde\tADP", "3\tle\tDET", "4\tpain{n}\tNOUN", ""]
    content = "".join("\n".join(lines).format(n=n) + "\n" for n in range(30)).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    data = eyas.load_data(tmp_path / name, eyas.Columns(text="1", label="2"))
    assert sorted(data["train"]["tokens"][0])[:3] == ["Je", "de", "le"]


def test_hidden_scores_are_no_scores(tmp_path: Path) -> None:
    for name in ("train", "validation", "test"):
        rows = [{"text": f"{name} {n}", "score": -1.0 if name == "test" else n % 5 + 0.1} for n in range(40)]
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    assert np.isnan(eyas.load_data(tmp_path)["test"]["label"]).all()


def test_files_of_a_folder_are_found_in_any_case_and_others_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for name in ("train", "Validation", "TEST", "train_1"):
        rows = [{"text": f"{name} {n} x", "label": n % 2} for n in range(40)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = eyas.load_data(tmp_path)
    assert [data[name]["text"][0] for name in data] == ["train 0 x", "Validation 0 x", "TEST 0 x"]
    assert f"{tmp_path}: not read: train_1.jsonl." in caplog.text


def test_key_of_few_rows_is_no_column(tmp_path: Path) -> None:
    rows = [{"text": f"film {n} is {n * 7}", "joy": n % 2, "anger": int(n % 3 == 0)} for n in range(100)]
    rows[5]["meta"] = 1
    assert eyas.load_data(write_jsonl(tmp_path / "train.jsonl", rows)).task.kind == "multi-label"
    rows = [{"text": f"film {n} is {n * 7}", **({"label": n % 2} if n % 5 == 1 else {})} for n in range(100)]
    with pytest.raises(LabelError, match="80 of 100 rows have no label"):  # though the first row lacks the column
        eyas.load_data(write_jsonl(tmp_path / "train.jsonl", rows))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([True, 0, 1, False], ["'0' and 'False'", "'1' and 'True'"]),
        (["good", "Good", "bad ", "bad"], ["'Good' and 'good'"]),
        (["1.0", "1", "2", "2"], ["'1' and '1.0'"]),
        (["U", "us", "es", "no"], []),
    ],
)
def test_labels_that_look_like_one_are_named(
    labels: list[object], said: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": f"film {n} is {n * 7}", "label": labels[n % 4]} for n in range(40)]
    eyas.load_data(write_jsonl(tmp_path / "train.jsonl", rows))
    found = [message for message in caplog.messages if "look like one" in message]
    assert len(found) == len(said)
    assert all(any(pair in message for message in found) for pair in said)
