"""`eyas predict` over the lines of a file: in chunks, by several processes, in order."""

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
    monkeypatch.setattr(module, "LINES", 1)
    _, one_by_one, warned = run("predict", "--model", model, mixed)
    monkeypatch.setattr(module, "LINES", 7)
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
    monkeypatch.setattr(module, "LINES", 7)
    code, together, said = run("predict", "--model", model, mixed, "--workers", 2)
    assert code == 0
    assert together == alone
    assert "1 texts have more tokens" in said


@pytest.mark.process
def test_error_in_a_worker_names_the_line_and_keeps_the_answers_before(
    exported: Exported, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINES", 4)
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
    monkeypatch.setattr(module, "LINES", 4)
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
    with pytest.raises(DataError, match=r"nowhere: expected a model folder with a config.json"):
        predict_lines(str(tmp_path / "nowhere"), classifier, iter(["fine"] * 9), "in", workers=2)


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
    """At no time are there more lines in memory than some chunks."""
    read = 0

    def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            assert read <= written() + 2 * module.LINES
            yield "a great film" if read <= 10 * module.LINES else '{"text": 3}'

    total = 0

    def written() -> int:
        nonlocal total
        total += capsys.readouterr().out.count("\n")
        return total

    with pytest.raises(DataError, match=f"lines:{10 * module.LINES + 1}: expected a text"):
        predict_lines("", Predictor(exported["static", False, True]), endless(), "lines")
    assert written() == 10 * module.LINES


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
