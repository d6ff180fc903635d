"""Graphs are converted once per form of model; each model has its own weights."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from eyas.export.onnx import write_onnx
from eyas.models import EnsembleConfig, EnsembleForSequenceClassification

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


def classifier(**settings: Any) -> BertForSequenceClassification:
    small = {
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "initializer_range": 0.5,
    }
    return BertForSequenceClassification(BertConfig(**{**small, "intermediate_size": 32, **settings})).eval()


def difference(model: BertForSequenceClassification, path: Path) -> float:
    ids = torch.randint(5, 60, (3, 20))
    feed = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    session = onnxruntime.InferenceSession(write_onnx(model, INPUTS, path))
    [found] = session.run(None, {name: part.numpy() for name, part in feed.items()})
    with torch.no_grad():
        return float(np.abs(found - model(**feed).logits.numpy()).max())


def test_write_onnx_reuses_graph_for_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert difference(classifier(), tmp_path / "first.onnx") < 1e-3
    monkeypatch.setattr(torch.onnx, "export", None)  # no second conversion
    assert difference(classifier(), tmp_path / "second.onnx") < 1e-3


@pytest.mark.parametrize("other", [{"num_attention_heads": 4}, {"layer_norm_eps": 5.0}])
def test_write_onnx_converts_other_form_with_same_shapes(tmp_path: Path, other: dict[str, Any]) -> None:
    assert difference(classifier(), tmp_path / "first.onnx") < 1e-3
    assert difference(classifier(**other), tmp_path / "second.onnx") < 1e-3


@pytest.mark.process
def test_write_onnx_updates_buffers(tmp_path: Path) -> None:
    """An ensemble's buffers hold the weights of its members."""
    config = EnsembleConfig(vocab_size=60, embedding_size=8, hidden_size=6, members=["static", "cnn"])
    model = EnsembleForSequenceClassification(config).eval()
    answers = []
    for weights in ([1.0, 0.0], [0.0, 1.0]):
        model.get_buffer("weights").copy_(torch.tensor(weights))
        session = onnxruntime.InferenceSession(write_onnx(model, ["input_ids"], tmp_path / "model.onnx"))
        answers.append(session.run(None, {"input_ids": np.arange(5, 25)[None]})[0])
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
