"""Few bits: weights that are rounded in every step while they are trained (TernaryBERT, Zhang et al. 2020)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eyas.compression.modules import matrices

# Values beyond are cut off before weights are made ternary (TernaryBERT's code).
CLIP = 2.5
# Ternary weight networks (Li et al. 2016, eq. 6): weights below this share of the mean become 0.
TERNARY_FACTOR = 0.7
# Largest whole number of a signed weight; with 8 bits as the exporter has it, so that no processor saturates.
LARGEST = {"ternary": 1, "int4": 7, "int8": 64}
# Ways to make weights ternary: whether by the loss's curvature, and whether with a scale for each row or for the whole
# layer, as in TernaryBERT. Tables always have one for each row.
TERNARY = {"row": (False, True), "layer": (False, False), "loss-aware": (True, True), "loss-aware-layer": (True, False)}
# Steps of the search for a loss-aware scale; decay of the gradient's second moment, Adam's default.
ALTERNATIONS, DECAY = 10, 0.999
# Kinds that are stored in fewer than 8 bits.
PACKED = ("ternary", "int4")
# Steps between the smallest and the largest activation, of 8 bits.
LEVELS = 255


def ternary(weight: Tensor, rows: bool = False) -> Tensor:
    """{-scale, 0, scale}, with one scale for the matrix or for each row (Li et al. 2016, eq. 5 and 6).

    Gradients pass unchanged, except where a weight is at the clip's bounds or beyond.
    """
    clipped = weight.clamp(-CLIP, CLIP)
    size = clipped.abs()
    above = size > TERNARY_FACTOR * (size.mean(-1, keepdim=True) if rows else size.mean())
    scale = _total(size * above, rows) / _total(above, rows).clamp_min(1)
    return _straight_through(weight, scale * clipped.sign() * above, weight.abs() < CLIP)


def loss_aware_ternary(weight: Tensor, curvature: Tensor, rows: bool = False) -> Tensor:
    """As `ternary`, with the values that minimize the squared error weighted by the curvature (Hou and Kwok 2018, 4.1).

    Given the scale, weights above half of it are not 0; given these, the scale is their weighted mean. Ten times in
    turn, from the values of `ternary`.

    Args:
        curvature: [as weight] the loss's, up to a factor; not negative.
    """
    clipped = weight.clamp(-CLIP, CLIP)
    size, curvature = clipped.abs(), curvature + curvature.mean() * 1e-3 + 1e-30
    scale = ternary(weight.detach(), rows).abs()
    scale = scale.amax(-1, keepdim=True) if rows else scale.max()
    for _ in range(ALTERNATIONS):
        heavy = curvature * (size > scale / 2)
        scale = _total(heavy * size, rows) / _total(heavy, rows).clamp_min(1e-30)
    return _straight_through(weight, scale * clipped.sign() * (size > scale / 2), weight.abs() < CLIP)


def _total(values: Tensor, rows: bool) -> Tensor:
    return values.sum(-1, keepdim=True) if rows else values.sum()


def rounded(weight: Tensor, largest: int) -> Tensor:
    """Multiples of a row's largest / `largest`, each moved to the next multiple of its largest / 64.

    These the exporter stores exactly: it has whole numbers up to 64 for every weight, and a scale for each row.
    """
    scale = weight.abs().amax(-1, keepdim=True).clamp_min(1e-12) / LARGEST["int8"]
    step = LARGEST["int8"] / largest
    return _straight_through(weight, ((weight / (scale * step)).round() * step).round() * scale)


def rounded_activations(values: Tensor) -> Tensor:
    """256 equal steps from the smallest to the largest value of the tensor (TernaryBERT, eq. 6; one scale a tensor)."""
    low, high = values.min(), values.max()
    step = (high - low + 1e-8) / LEVELS
    return _straight_through(values, ((values - low) / step).round() * step + low)


def _straight_through(values: Tensor, result: Tensor, passing: Tensor | None = None) -> Tensor:
    """`result`, with the gradient of `values` where it is `passing`."""
    if not torch.is_grad_enabled():
        return result  # exactly
    given = values if passing is None else values * passing
    return given + (result - given).detach()


class Rounded(nn.Module):
    """A parametrization: the weight as it is stored with few bits."""

    def __init__(self, kind: str, rows: bool) -> None:
        super().__init__()
        self.kind, self.rows = kind, rows

    def forward(self, weight: Tensor) -> Tensor:
        return quantized(weight, self.kind, self.rows)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


class LossAware(Rounded):
    """Ternary weights by the loss's curvature: the root of the gradient's second moment, as Adam has it.

    `learn_curvature` updates the moments, once a step.
    """

    moments: Tensor

    def __init__(self, weight: Tensor, rows: bool) -> None:
        super().__init__("ternary", rows)
        self.register_buffer("moments", torch.zeros_like(weight))

    def forward(self, weight: Tensor) -> Tensor:
        return loss_aware_ternary(weight, self.moments.sqrt(), self.rows)


def learns_curvature(model: nn.Module) -> bool:
    return any(isinstance(module, LossAware) for module in model.modules())


@torch.no_grad()
def learn_curvature(model: nn.Module) -> None:
    """Add a step's gradients, before they are set to zero, to the moments; those that are not finite are left out."""
    every: list[Any] = [module for module in model.modules() if parametrize.is_parametrized(module, "weight")]
    for module in every:
        gradient = module.parametrizations["weight"].original.grad
        for how in module.parametrizations["weight"]:
            if isinstance(how, LossAware) and gradient is not None and bool(gradient.isfinite().all()):
                how.moments.lerp_(gradient.square(), 1 - DECAY)


def quantized(weight: Tensor, kind: str, rows: bool) -> Tensor:
    """The weight as it is stored; `kind` is a key of `LARGEST`. Its rows always have scales of their own but ternary's.

    Does not change what is stored so already.
    """
    return ternary(weight, rows) if kind == "ternary" else rounded(weight, LARGEST[kind])


def round_weights(model: Any, kind: str, by: str = "row") -> None:
    """Train with weights of few bits and activations of 8 bits, in place, until `merge`.

    Args:
        kind: "ternary", "int4" or "int8".
        by: of ternary, a key of `TERNARY`.
    """
    is_aware, by_row = TERNARY[by]
    for matrix in matrices(model):
        rows = by_row or matrix.is_table
        how = LossAware(matrix.weight, rows) if is_aware else Rounded(kind, rows)
        parametrize.register_parametrization(matrix.module, "weight", how, unsafe=True)
        if not matrix.is_table:
            matrix.module.register_forward_pre_hook(_round_inputs)


def _round_inputs(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (rounded_activations(inputs[0]), *inputs[1:])


@torch.no_grad()
def rounded_copy(model: Any, kind: str) -> Any:
    """Round a model's weights at once, without training, in place."""
    for matrix in matrices(model):
        matrix.weight.copy_(quantized(matrix.weight, kind, rows=_own_scales(matrix.weight, matrix.is_table)))
    return model


def _own_scales(weight: Tensor, table: bool) -> bool:
    """Whether each row gets a scale; one that is ternary as a whole keeps its only scale."""
    return table or not bool(((weight == 0) | (weight.abs() == weight.abs().max())).all())


def stop_rounding(model: Any) -> None:
    """Keep the rounded weights, and end the rounding of activations."""
    for module in model.modules():
        for key in [key for key, hook in module._forward_pre_hooks.items() if hook is _round_inputs]:
            del module._forward_pre_hooks[key]
