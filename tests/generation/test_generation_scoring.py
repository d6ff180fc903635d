"""Scores of written texts."""

import builtins
from typing import Any

import pytest
from datasets import Dataset

from eyas.errors import MissingExtraError
from eyas.generation import evaluate

PAIRS = Dataset.from_dict({"source": ["x", "y"], "target": ["the cat sat on the mat", "a dog barks at the moon"]})


def _writer(*texts: str) -> Any:
    return lambda sources: [{"generated_text": text} for text in texts]


def test_texts_that_are_right_have_100() -> None:
    scores = evaluate(_writer(*PAIRS["target"]), PAIRS, _writer("the cat sat on the mat", "another thing"))
    assert [round(scores[name], 6) for name in ("bleu", "chrf", "rouge1", "rouge2", "rougeL")] == [100] * 5
    assert scores["rows"] == 2
    assert scores["retention"] == pytest.approx(100 / scores["teacher_bleu"])
    assert scores["retention"] > 1


def test_rouge_is_the_mean_over_texts_of_f1() -> None:
    """4 of 5 words written, of 6: 2 * 4 / 11. The other text shares none."""
    scores = evaluate(_writer("the cat on a mat", "nothing"), PAIRS)
    assert scores["rouge1"] == pytest.approx(100 * (8 / 11) / 2)


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "sacrebleu":
            raise ModuleNotFoundError("none", name=name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"need sacrebleu\. Install it .*generation"):
        evaluate(_writer("a", "b"), PAIRS)
