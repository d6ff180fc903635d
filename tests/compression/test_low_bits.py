"""Weights of few bits, against the values of TernaryBERT's own code."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils.parametrize import register_parametrization

from eyas.compression.low_bits import (
    CLIP,
    LossAware,
    learn_curvature,
    learns_curvature,
    loss_aware_ternary,
    quantized,
    rounded,
    rounded_activations,
    ternary,
)

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "ternarybert.json").read_text())
INPUTS, EXPECTED = GOLDEN["inputs"], GOLDEN["expected"]


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("name", "rows"), [("one_scale", False), ("scale_of_each_row", True)])
def test_ternary_weights_and_their_gradients_are_those_of_the_authors(name: str, rows: bool) -> None:
    weight = tensor(INPUTS["weights"]).requires_grad_()
    found = ternary(weight, rows)
    assert torch.allclose(found, tensor(EXPECTED[f"ternary_{name}"]), atol=1e-8)
    found.backward(tensor(INPUTS["upstream_gradient"]))  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert torch.allclose(weight.grad, tensor(EXPECTED[f"straight_through_gradient_{name}"]))


def test_rounded_activations_are_those_of_the_authors() -> None:
    """Their min-max quantizer over the whole tensor, of values that it clips first."""
    values = tensor(INPUTS["activations"]).clamp(-CLIP, CLIP)
    expected = tensor(EXPECTED["activation_8bit_min_max_whole_tensor"])
    assert torch.allclose(rounded_activations(values), expected, atol=1e-7)


def test_rounded_rows_are_multiples_of_their_scale() -> None:
    """By hand: of 64 steps to the largest of each row, 9, 18, 27, 37, 46, 55 and 64."""
    weight = torch.tensor([[0.64, -0.31, 0.04], [-14.0, 3.1, 7.2]])
    expected = [[0.64, -0.27, 0.0], [-14.0, 14 * 18 / 64, 14 * 37 / 64]]
    assert torch.allclose(rounded(weight, 7), torch.tensor(expected))


@pytest.mark.parametrize("kind", ["ternary", "int4", "int8"])
@pytest.mark.parametrize("rows", [True, False])
def test_rounding_twice_changes_nothing(kind: str, rows: bool) -> None:
    weight = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    once = quantized(weight, kind, rows)
    assert torch.allclose(quantized(once, kind, rows), once, rtol=1e-6)


def best_ternary(weight: torch.Tensor, curvature: torch.Tensor) -> float:
    """The smallest weighted error of all ternary vectors, each with its best scale (brute force)."""
    errors = []
    for signs in itertools.product((-1.0, 0.0, 1.0), repeat=len(weight)):
        values = torch.tensor(signs, dtype=weight.dtype)
        scale = float((curvature * values * weight).sum() / (curvature * values.square()).sum().clamp_min(1e-12))
        errors.append(float((curvature * (scale * values - weight).square()).sum()))
    return min(errors)


def test_loss_aware_weights_have_the_least_weighted_error() -> None:
    random, reached = torch.Generator().manual_seed(0), 0
    for _ in range(20):
        weight = torch.randn(7, dtype=torch.float64, generator=random)
        curvature = torch.rand(7, dtype=torch.float64, generator=random) ** 3
        best = best_ternary(weight, curvature)
        found, plain = (
            float((curvature * (values - weight).square()).sum())
            for values in (loss_aware_ternary(weight, curvature), ternary(weight))
        )
        assert found <= plain * 1.001
        reached += found <= best * 1.01
    assert reached >= 15  # the others stop at a local minimum


def test_loss_aware_rows_are_found_apart() -> None:
    weight, curvature = torch.randn(3, 9), torch.rand(3, 9)
    rows = torch.stack([loss_aware_ternary(w, c) for w, c in zip(weight, curvature, strict=True)])
    factor = curvature.mean(-1, keepdim=True) / curvature.mean()  # what keeps a curvature from 0 is the matrix's mean
    assert torch.allclose(loss_aware_ternary(weight, curvature / factor, rows=True), rows, atol=1e-2)


def test_curvature_is_the_second_moment_of_the_gradient() -> None:
    """By hand: two steps with gradients 2 and 4 decay as Adam's second moment does; infinite ones are left out."""
    linear = torch.nn.Linear(2, 1, bias=False)
    how = LossAware(linear.weight, rows=True)
    register_parametrization(linear, "weight", how, unsafe=True)
    assert learns_curvature(linear)
    for gradient in (2.0, 4.0, float("inf")):
        linear.parametrizations["weight"].original.grad = torch.full((1, 2), gradient)
        learn_curvature(linear)
    assert how.moments.tolist() == [pytest.approx([0.001 * 4 * 0.999 + 0.001 * 16] * 2)]
