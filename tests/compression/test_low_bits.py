"""Weights of few bits, against the values of TernaryBERT's own code."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eyas.compression.low_bits import CLIP, quantized, rounded, rounded_activations, ternary

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
    """By hand: 7 steps to the largest of each row."""
    weight = torch.tensor([[0.7, -0.31, 0.04], [-14.0, 3.1, 7.2]])
    assert torch.allclose(rounded(weight, 7), torch.tensor([[0.7, -0.3, 0.0], [-14.0, 4.0, 8.0]]))


@pytest.mark.parametrize("kind", ["ternary", "int4", "int8"])
@pytest.mark.parametrize("rows", [True, False])
def test_rounding_twice_changes_nothing(kind: str, rows: bool) -> None:
    weight = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    once = quantized(weight, kind, rows)
    assert torch.allclose(quantized(once, kind, rows), once, rtol=1e-6)
