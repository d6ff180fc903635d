"""The ensemble as a model: shared word vectors, combination, members left out."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, set_seed

from eyas.errors import ModelError
from eyas.models import EnsembleConfig, EnsembleForSequenceClassification
from eyas.models.ensemble import combine, subset
from eyas.settings import member_names
from eyas.tasks import Task

THREE = ["cnn", "bilstm", "cnn-lstm"]


def _model(**settings: object) -> EnsembleForSequenceClassification:
    set_seed(0)
    config = EnsembleConfig(vocab_size=60, embedding_size=8, hidden_size=6, members=THREE, **settings)
    return EnsembleForSequenceClassification(config).eval()


def _ids() -> torch.Tensor:
    return torch.tensor([[5, 6, 7, 8, 9], [10, 11, 0, 0, 0]])


def test_members_share_one_table(tmp_path: Path) -> None:
    model = _model()
    tables = [name for name, value in model.state_dict().items() if value.shape[0] == 60]
    assert tables == ["embeddings.weight"]
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(_ids()).logits, model(_ids()).logits)


def test_ensemble_logits_are_mean_of_members() -> None:
    model = _model()
    with torch.no_grad():
        output = model(_ids())
        alone = [subset(model, [place])(_ids()).logits for place in range(3)]
    assert output.member_logits.shape == (3, 2, 2)
    torch.testing.assert_close(output.logits, torch.stack(alone).mean(0))


def test_ensemble_ignores_padding() -> None:
    model = _model(combination="probabilities")
    with torch.no_grad():
        torch.testing.assert_close(model(torch.tensor([[10, 11]])).logits[0], model(_ids()).logits[1])


@pytest.mark.parametrize("kind", ["classification", "aspects", "multi-label", "regression"])
def test_combine_averages_probabilities_of_each_kind(kind: str) -> None:
    labels = {"aspects": ("a=x", "b=x", "a=y", "b=y"), "regression": ("score",)}.get(kind, ("x", "y", "z", "u"))
    task = Task(kind, labels)  # type: ignore[arg-type]
    members = torch.randn(3, 5, len(labels), generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.5, 0.3, 0.2])
    combined = combine(task, members, weights, "probabilities").numpy()
    own, shares = members.numpy().astype(np.float64), weights.numpy()[:, None, None]

    def softmax(x: np.ndarray) -> np.ndarray:
        power = np.exp(x)
        return power / power.sum(-1, keepdims=True)

    if kind == "regression":
        np.testing.assert_allclose(combined, (own * shares).sum(0), atol=1e-6)
    elif kind == "multi-label":
        np.testing.assert_allclose(1 / (1 + np.exp(-combined)), (shares / (1 + np.exp(-own))).sum(0), atol=1e-6)
    else:
        for columns in [[0, 2], [1, 3]] if kind == "aspects" else [[0, 1, 2, 3]]:
            expected = (softmax(own[..., columns]) * shares).sum(0)
            np.testing.assert_allclose(softmax(combined[:, columns]), expected, atol=1e-6)


def test_diverged_member_is_reported_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    model = _model()
    with torch.no_grad():
        model.members[1].head.classifier.weight.fill_(float("nan"))
    model.train()
    with caplog.at_level(logging.WARNING, logger="eyas"):
        output = model(_ids())
    assert "bilstm, member 2, diverged" in caplog.text
    assert output.member_logits.shape[0] == 2
    assert bool(output.logits.isfinite().all())
    again = _model()
    again.load_state_dict(model.state_dict())  # as from a checkpoint
    assert again.left_out == {1}
    model.eval()
    with torch.no_grad():
        assert bool(model(_ids()).logits.isfinite().all())
        for place in (0, 2):
            model.members[place].head.classifier.weight.fill_(1e9)
    model.train()
    with pytest.raises(ModelError, match=r"All members diverged\. Lower learning_rate"):
        model(_ids())


def test_member_names_are_parsed() -> None:
    assert member_names("ensemble:cnn, bilstm") == ["cnn", "bilstm"]
    assert member_names("ensemble:cnn,cnn") == ["cnn", "cnn"]
    with pytest.raises(ModelError, match="has 1 members, expected two or more"):
        member_names("ensemble:cnn")
    with pytest.raises(ModelError, match=r"no member 'bert-tiny'\. Expected some of static, cnn, bilstm, cnn-lstm"):
        member_names("ensemble:cnn,bert-tiny")
