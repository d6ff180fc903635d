"""Shared layers, against the attention of Pea-KD's own code."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from eyas.compression.methods import compress, merge, parse_methods
from eyas.models.inside import run

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "pea_kd.json").read_text())


def model_of(layers: int) -> Any:
    sizes = {"hidden_size": 8, "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": 16}
    return BertForSequenceClassification(BertConfig(vocab_size=20, **sizes)).double().eval()


def test_second_pass_exchanges_queries_and_keys_as_the_authors_do() -> None:
    model, inputs = model_of(2), GOLDEN["inputs"]
    first, second = (layer.attention.self for layer in model.bert.encoder.layer)
    with torch.no_grad():
        for name in ("query", "key", "value"):
            getattr(first, name).weight.copy_(torch.tensor(inputs[f"{name}_weight"], dtype=torch.float64))
            getattr(first, name).bias.copy_(torch.tensor(inputs[f"{name}_bias"], dtype=torch.float64))
    compress(model, parse_methods(["shared"]))
    hidden = torch.tensor(inputs["hidden"], dtype=torch.float64)
    mask = (1 - torch.tensor(inputs["attention_mask"], dtype=torch.float64))[:, None, None, :] * -10000.0
    for attention, name in ((first, "first_pass"), (second, "second_pass_query_key_exchanged")):
        expected = torch.tensor(GOLDEN["expected"][f"attention_context_{name}"], dtype=torch.float64)
        assert torch.allclose(attention(hidden, mask)[0], expected, atol=1e-7), name


def test_layers_run_in_the_authors_order() -> None:
    model = model_of(6)
    compress(model, parse_methods(["shared"]))
    layers = list(model.bert.encoder.layer)
    dense: list[nn.Module] = [layer.intermediate.dense for layer in layers]
    order = [dense.index(one) + 1 for one in dense]
    assert order == GOLDEN["expected"]["order_of_layers"]["sps_3_layers"]


def test_merged_layers_are_copies_with_the_same_answers() -> None:
    model, ids = model_of(4), torch.arange(10).view(1, 10)
    compress(model, parse_methods(["shared"]))
    before, shared = model(input_ids=ids).logits, model.num_parameters()
    merge(model)
    assert torch.equal(model(input_ids=ids).logits, before)
    assert model.num_parameters() - shared == sum(p.numel() for p in model.bert.encoder.layer[:2].parameters())
    assert model._tied_weights_keys is type(model)._tied_weights_keys


def test_queries_and_keys_of_shared_layers_are_those_of_their_copies() -> None:
    """Recipes over attention read each layer's own, though the modules are the same."""
    model, ids = model_of(4), torch.arange(10).view(1, 10)
    compress(model, parse_methods(["shared"]))
    shared = run(model, {"input_ids": ids}, {"queries", "keys"})
    merge(model)
    apart = run(model, {"input_ids": ids}, {"queries", "keys"})
    for field in ("queries", "keys"):
        assert len(shared[field]) == len(apart[field]) == 4
        assert all(torch.equal(*pair) for pair in zip(shared[field], apart[field], strict=True)), field
