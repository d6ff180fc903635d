"""Graphs are converted once per form of model; each model has its own weights."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from eyas.export.onnx import write_onnx
from eyas.models import STUDENTS, TAGGERS, EnsembleConfig, EnsembleForSequenceClassification

SMALL = {"vocab_size": 60, "embedding_size": 8, "hidden_size": 6, "num_labels": 3, "pad_token_id": 0}


def student(architecture: str, tagging: bool = False, **settings: Any) -> Any:
    kind: Any = (TAGGERS if tagging else STUDENTS)[architecture]
    task = {"eyas_task": "tagging"} if tagging else {}
    torch.manual_seed(0)
    model = kind(kind.config_class(**{**SMALL, **task, **settings})).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model


def ensemble(**settings: Any) -> EnsembleForSequenceClassification:
    torch.manual_seed(0)
    return EnsembleForSequenceClassification(
        EnsembleConfig(**{**SMALL, "members": ["static", "cnn"], **settings})
    ).eval()


def bert(**settings: Any) -> BertForSequenceClassification:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(**{"vocab_size": 60, "num_labels": 3, **sizes, "initializer_range": 0.5, **settings})
    ).eval()


def difference(model: Any, path: Path) -> float:
    """Between the logits of torch and of the written file, at most."""
    ids = torch.randint(5, model.config.vocab_size, (3, 20))
    feed = {"input_ids": ids}
    if model.config.model_type == "bert":
        feed |= {"attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    session = onnxruntime.InferenceSession(write_onnx(model, list(feed), path))
    [found] = session.run(None, {name: part.numpy() for name, part in feed.items()})
    with torch.no_grad():
        return float(np.abs(found - model(**feed).logits.numpy()).max())


@pytest.mark.parametrize(
    "make",
    [
        lambda **settings: student("cnn", **settings),
        pytest.param(lambda **settings: student("static", **settings), marks=pytest.mark.slow),
        pytest.param(lambda **settings: student("bilstm", **settings), marks=pytest.mark.slow),
        pytest.param(lambda **settings: student("cnn-lstm", **settings), marks=pytest.mark.slow),
        pytest.param(lambda **settings: ensemble(**settings), marks=pytest.mark.process),
        pytest.param(lambda **settings: bert(**settings), marks=pytest.mark.process),
    ],
)
def test_graph_is_reused_for_other_weights_words_and_labels(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that another run on other data changes needs another conversion: 2 to 4 s for each export."""
    assert difference(make(), tmp_path / "first.onnx") < 1e-3
    monkeypatch.setattr(torch.onnx, "export", None)  # no second conversion
    other = make(vocab_size=200, id2label={0: "a", 1: "b", 2: "c"}, eyas_calibration={"temperature": 1.5})
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.5)
    assert difference(other, tmp_path / "second.onnx") < 1e-3


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (lambda **settings: student("static", **settings), {"num_labels": 4}),
        pytest.param(bert, {"num_attention_heads": 4}, marks=pytest.mark.slow),
        pytest.param(bert, {"layer_norm_eps": 5.0}, marks=pytest.mark.process),
    ],
)
def test_other_form_is_converted(make: Any, other: dict[str, Any], tmp_path: Path) -> None:
    assert difference(make(), tmp_path / "first.onnx") < 1e-3
    assert difference(make(**other), tmp_path / "second.onnx") < 1e-3


@pytest.mark.process
def test_tables_of_spellings_are_kept_apart(tmp_path: Path) -> None:
    characters = {"char_embedding_size": 8, "char_vocab_size": 30}
    for place, size in enumerate((60, 90)):
        model = student("bilstm", tagging=True, vocab_size=size, **characters)
        spelling = model.get_buffer("characters.spelling")
        spelling.copy_(torch.randint(0, 30, spelling.shape))
        path = write_onnx(model, ["input_ids"], tmp_path / f"{place}.onnx")
        ids = torch.randint(5, size, (3, 20))
        [found] = onnxruntime.InferenceSession(path).run(None, {"input_ids": ids.numpy()})
        with torch.no_grad():
            states = torch.cat([model.embeddings(ids), model.characters(ids)], -1)
            wanted = model.classifier(model.encoder.states(states, torch.ones_like(ids, dtype=torch.bool)))
        assert np.abs(found - wanted.numpy()).max() < 1e-3


@pytest.mark.process
def test_write_onnx_updates_buffers(tmp_path: Path) -> None:
    """An ensemble's buffers hold the weights of its members."""
    model = ensemble()
    answers = []
    for weights in ([1.0, 0.0], [0.0, 1.0]):
        model.get_buffer("weights").copy_(torch.tensor(weights))
        session = onnxruntime.InferenceSession(write_onnx(model, ["input_ids"], tmp_path / "model.onnx"))
        answers.append(session.run(None, {"input_ids": np.arange(5, 25)[None]})[0])
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
