"""`eyas predict` over the lines of a file: in chunks, by several processes, in order."""

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import toy_rows

import eyas
from eyas import Predictor
from eyas.cli import lines as module
from eyas.cli.lines import Answering, predict_lines
from eyas.data import readers
from eyas.data.readers import lines_of, text_blocks, text_lines
from eyas.errors import DataError

Run = Callable[..., tuple[int, str, str]]
Exported = dict[tuple[str, bool, bool], Path]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Texts, JSON strings and objects with more fields; some empty, odd or too long."""
    texts = [row["text"] for row in toy_rows(40)]
    rows = [*texts, "", "\U0001f600 great", "awful " * 90, json.dumps("a great film")]
    rows += [json.dumps({"id": number, "price": 1.23456789, "text": text}) for number, text in enumerate(texts)]
    path = tmp_path / "in.txt"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("name", ["static", "cnn"])
def test_chunks_answer_as_single_lines(
    name: str, mixed: Path, exported: Exported, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = exported[name, False, True]
    monkeypatch.setattr(module, "BLOCK", 1)
    _, one_by_one, warned = run("predict", "--model", model, mixed)
    monkeypatch.setattr(module, "BLOCK", 300)
    code, in_chunks, said = run("predict", "--model", model, mixed)
    assert code == 0
    assert in_chunks == one_by_one
    assert "1 texts have more tokens" in said
    assert said == warned
    rows = [json.loads(line) for line in in_chunks.splitlines()]
    assert [row["id"] for row in rows[44:]] == list(range(40))
    assert rows[44]["price"] == 1.23456789  # other fields pass through as they are
    expected = Predictor(model)([row["text"] for row in rows])
    assert [row["label"] for row in rows] == [answer["label"] for answer in expected]


@pytest.mark.process
def test_workers_answer_in_order(mixed: Path, exported: Exported, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    model = exported["static", False, True]
    _, alone, _ = run("predict", "--model", model, mixed)
    monkeypatch.setattr(module, "BLOCK", 300)
    code, together, said = run("predict", "--model", model, mixed, "--workers", 2)
    assert code == 0
    assert together == alone
    assert "1 texts have more tokens" in said


@pytest.mark.process
def test_error_in_a_worker_names_the_line_and_keeps_the_answers_before(
    exported: Exported, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    (tmp_path / "in").write_text("fine\n" * 10 + '{"text": 3}\n' + "fine\n" * 20)
    code, out, err = run("predict", "--model", exported["static", False, True], tmp_path / "in", "--workers", 2)
    assert code == 2
    assert len(out.splitlines()) == 10
    assert "in:11: expected a text" in err


@pytest.mark.process
@pytest.mark.parametrize("workers", [1, 2])
def test_answers_before_a_line_that_cannot_be_read_are_written(
    workers: int, exported: Exported, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    monkeypatch.setattr(readers, "LONGEST_LINE", 1000)
    (tmp_path / "in").write_text("fine\n" * 30 + "x" * 5000)
    model = exported["static", False, True]
    code, out, err = run("predict", "--model", model, tmp_path / "in", "--workers", workers)
    assert code == 2
    assert len(out.splitlines()) == 30
    assert "in:31: a line of more than" in err


@pytest.mark.process
def test_worker_without_a_model_says_why(
    exported: Exported, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Predictor(exported["static", False, True])
    with pytest.raises(DataError, match=r"nowhere: no such model folder"):
        predict_lines(str(tmp_path / "nowhere"), classifier, iter([(1, ["fine"] * 9)]), "in", workers=2)


def test_tagger_keeps_the_text(taggers: dict[str, Path], tmp_path: Path, run: Run) -> None:
    eyas.export_model(taggers["cnn"], tmp_path / "tagger")
    (tmp_path / "in").write_text('Anna met Bob in Paris\n{"id": 3, "text": "in Rome"}\n')
    code, out, _ = run("predict", "--model", tmp_path / "tagger", tmp_path / "in")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["text"] for row in rows] == ["Anna met Bob in Paris", "in Rome"]


def test_stream_has_one_process(exported: Exported, run: Run) -> None:
    code, _, err = run("predict", "--model", exported["static", False, True], "--workers", 2)
    assert code == 2
    assert "--workers is for a file" in err


def test_memory_stays_flat(exported: Exported, capsys: Any) -> None:
    """Lines are answered before more are read."""
    written = 0

    def endless() -> Any:
        nonlocal written
        for first in itertools.count(1, 100):
            written += capsys.readouterr().out.count("\n")
            assert written == first - 1
            yield first, b"a great film\n" * 100 if first < 1000 else b'{"text": 3}\n'

    with pytest.raises(DataError, match="lines:1001: expected a text"):
        predict_lines("", Predictor(exported["static", False, True]), endless(), "lines")


@pytest.mark.parametrize("size", [1, 7, 16, 1000])
def test_blocks_have_the_lines_of_a_file(size: int) -> None:
    """However large the blocks are, also where one ends inside a character."""
    content = "\ufeffeins\r\nzwei\u2028drei\n\n\nvier\x0bfünf\n\U0001f600 sechs".encode() + b"\xff sieben\n acht"
    blocks = list(text_blocks(io.BytesIO(content), "in", size))
    lines = [line for first, block in blocks for line in lines_of(first, block)]
    assert lines == list(text_lines(io.BytesIO(content), "in"))
    assert lines[:3] == ["eins", "zwei\u2028drei", ""]
    assert lines[-1] == " acht"
    for first, block in blocks:
        assert lines_of(first, block)[0] == lines[first - 1]


def test_plain_lines_are_written_as_json(exported: Exported) -> None:
    """Without an encoder for each line; the text of the answer is what JSON makes of it."""
    texts = ['a "great"\tfilm \\', "caf\u00e9 \U0001f600 \x01", "", "awful"]
    predictor = Predictor(exported["cnn", False, True])
    predictor.abstain(0.9)
    told = Answering(predictor, "in", False)(2, texts).text
    by_json = "".join(Answering(predictor, "in", False)(2, [json.dumps({"text": text})]).text for text in texts)
    assert told == by_json


def test_chunk_ends_before_a_line_that_cannot_be_answered(exported: Exported) -> None:
    answering = Answering(Predictor(exported["static", False, True]), "in", False)
    found = answering(5, ["a great film", "{", "awful"])
    assert found.error == "in:6: starts like JSON but does not parse: '{'."
    assert found.text.count("\n") == 1


def test_line_that_is_no_text_of_a_reasonable_length_is_refused(
    exported: Exported, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "LONGEST_LINE", 1000)
    (tmp_path / "in").write_text("fine\n" + "x" * 5000)
    code, _, err = run("predict", "--model", exported["static", False, True], tmp_path / "in")
    assert code == 2
    assert "in:2: a line of more than" in err
