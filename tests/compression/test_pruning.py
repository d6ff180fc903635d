"""Pruning: what becomes zero, what is important, and what that does to the model's shapes."""

from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    MegatronBertConfig,
    MegatronBertForSequenceClassification,
    set_seed,
)

from eyas.compression.methods import compress, merge, parse_methods
from eyas.compression.pruning import heads_of, importance, prune, prune_parts, units_of
from eyas.compression.shrink import shrunk
from eyas.errors import ModelError

IDS = torch.arange(5, 45).view(2, 20)


def bert(heads: int = 4) -> Any:
    set_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": heads, "intermediate_size": 64}
    model = BertForSequenceClassification(BertConfig(vocab_size=60, **sizes)).eval()
    with torch.no_grad():  # as large as after training, so that the parts differ
        for parameter in model.parameters():
            parameter.mul_(5)
    return model


def distilbert() -> Any:
    set_seed(0)
    return DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64)
    ).eval()


def test_smallest_weights_become_zero_and_stay_so() -> None:
    model = bert()
    linear = model.bert.encoder.layer[0].attention.self.query
    before = linear.weight.detach().clone()
    prune(model, 0.3)
    zeros = linear.weight == 0
    assert int(zeros.sum()) == round(0.3 * 32 * 32)
    assert float(before[zeros].abs().max()) <= float(before[~zeros].abs().min())
    prune(model, 0.6)  # a later round of a schedule
    assert int((linear.weight == 0).sum()) == round(0.6 * 32 * 32)
    assert bool((linear.weight == 0)[zeros].all())
    torch.optim.SGD(model.parameters(), 1.0).zero_grad()
    model(input_ids=IDS, labels=torch.tensor([0, 1])).loss.backward()
    torch.optim.SGD(model.parameters(), 1.0).step()
    assert int((linear.weight == 0).sum()) == round(0.6 * 32 * 32)
    merge(model)
    assert int((linear.weight == 0).sum()) == round(0.6 * 32 * 32)
    assert all("parametrizations" not in name for name in model.state_dict())


@pytest.mark.parametrize("find", [heads_of, units_of])
def test_importance_is_the_derivative_of_the_logits(find: Any) -> None:
    """Held against the logits of a model whose layer reads a head or unit a little louder."""
    model = bert()
    parts, batch = find(model), {"input_ids": IDS[:1]}
    signs = torch.randint(0, 2, (1, 2), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    found = importance(model, parts, [batch])
    for layer, place in ((0, 0), (1, 2)):
        reader, step = parts[layer].reader, 1e-3
        size = reader.in_features // parts[layer].count
        columns = slice(place * size, (place + 1) * size)
        sums = []
        for factor in (1 + step, 1 - step):
            before = reader.weight.detach().clone()
            with torch.no_grad():
                reader.weight[:, columns] *= factor
                sums.append(float((model(**batch).logits.double() * signs).sum()))
                reader.weight.copy_(before)
        assert float(found[layer][place]) == pytest.approx(((sums[0] - sums[1]) / (2 * step)) ** 2, rel=0.05, abs=1e-6)


@pytest.mark.parametrize("make", [bert, distilbert])
@pytest.mark.parametrize("method", ["heads:0.5", "units:0.7"])
def test_pruned_parts_leave_a_smaller_model_with_the_same_answers(make: Any, method: str, tmp_path: Any) -> None:
    model = make()
    compress(model, parse_methods([method]), [{"input_ids": IDS[row : row + 1]} for row in range(2)])
    merge(model)
    smaller = shrunk(model, tmp_path)
    attention = torch.ones_like(IDS)
    expected = model(input_ids=IDS, attention_mask=attention).logits
    assert torch.allclose(smaller(input_ids=IDS, attention_mask=attention).logits, expected, atol=1e-5)
    count = {"heads:0.5": 2 * 2 * 3 * (32 * 8 + 8) + 2 * 2 * 8 * 32, "units:0.7": 90 * (32 + 1 + 32)}[method]
    assert model.num_parameters() - smaller.num_parameters() == count


def test_every_layer_keeps_a_head_and_numbers_may_be_uneven(tmp_path: Any) -> None:
    model = bert()
    prune_parts(model, heads_of(model), 0.9, [{"input_ids": IDS}])
    kept = [int(part.kept().sum()) for part in heads_of(model)]
    assert kept == [1, 1]
    model = bert()
    prune_parts(model, heads_of(model), 0.4, [{"input_ids": IDS}])  # 3 of 8
    assert sorted(int(part.kept().sum()) for part in heads_of(model)) in ([1, 4], [2, 3])


def test_families_without_known_heads_are_refused() -> None:
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = DebertaV2ForSequenceClassification(DebertaV2Config(vocab_size=60, **small))
    with pytest.raises(ModelError, match="heads of a DebertaV2ForSequenceClassification cannot be pruned"):
        heads_of(model)
    megatron = MegatronBertForSequenceClassification(MegatronBertConfig(vocab_size=60, **small))
    with pytest.raises(ModelError, match="heads of a MegatronBertForSequenceClassification cannot be pruned"):
        heads_of(megatron)  # it joins all heads into one size


def test_share_that_is_no_head_is_refused() -> None:
    model = bert()
    with pytest.raises(ModelError, match="of 8 heads or units is none. Give a larger share"):
        prune_parts(model, heads_of(model), 0.05, [{"input_ids": IDS}])
