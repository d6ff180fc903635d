"""Methods of compression by name, and what they do one after the other: `low-rank:0.25`, `heads:0.3`, `ternary`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eyas.compression.channels import channels_of, remove_channels
from eyas.compression.layers import check_layers, remove_layers
from eyas.compression.low_bits import LARGEST, TERNARY, Rounded, round_weights, stop_rounding
from eyas.compression.low_rank import RULES, FactoredEmbedding, FactoredLinear, low_rank
from eyas.compression.modules import matrices, named, replace_module
from eyas.compression.pruning import Batches, Part, Pruned, heads_of, on_device, prune, prune_parts, units_of
from eyas.compression.sharing import check_shareable, declare_shared, share_layers, unshare_layers
from eyas.errors import ModelError
from eyas.models.ensemble import EnsembleForSequenceClassification
from eyas.models.inside import layers_of
from eyas.models.student import is_student
from eyas.tasks import COMPRESSION

# What heads and units remove.
PARTS: dict[str, Callable[[Any], list[Part]]] = {"heads": heads_of, "units": units_of}
_ORDER = {"layers": 0, "low-rank": 1, "shared": 1, **dict.fromkeys(PARTS, 2), "prune": 3, **dict.fromkeys(LARGEST, 4)}
FORMS = (
    "low-rank:0.25, low-rank:budget:0.25, low-rank:energy:0.9, layers:0.5, heads:0.3, units:0.5, prune:0.5, shared, "
    + (", ".join(LARGEST))
)


@dataclass(frozen=True)
class Method:
    """One method, read from its text.

    Args:
        text: as it was given.
        name: layers, low-rank, heads, units, prune, shared, ternary, int4 or int8.
        share: of the parameters that low-rank keeps; of the layers, heads, units or weights that the others remove.
        rule: of low-rank: share, budget or energy; of ternary a key of `low_bits.TERNARY`.
    """

    text: str
    name: str
    share: float = 0.0
    rule: str = ""


def parse_methods(texts: Sequence[str]) -> list[Method]:
    """Read methods, to be applied one after the other.

    Raises:
        ModelError: an unknown method, a share that is not between 0 and 1, or two that exclude each other.
    """
    texts = (texts,) if isinstance(texts, str) else texts
    methods = [_parse(text) for text in texts]
    names = [method.name for method in methods]
    few = [name for name in names if name in LARGEST]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice or len(few) > 1:
        said = f"{twice} twice" if twice else f"{few[0]} and {few[1]}"
        raise ModelError(f"compress (--compress, --method) has {said}, expected one of a kind. Leave one out.")
    ordered = sorted(methods, key=lambda method: _ORDER[method.name])
    if ordered != methods:
        raise ModelError(
            f"compress (--compress, --method) is {', '.join(texts)}, but a later method would undo an earlier one. "
            f"Expected {', '.join(texts[methods.index(method)] for method in ordered)}."
        )
    if "shared" in names and not {"layers", "low-rank", "heads", "units"}.isdisjoint(names):
        raise ModelError("compress (--compress, --method): shared goes with prune and few bits alone. Leave one out.")
    return methods


def check_methods(methods: Sequence[Method], model: Any, layers: int | None = None) -> None:
    """Raises ModelError if a method does not support a model like `model`, with so many layers (by default its own)."""
    if methods and isinstance(model, EnsembleForSequenceClassification):
        raise ModelError(
            "An ensemble cannot be compressed. Leave members out (eyas prune-ensemble), or export it with --int8."
        )
    if methods:
        matrices(model)
        _check_first(model)
    names = {method.name for method in methods}
    if is_student(model) and {"units", "low-rank"} <= names:
        raise ModelError("compress (--compress, --method): a student has low-rank or units, not both. Leave one out.")
    for method in methods:
        if method.name == "shared":
            check_shareable(model, layers or len(layers_of(model)))
        elif method.name == "layers":
            check_layers(model, method.share, layers)
        elif method.name == "units" and is_student(model):
            channels_of(model)
        elif method.name in PARTS:
            PARTS[method.name](model)


def _parse(text: str) -> Method:
    name, *rest = text.split(":")
    if name in LARGEST or name == "shared":
        if rest and (len(rest) > 1 or name != "ternary" or rest[0] not in TERNARY):
            raise ModelError(f"compress (--compress, --method) is {text!r}, expected {_forms(name)}.")
        return Method(text, name, rule=rest[0] if rest else "row")
    rules = tuple(RULES) if name == "low-rank" else ("share",)
    if name not in _ORDER:
        raise ModelError(f"compress (--compress, --method) is {text!r}, expected one of {FORMS}.")
    rule = rest[0] if len(rest) == 2 else "share"
    try:
        share = float(rest[-1])
    except (IndexError, ValueError):
        share = float("nan")
    if len(rest) > 2 or rule not in rules or not 0 < share < 1:
        raise ModelError(
            f"compress (--compress, --method) is {text!r}, expected a share between 0 and 1, such as {_forms(name)}."
        )
    return Method(text, name, share, rule)


def _forms(name: str) -> str:
    own = [form for form in FORMS.split(", ") if form.split(":")[0] == name]
    return " or ".join([*own, *([f"ternary:{by}" for by in TERNARY if by != "row"] if name == "ternary" else [])])


def compress(model: Any, methods: Sequence[Method], batches: Batches = ()) -> Any:
    """Apply the methods one after the other, in place; `merge` ends what only training needs.

    Args:
        model: a classifier or tagger.
        batches: inputs of real texts, one text each, of which low-rank takes its inputs and layers, heads and units
            their importance.

    Raises:
        ModelError: the model does not have what a method changes, or no matrix becomes smaller.
    """
    for method in methods:
        _APPLY[method.name](model, method, batches)
        others = [text for text in getattr(model.config, COMPRESSION, None) or () if text.split(":")[0] != method.name]
        setattr(model.config, COMPRESSION, [*others, method.text])
    if is_shared(model):
        declare_shared(model)
    return model


@dataclass(frozen=True)
class Compress:
    """A model's compression between two stages of a recipe, by methods that need no texts.

    Args:
        methods: as for `parse_methods`.
    """

    methods: tuple[str, ...]

    def __call__(self, model: Any) -> Any:
        return compress(model, parse_methods(self.methods))


def is_shared(model: Any) -> bool:
    return "shared" in (getattr(model.config, COMPRESSION, None) or ())


def _check_first(model: Any) -> None:
    before = getattr(model.config, COMPRESSION, None)
    if before:
        raise ModelError(
            f"The model was compressed before ({', '.join(before)}), and a second time would undo that. Start from the "
            f"model that it was made from, and give all methods at once."
        )


def _apply_low_rank(model: Any, method: Method, batches: Batches) -> None:
    low_rank(model, method.share, method.rule, moments(model, batches) if batches else None)


def _apply_parts(model: Any, method: Method, batches: Batches) -> None:
    if not batches:
        raise ModelError(f"{method.name} needs texts to tell what is important, got none.")
    if method.name == "layers":
        remove_layers(model, method.share, batches)
    elif method.name == "units" and is_student(model):
        remove_channels(model, method.share, batches)
    else:
        prune_parts(model, PARTS[method.name](model), method.share, batches)


_APPLY: dict[str, Callable[[Any, Method, Batches], None]] = {
    "low-rank": _apply_low_rank,
    "prune": lambda model, method, _: prune(model, method.share),
    **dict.fromkeys(("layers", *PARTS), _apply_parts),
    "shared": lambda model, *_: share_layers(model),
    **dict.fromkeys(LARGEST, lambda model, method, _: round_weights(model, method.name, method.rule)),
}


@torch.no_grad()
def moments(model: Any, batches: Batches) -> dict[str, Tensor]:
    """{module: second moments of its inputs [inputs, inputs]; of the table, how often each token occurs}."""
    found: dict[str, Tensor] = {}
    tokens = 0

    def hook(name: str, size: int, table: bool) -> Any:
        def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].detach().cpu()
            if table:
                found[name] = found.get(name, torch.zeros(size)) + values.flatten().bincount(minlength=size)
            else:
                flat = values.reshape(-1, size).float()
                found[name] = found.get(name, torch.zeros(size, size)) + flat.T @ flat

        return add

    was_training, batches = model.training, on_device(batches, model.device)
    model.eval()
    handles = [
        one.module.register_forward_pre_hook(hook(one.name, one.weight.shape[0 if one.is_table else 1], one.is_table))
        for one in matrices(model)
    ]
    try:
        for batch in batches:
            model(**batch)
            tokens += next(iter(batch.values())).numel()
    finally:
        for handle in handles:
            handle.remove()
    model.train(was_training)
    return {name: value / max(tokens, 1) for name, value in found.items()}


@torch.no_grad()
def merge(model: Any) -> dict[str, Tensor]:
    """End a compression, in place: an ordinary model of the same class, whose weights are of low rank, zero or round.

    Returns:
        The factors of matrices of low rank: {module.down: [rank, inputs], module.up: [outputs, rank]}, which its
        weights, their products, no longer show.
    """
    stop_rounding(model)
    for _, module in named(model, nn.Module):
        if parametrize.is_parametrized(module, "weight") and all(
            isinstance(one, Pruned | Rounded) for one in module.parametrizations["weight"]
        ):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    factors: dict[str, Tensor] = {}
    for name, module in named(model, (FactoredLinear, FactoredEmbedding)):
        factors[f"{name}.down"] = module.down.weight.detach().cpu().clone()
        factors[f"{name}.up"] = module.up.weight.detach().cpu().clone()
        replace_module(model, name, module.merged().to(module.up.weight.device).train(module.training))
    if is_shared(model):
        unshare_layers(model)
    return factors
