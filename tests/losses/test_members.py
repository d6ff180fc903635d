"""Losses between the members of an ensemble."""

import numpy as np
import pytest
import torch

from eyas.losses import DiversityLoss, MutualLoss
from eyas.tasks import Task

TASK = Task("classification", ("a", "b", "c"))


def _softmax(x: np.ndarray) -> np.ndarray:
    power = np.exp(x)
    return np.asarray(power / power.sum(-1, keepdims=True))


def _student(members: int = 3) -> dict[str, torch.Tensor]:
    logits = torch.randn(members, 4, 3, generator=torch.Generator().manual_seed(1))
    return {"member_logits": logits, "logits": logits.mean(0)}


def test_mutual_loss_matches_manual_value() -> None:
    student = _student()
    beliefs = _softmax(student["member_logits"].double().numpy())
    terms = [
        (beliefs[j] * np.log(beliefs[j] / beliefs[k])).sum(-1).mean() for k in range(3) for j in range(3) if j != k
    ]
    assert float(MutualLoss()(student, {}, {"task": TASK})) == pytest.approx(np.mean(terms), rel=1e-5)
    assert float(MutualLoss()(_student(1), {}, {"task": TASK})) == 0.0


def test_mutual_loss_has_no_gradient_through_the_teaching_member() -> None:
    """Each of two members gets only the gradient of its own divergence."""
    student = _student(2)
    members = student["member_logits"].requires_grad_()
    MutualLoss(weight=1.0)(student, {}, {"task": TASK}).backward()
    beliefs = members.detach().softmax(-1)
    expected = torch.stack([beliefs[0] - beliefs[1], beliefs[1] - beliefs[0]]) / 4 / 2  # rows, pairs
    torch.testing.assert_close(members.grad, expected)


def test_diversity_loss_matches_manual_value() -> None:
    student = _student()
    beliefs = _softmax(student["member_logits"].double().numpy())
    expected = -((beliefs - beliefs.mean(0)) ** 2).sum(-1).mean()
    assert float(DiversityLoss()(student, {}, {"task": TASK})) == pytest.approx(expected, rel=1e-5)
    alike = {"member_logits": student["logits"].expand(3, 4, 3), "logits": student["logits"]}
    assert float(DiversityLoss()(alike, {}, {"task": TASK})) == pytest.approx(0.0, abs=1e-12)
