"""Which calls are the same: a call with another value of any argument that matters makes another result."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from toys import write_jsonl

import eyas
from eyas import Columns, DistillSettings, FinetuneSettings, StudentSettings
from eyas.outputs import OutputFolder

# They say where a result is made, not what.
ELSEWHERE = {"out", "overwrite", "callbacks", "cache"}
QUICKLY = DistillSettings(arguments=QUICK)
WRITTEN = StudentSettings("encoder-decoder", layers=1, max_length=12)
SMALL = StudentSettings("cnn", hidden_size=12)
WRITES = Columns(task="generation")


class StoppedError(Exception):
    pass


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a call compares with the record of a finished folder; the call stops there."""
    found: list[str] = []

    def stop(*arguments: Any, **_: Any) -> Any:
        found.append(json.dumps(arguments[-1 if len(arguments) == 2 else 2], sort_keys=True))
        raise StoppedError

    def ask(function: Callable[..., Any], **arguments: Any) -> str:
        with pytest.raises(StoppedError):
            function(**arguments)
        return found.pop()

    monkeypatch.setattr("eyas.api.finished_request", stop)
    monkeypatch.setattr(OutputFolder, "__init__", stop)
    return ask


def check(
    asked: Callable[..., str],
    function: Callable[..., Any],
    base: dict[str, Any],
    other: dict[str, Any],
    refused: tuple[str, ...] = (),
) -> None:
    forgotten = inspect.signature(function).parameters.keys() - ELSEWHERE - other.keys() - set(refused)
    assert not forgotten, f"{function.__name__} has new arguments. Add another value of each: {forgotten}"
    first = asked(function, **base)
    assert first == asked(function, **base)
    for name, value in other.items():
        assert asked(function, **{**base, name: value}) != first, f"{name} makes the same result"


@pytest.fixture
def texts(tmp_path: Path) -> Callable[[str], Path]:
    def make(word: str) -> Path:
        labels = ("negative", "positive")
        rows = [
            {"text": f"a {word} film {n}", "other": f"{word} {n}", "label": labels[n % 2], "mood": labels[n // 2 % 2]}
            for n in range(60)
        ]
        write_jsonl(tmp_path / f"{word}.jsonl", rows)
        return tmp_path / f"{word}.jsonl"

    return make


def test_distill(asked: Any, texts: Any, teacher_folder: Path, pair_teacher_folder: Path, tmp_path: Path) -> None:
    other = {
        "teacher": pair_teacher_folder,
        "data": texts("good"),
        "student": SMALL,
        "recipe": "soft-targets",
        "settings": QUICKLY,
        "unlabeled": texts("fine"),
        "columns": Columns(label="mood"),
        "domains": {"one": texts("long"), "two": texts("short")},
        "teacher_dtype": "bfloat16",
        "teachers": "confidence",
        "encoder": teacher_folder,
        "confidence": 0.7,
        "zero_shot": ["bad", "good"],
    }
    check(asked, eyas.distill, {"teacher": teacher_folder, "data": texts("great"), "out": tmp_path / "out"}, other)


def test_distill_of_a_writer(asked: Any, writer_folder: Path, letter_data: Path, tmp_path: Path) -> None:
    base = {"teacher": writer_folder, "data": letter_data, "out": tmp_path / "out", "columns": WRITES}
    base |= {"teacher_dtype": "float32", "settings": DistillSettings(WRITTEN)}
    other = {
        "student": StudentSettings("gru", hidden_size=12, max_length=12),
        "recipe": "imitkd",
        "settings": DistillSettings(WRITTEN, arguments=QUICK),
        "teacher_dtype": "bfloat16",
    }
    refused = ("teacher", "data", "columns", "domains", "unlabeled", "teachers", "encoder", "confidence", "zero_shot")
    check(asked, eyas.distill, base, other, refused)


def test_distill_tasks(asked: Any, texts: Any, teacher_folder: Path, pair_teacher_folder: Path, tmp_path: Path) -> None:
    base = {
        "teachers": {"one": teacher_folder, "two": teacher_folder},
        "data": {"one": texts("great"), "two": texts("good")},
        "out": tmp_path / "out",
        "teacher_dtype": "float32",
        "columns": {"one": Columns(text="text", label="label")},
    }
    other = {
        "data": {"one": texts("great"), "two": texts("fine")},
        "student": SMALL,
        "recipe": "soft-targets",
        "settings": QUICKLY,
        "teacher_dtype": "bfloat16",
    }
    check(asked, eyas.distill_tasks, base, other, ("teachers", "columns", "encoder", "confidence"))


def test_finetune(asked: Any, texts: Any, tiny_bert: Path, teacher_folder: Path, tmp_path: Path) -> None:
    other = {
        "model": teacher_folder,
        "data": texts("good"),
        "settings": FinetuneSettings(QUICK),
        "columns": Columns(label="mood"),
    }
    check(
        asked, eyas.finetune, {"model": tiny_bert, "data": texts("great"), "out": tmp_path / "out"}, other, ("domains",)
    )
    domains = [{"domains": {"one": texts("great"), "two": texts(word)}} for word in ("good", "fine")]
    first, second = (asked(eyas.finetune, model=tiny_bert, out=tmp_path / "out", **one) for one in domains)
    assert first != second


def test_finetune_together(asked: Any, texts: Any, tiny_bert: Path, teacher_folder: Path, tmp_path: Path) -> None:
    base = {"models": [tiny_bert, teacher_folder], "data": texts("great"), "out": tmp_path / "out"}
    other = {
        "models": [teacher_folder, tiny_bert],
        "data": texts("good"),
        "settings": FinetuneSettings(QUICK),
        "columns": Columns(label="mood"),
    }
    check(asked, eyas.finetune_together, base, other)


def test_compress(asked: Any, texts: Any, teacher_folder: Path, pair_teacher_folder: Path, tmp_path: Path) -> None:
    base = {"model": teacher_folder, "methods": "ternary", "data": texts("great"), "out": tmp_path / "out"}
    other = {
        "model": pair_teacher_folder,
        "methods": "int4",
        "data": texts("good"),
        "recipe": "logit-mse",
        "settings": QUICKLY,
        "unlabeled": texts("fine"),
        "columns": Columns(label="mood"),
    }
    check(asked, eyas.compress, base, other)


def test_pretrain_student(asked: Any, texts: Any, tiny_bert: Path, teacher_folder: Path, tmp_path: Path) -> None:
    base = {"teacher": tiny_bert, "texts": texts("great"), "out": tmp_path / "out", "teacher_dtype": "float32"}
    other = {
        "teacher": teacher_folder,
        "texts": texts("good"),
        "student": SMALL,
        "recipe": "minilm",
        "settings": QUICKLY,
        "columns": Columns(text="other"),
        "pooling": "cls",
        "teacher_dtype": "bfloat16",
    }
    check(asked, eyas.pretrain_student, base, other)
