"""Fewer layers: a transformer without those that change its logits least."""

from typing import Any

import torch
from torch import Tensor, nn

from eyas.compression.pruning import Batches, on_device
from eyas.errors import ModelError
from eyas.models.inside import layers_of

# Settings of families whose layers differ, so that one cannot take another's place.
DIFFERENT = ("layer_types", "global_attn_every_n_layers")


def check_layers(model: Any) -> None:
    """Raises ModelError for families of which no layer can be left out."""
    layers_of(model)
    if any(getattr(model.config, name, None) for name in DIFFERENT):
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
        ModelError: so small a share is not one layer.
    """
    layers = layers_of(model)
    every = list(layers)
    count = len(every) - min(round(share * len(every)), len(every) - 1)
    if count == len(every):
        raise ModelError(
            f"layers:{share:g} of {len(every)} layers is none: expected at least {1 / len(every):.2g} (--method)."
        )
    scores = layer_importance(model, batches)
    kept = sorted(scores.argsort(descending=True, stable=True)[:count].tolist())
    _put(layers, [every[place] for place in kept])
    model.config.num_hidden_layers = count
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
