"""Fewer layers: a transformer without those that change its logits least."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from eyas.compression.pruning import Batches, on_device
from eyas.errors import ModelError
from eyas.models.inside import layers_of

# Lists of a configuration that are none of its layers, however long.
OTHER_LISTS = ("architectures", "data_labels", "fields")


def layers_left(count: int, share: float) -> int:
    """How many layers stay if a share of them is left out, rounded down.

    Raises:
        ModelError: so small a share is not one layer, or there is but one.
    """
    left = count - math.floor(share * count + 1e-9)
    if left == count:
        said = f"is none: expected at least {1 / count:.2g}" if count > 1 else "cannot be left out"
        raise ModelError(f"layers:{share:g} (--method, --compress) of {count} layer{'s' * (count > 1)} {said}.")
    return max(left, 1)


def check_layers(model: Any, share: float, count: int | None = None) -> None:
    """Raises ModelError for families of which no layer can be left out, and for a share that is none.

    Args:
        count: the layers of the model to be; by default its own.
    """
    layers_left(count or len(layers_of(model)), share)
    kinds = set(getattr(model.config, "layer_types", None) or ())
    if len(kinds) > 1 or getattr(model.config, "global_attn_every_n_layers", None):
        raise ModelError(
            f"The layers of a {type(model).__name__} differ, so none can be left out. Choose low-rank or few bits."
        )


def remove_layers(model: Any, share: float, batches: Batches) -> list[int]:
    """Leave out the least important layers, in place.

    Args:
        share: in (0, 1), of all layers; one stays.

    Returns:
        The numbers of the layers that stay, from 0.

    Raises:
        ModelError: a family of which no layer can be left out, or so small a share is not one layer.
    """
    check_layers(model, share)
    layers = layers_of(model)
    every = list(layers)
    scores = layer_importance(model, batches)
    best = scores.argsort(descending=True, stable=True)[: layers_left(len(every), share)]
    kept = sorted(best.tolist())
    _put(layers, [every[place] for place in kept])
    for name, value in model.config.to_dict().items():
        if isinstance(value, list) and len(value) == len(every) and name not in OTHER_LISTS:  # a setting for each layer
            setattr(model.config, name, [value[place] for place in kept])
    model.config.num_hidden_layers = len(kept)
    with torch.device("meta"):
        expected = type(model)(model.config).state_dict()
    if {name: value.shape for name, value in model.state_dict().items()} != {
        name: value.shape for name, value in expected.items()
    }:
        raise ModelError(f"Other weights of a {type(model).__name__} depend on its number of layers. Choose low-rank.")
    return kept


@torch.no_grad()
def layer_importance(model: Any, batches: Batches) -> Tensor:
    """[layers] the mean squared change of the logits if a layer alone is left out."""
    layers, was_training = layers_of(model), model.training
    every, batches = list(layers), on_device(batches, model.device)
    model.eval()
    expected = [model(**batch).logits for batch in batches]
    scores = torch.zeros(len(every))
    for place in range(len(every)):
        _put(layers, every[:place] + every[place + 1 :])
        for batch, logits in zip(batches, expected, strict=True):
            scores[place] += (model(**batch).logits - logits).square().mean().cpu()
        _put(layers, every)
    model.train(was_training)
    return scores / max(len(batches), 1)


def _put(layers: nn.ModuleList, chosen: list[nn.Module]) -> None:
    layers._modules.clear()
    layers.extend(chosen)
