"""Layers by importance."""

from typing import Any

import pytest
import torch
from test_pruning import IDS, bert, distilbert
from torch import nn
from transformers import (
    EsmConfig,
    EsmForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
)

from eyas.compression.layers import layer_importance, layers_left, remove_layers
from eyas.compression.methods import check_methods, compress, merge, parse_methods
from eyas.errors import ModelError
from eyas.models.inside import layers_of

BATCHES = [{"input_ids": IDS[row : row + 1]} for row in range(2)]


class Unchanged(nn.Module):
    """A layer that gives back what it gets."""

    def forward(self, states: Any, *args: Any, **options: Any) -> Any:
        return states


def deep(make: Any) -> Any:
    model = make()
    layers_of(model).extend(list(layers_of(make())) + list(layers_of(make())))
    model.config.num_hidden_layers = 6
    return model


@pytest.mark.parametrize("make", [bert, distilbert])
def test_layers_that_change_nothing_are_left_out(make: Any, tmp_path: Any) -> None:
    model = deep(make)
    layers = layers_of(model)
    for place in (1, 3, 4):
        layers[place] = Unchanged()
    expected = model(input_ids=IDS).logits
    scores = layer_importance(model, BATCHES)
    assert [place for place, score in enumerate(scores.tolist()) if score < 1e-9] == [1, 3, 4]
    assert remove_layers(model, 0.5, BATCHES) == [0, 2, 5]
    torch.testing.assert_close(model(input_ids=IDS).logits, expected)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(input_ids=IDS).logits, expected)
    assert again.config.num_hidden_layers == 3


def test_layers_come_before_other_methods() -> None:
    model = deep(bert)
    methods = ["layers:0.5", "low-rank:0.5", "units:0.5", "int8"]
    check_methods(parse_methods(methods), model)
    compress(model, parse_methods(methods), BATCHES)
    merge(model)
    assert len(layers_of(model)) == 3
    assert model.config.eyas_compression == methods
    with pytest.raises(ModelError, match=r"Expected layers:0.5, heads:0.3"):
        parse_methods(["heads:0.3", "layers:0.5"])


def test_what_leaves_out_no_layer_is_refused() -> None:
    with pytest.raises(ModelError, match=r"layers:0.1 .* of 2 layers is none: expected at least 0.5"):
        remove_layers(bert(), 0.1, BATCHES)
    model = deep(bert)
    remove_layers(model, 0.99, BATCHES)
    assert len(layers_of(model)) == 1
    with pytest.raises(ModelError, match=r"of 1 layer cannot be left out"):
        remove_layers(model, 0.5, BATCHES)
    with pytest.raises(ModelError, match=r"of 1 layer cannot be left out"):
        check_methods(parse_methods(["layers:0.5"]), bert(), layers=1)
    assert [layers_left(count, 0.5) for count in (2, 3, 5, 6)] == [1, 2, 3, 3]


def test_settings_of_each_layer_go_with_it() -> None:
    """As Longformer's attention_window has them."""
    model = deep(bert)
    model.config.attention_window = [2, 4, 6, 8, 10, 12]
    model.config.data_labels = list("abcdef")  # as many as layers
    kept = remove_layers(model, 0.5, BATCHES)
    assert model.config.attention_window == [2 * (place + 1) for place in kept]
    assert model.config.data_labels == list("abcdef")


def test_families_whose_other_weights_depend_on_the_layers_are_refused() -> None:
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = EsmForSequenceClassification(EsmConfig(vocab_size=60, **small, pad_token_id=0)).eval()
    with pytest.raises(ModelError, match="depend on its number of layers"):
        remove_layers(model, 0.5, BATCHES)


def test_families_with_layers_of_several_kinds_are_refused() -> None:
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = ModernBertForSequenceClassification(ModernBertConfig(vocab_size=60, **small, pad_token_id=0))
    with pytest.raises(ModelError, match="differ, so none can be left out"):
        check_methods(parse_methods(["layers:0.5"]), model)
