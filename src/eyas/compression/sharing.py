"""Shared layers: half as many layers run twice (Pea-KD, Cho & Kang 2022, section 3.2, shuffled parameter sharing)."""

import copy
from typing import Any

from torch import nn

from eyas.errors import ModelError
from eyas.models.inside import PROJECTIONS, layers_of, projections


def share_layers(model: Any) -> None:
    """Let the upper half of the layers have the weights of the lower half, in place, until `unshare_layers`.

    In the upper half, the projection to queries makes the keys, and the projection to keys the queries.

    Raises:
        ModelError: an odd number of layers, or layers without these projections.
    """
    layers = layers_of(model)
    check_shareable(model, len(layers))
    half = len(layers) // 2
    exchanged = dict(zip(PROJECTIONS["queries"], PROJECTIONS["keys"], strict=True))
    exchanged |= {key: query for query, key in exchanged.items()}
    for lower, upper in zip(layers[:half], layers[half:], strict=True):
        _share(lower, upper, exchanged)


def declare_shared(model: Any) -> None:
    """Let checkpoints have shared weights once, under their first name."""
    names: dict[int, str] = {}
    model._tied_weights_keys = {
        name: names[id(parameter)]
        for name, parameter in (
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        )
        if names.setdefault(id(parameter), name) != name
    }
    model._keys_to_ignore_on_save = list(model._tied_weights_keys)


def check_shareable(model: Any, count: int) -> None:
    """Raises ModelError if `count` is odd, or models like `model` have no projections to queries and keys."""
    if count % 2:
        raise ModelError(f"shared: the model has {count} layers, expected an even number. Set layers (--layers).")
    try:
        for field in ("queries", "keys"):
            projections(model, field)
    except ModelError:
        raise ModelError(
            f"The layers of a {type(model).__name__} cannot be shared: it has no projections to queries and keys to "
            "exchange. Choose low-rank, prune, or few bits."
        ) from None


def _share(lower: nn.Module, upper: nn.Module, exchanged: dict[str, str]) -> None:
    for name, child in list(upper.named_children()):
        if not list(child.children()) and list(child.parameters(recurse=False)):
            setattr(upper, name, getattr(lower, exchanged.get(name, name)))
        else:
            _share(getattr(lower, name), child, exchanged)


def unshare_layers(model: Any) -> None:
    """Give each layer its own copy of shared weights, in place: the model that every library reads."""
    for name in ("_tied_weights_keys", "_keys_to_ignore_on_save"):
        vars(model).pop(name, None)
    seen: set[int] = set()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if id(child) in seen and list(child.parameters(recurse=False)):
                setattr(module, name, copy.deepcopy(child))
            elif list(child.parameters(recurse=False)):
                seen.add(id(child))
