"""Low rank, against numpy's singular values and sums by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, set_seed

from eyas.compression.low_rank import FactoredEmbedding, FactoredLinear, low_rank, spread
from eyas.compression.methods import merge, moments
from eyas.errors import ModelError


@pytest.fixture
def bert() -> Any:
    set_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return BertForSequenceClassification(BertConfig(vocab_size=60, **sizes)).eval()


def test_plain_factors_have_the_smallest_error(bert: Any) -> None:
    """Eckart and Young: the error is the root of the squared singular values that are left out."""
    linear = bert.bert.encoder.layer[0].intermediate.dense
    before, values = linear.weight.detach().clone(), np.linalg.svd(linear.weight.detach().numpy(), compute_uv=False)
    ranks = low_rank(bert, 0.5)
    name = "bert.encoder.layer.0.intermediate.dense"
    assert ranks[name] == 10  # 0.5 · 64 · 32 / (64 + 32), rounded down
    found = bert.bert.encoder.layer[0].intermediate.dense
    assert isinstance(found, FactoredLinear)
    error = float((found.weight - before).detach().norm())
    assert error == pytest.approx(float(np.sqrt((values[10:] ** 2).sum())), rel=1e-4)


def test_inputs_decide_what_is_kept() -> None:
    """A weight that is large, but whose input is always 0, is left out; by hand."""
    model = _Two()
    with torch.no_grad():
        model.linear.weight.copy_(torch.diag(torch.linspace(4.0, 1.0, 32)))
    moment = torch.diag(torch.tensor([0.0] * 16 + [1.0] * 16))
    low_rank(model, 0.6, inputs={"linear": moment})
    diagonal = model.linear.weight.detach().diagonal()
    assert float(diagonal[:16].abs().max()) < 0.3  # the ridge keeps a little
    assert torch.allclose(diagonal[16:25], torch.linspace(4.0, 1.0, 32)[16:25], atol=1e-3)


@torch.no_grad()
def test_spread_values_lose_less_in_8_bits() -> None:
    """Rounding the values between the factors to 255 levels costs less than half, and the product stays."""
    torch.manual_seed(0)
    values = torch.linalg.svd(torch.randn(32, 32))
    model, inputs = _Two(), torch.randn(500, 32)
    model.linear.weight.copy_(values.U @ torch.diag(2.0 ** -torch.arange(32)) @ values.Vh)
    low_rank(model, 0.9)
    found: Any = model.linear

    def error() -> float:
        between = found.down(inputs)
        step = (between.max() - between.min()) / 255
        return float((found.up((between / step).round() * step) - found(inputs)).square().mean())

    before, product = error(), found.weight.clone()
    spread(found)
    torch.testing.assert_close(found.weight, product, atol=1e-6, rtol=0)
    assert error() < before / 2


@torch.no_grad()
def test_spread_table_is_the_same() -> None:
    table = FactoredEmbedding(torch.randn(60, 8), torch.randn(32, 8), 0)
    before, factor = table.weight.clone(), table.down.weight.clone()
    spread(table)
    torch.testing.assert_close(table.weight, before, atol=1e-5, rtol=0)
    assert not torch.allclose(table.down.weight, factor, atol=1e-2)


class _Two(nn.Module):
    """As much of a model as low rank reads: a table that is too small, and a linear layer."""

    num_labels = 2

    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear = nn.Embedding(2, 4), nn.Linear(32, 32)

    def get_input_embeddings(self) -> nn.Module:
        return self.table


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_budget_is_kept_and_goes_to_the_matrices_that_need_it(bert: Any, share: float) -> None:
    with torch.no_grad():  # of rank one: it needs no more
        bert.bert.encoder.layer[1].output.dense.weight.copy_(torch.ones(32, 64))
    sizes = {name: p.numel() for name, p in bert.named_parameters() if p.dim() == 2 and p.numel() >= 512}
    del sizes["bert.embeddings.position_embeddings.weight"]
    ranks = low_rank(bert, share, "budget")
    assert ranks["bert.encoder.layer.1.output.dense"] == 1
    kept = sum(
        module.down.weight.numel() + module.up.weight.numel()
        for module in bert.modules()
        if isinstance(module, FactoredLinear | FactoredEmbedding)
    )
    whole = [name for name in sizes if name.removesuffix(".weight") not in ranks]
    assert kept + sum(sizes[name] for name in whole) <= share * sum(sizes.values())


def test_energy_decides_each_rank(bert: Any) -> None:
    """Singular values 3 and 1 of a matrix: the first has 90 % of the energy."""
    model = _Two()
    with torch.no_grad():
        model.linear.weight.copy_(torch.diag(torch.tensor([3.0, 1.0] + [0.0] * 30)))
    assert low_rank(model, 0.89, "energy") == {"linear": 1}
    model = _Two()
    with torch.no_grad():
        model.linear.weight.copy_(torch.diag(torch.tensor([3.0, 1.0] + [0.0] * 30)))
    assert low_rank(model, 0.91, "energy") == {"linear": 2}


def test_merged_model_answers_as_before(bert: Any) -> None:
    ids = torch.arange(5, 45).view(2, 20)
    low_rank(bert, 0.4, inputs=moments(bert, [{"input_ids": ids}]))
    before = bert(input_ids=ids).logits
    factors = merge(bert)
    assert not any(isinstance(module, FactoredLinear | FactoredEmbedding) for module in bert.modules())
    assert torch.allclose(bert(input_ids=ids).logits, before, atol=1e-5)
    assert len(factors) == 2 * 14  # six layers each, the pooler, the table


def test_moments_are_those_of_the_inputs(bert: Any) -> None:
    ids = torch.tensor([[7, 8, 8]])
    found = moments(bert, [{"input_ids": ids}])
    states = bert(input_ids=ids, output_hidden_states=True).hidden_states
    expected = states[0][0].T @ states[0][0] / 3
    assert torch.allclose(found["bert.encoder.layer.0.attention.self.query"], expected, atol=1e-5)
    counts = found["bert.embeddings.word_embeddings"]
    assert (float(counts[8]), float(counts[7]), float(counts.sum())) == pytest.approx((2 / 3, 1 / 3, 1.0))


def test_tied_table_and_useless_shares_are_refused(bert: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no matrix of this BertForSequenceClassification becomes smaller"):
        low_rank(bert, 0.999999, "energy")
    bert.tied = nn.Linear(32, 60)
    bert.tied.weight = bert.get_input_embeddings().weight
    with pytest.raises(ModelError, match="tied to another layer"):
        low_rank(bert, 0.5)
