"""Losses over logits compared with slow reference values."""

from typing import Any

import numpy as np
import pytest
import torch

from eyas.errors import ModelError
from eyas.losses import (
    AdaKDLoss,
    AnnealedMSELoss,
    ContinuationLoss,
    CosineLogitLoss,
    DISTLoss,
    DKDLoss,
    HuberLogitLoss,
    JensenShannonLoss,
    LogitStandardizationLoss,
    Loss,
    SoftCrossEntropyLoss,
    schedules,
)

random = np.random.default_rng(0)
OURS, THEIRS = random.normal(size=(2, 7, 4)) * 2
LABELS = random.integers(0, 4, 7)
LABELS[2] = -100


def value(loss: Loss, ours: Any = OURS, theirs: Any = THEIRS, progress: float = 0.0) -> float:
    batch = {"labels": torch.from_numpy(LABELS)}
    return float(loss({"logits": torch.tensor(ours)}, {"logits": torch.tensor(theirs)}, batch, progress))


def soft(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.asarray((p * np.log(p / q)).sum(-1))


ZERO_FOR_EQUAL_LOGITS = [
    JensenShannonLoss(), CosineLogitLoss(), HuberLogitLoss(), DKDLoss(), DISTLoss(), LogitStandardizationLoss(),
    AnnealedMSELoss(1.0), ContinuationLoss(1.0),
]  # fmt: skip


@pytest.mark.parametrize("loss", ZERO_FOR_EQUAL_LOGITS, ids=lambda loss: type(loss).__name__)
def test_logit_losses_are_zero_when_student_equals_teacher(loss: Loss) -> None:
    assert value(loss, THEIRS, THEIRS) == pytest.approx(0.0, abs=1e-6)
    assert value(loss) > 0


@pytest.mark.parametrize(
    "loss", [*ZERO_FOR_EQUAL_LOGITS, SoftCrossEntropyLoss(), AdaKDLoss()], ids=lambda loss: type(loss).__name__
)
def test_logit_losses_have_a_gradient_for_every_text(loss: Loss) -> None:
    student = torch.tensor(OURS, requires_grad=True)
    batch = {"labels": torch.from_numpy(LABELS)}
    loss({"logits": student}, {"logits": torch.tensor(THEIRS)}, batch).backward()
    assert (student.grad.abs().sum(1) > 0).all()


def test_cosine_and_huber_losses_match_manual_values() -> None:
    cosine = (OURS * THEIRS).sum(1) / np.linalg.norm(OURS, axis=1) / np.linalg.norm(THEIRS, axis=1)
    assert value(CosineLogitLoss()) == pytest.approx((1 - cosine).mean())
    gap = np.abs(OURS - THEIRS)
    expected = np.where(gap <= 0.5, gap**2 / 2, 0.5 * (gap - 0.25)).mean()
    assert value(HuberLogitLoss(0.5)) == pytest.approx(expected)


def test_temperature_scales_loss_by_its_square() -> None:
    """The loss at a temperature is the loss of softened logits times the temperature squared, also with a schedule."""
    for kind in (DKDLoss, DISTLoss):
        expected = 4 * value(kind(1.0), OURS / 2, THEIRS / 2)
        assert value(kind(2.0)) == pytest.approx(expected)
        assert value(kind(schedules.linear(3.0, 1.0)), progress=0.5) == pytest.approx(expected)


def test_annealed_losses_use_divergence_for_posteriors() -> None:
    """For a CRF; annealing flattens the teacher's posteriors."""
    ours, theirs = (torch.tensor(logits).log_softmax(-1) for logits in (OURS, THEIRS))
    p, q = soft(0.5 * THEIRS), soft(OURS)
    for loss, expected in (
        (AnnealedMSELoss(0.5), kl(p, q).mean()),
        (ContinuationLoss(0.5, margin=0.8), np.maximum(kl(p, q) - 0.4, 0).mean()),
    ):
        found = loss({"logits": ours}, {"logits": theirs}, {"posteriors": True})
        assert float(found) == pytest.approx(expected)
    assert float(AnnealedMSELoss(1.0)({"logits": ours}, {"logits": ours}, {"posteriors": True})) == pytest.approx(0.0)


def test_schedules_are_parsed_from_option_text() -> None:
    at_half = {
        text: schedules.named(text)[0](0.5) for text in ("linear:8:1", "cosine:4:2", "steps:8:4:1", "annealing:4")
    }
    assert list(at_half.values()) == pytest.approx([4.5, 3.0, 4.0, 0.75])
    for text in ("linear:8", "cosine:a:b", "steps", "annealing:0", "annealing:inf", "annealing:2.7", "ramp:1:2"):
        with pytest.raises(ModelError, match=f"No schedule '{text}'. Expected linear:8:1"):
            schedules.named(text)


def test_soft_cross_entropy_loss_matches_manual_value() -> None:
    p, q = soft(THEIRS / 3), soft(OURS / 3)
    assert value(SoftCrossEntropyLoss(3.0)) == pytest.approx(-(p * np.log(q)).sum(1).mean())


def test_jensen_shannon_loss_matches_manual_value() -> None:
    p, q = soft(THEIRS), soft(OURS)
    middle = (p + q) / 2
    assert value(JensenShannonLoss()) == pytest.approx(((kl(p, middle) + kl(q, middle)) / 2).mean())
    far = np.eye(4)[:3] * 100
    assert value(JensenShannonLoss(), far, far[[1, 2, 0]]) == pytest.approx(np.log(2))


def test_dkd_parts_sum_to_divergence() -> None:
    """DKD's identity (eq. 6): KL = target part + (1 - p of the target) * the rest's part."""
    label = np.where(LABELS >= 0, LABELS, THEIRS.argmax(1))
    p, q = soft(THEIRS), soft(OURS)
    rows = np.arange(7)
    parts = []
    for r in rows:
        others = np.arange(4) != label[r]
        target = kl(np.array([p[r, label[r]], p[r, others].sum()]), np.array([q[r, label[r]], q[r, others].sum()]))
        rest = kl(p[r, others] / p[r, others].sum(), q[r, others] / q[r, others].sum())
        assert target + p[r, others].sum() * rest == pytest.approx(kl(p[r], q[r]))
        parts.append((target, rest))
    expected = np.mean([target + 4 * rest for target, rest in parts])
    assert value(DKDLoss(1.0, 1.0, 4.0)) == pytest.approx(expected, rel=1e-5)
    halves = [value(DKDLoss(1.0, *weights)) for weights in ((1.0, 0.0), (0.0, 4.0))]
    assert sum(halves) == pytest.approx(expected, rel=1e-5)


def test_dist_loss_matches_manual_value() -> None:
    p, q = soft(THEIRS), soft(OURS)
    between = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    within = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    assert value(DISTLoss(class_weight=0.5)) == pytest.approx(between + 0.5 * within)


def test_standardized_loss_ignores_scale_of_logits() -> None:
    assert value(LogitStandardizationLoss(), 5 * OURS + 3, 0.1 * THEIRS - 1) == pytest.approx(
        value(LogitStandardizationLoss())
    )


def test_annealed_loss_approaches_teacher_logits() -> None:
    factor = schedules.annealing(4)
    assert [factor(progress) for progress in (0.0, 0.26, 0.6, 0.99, 1.0)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert value(AnnealedMSELoss(factor)) == pytest.approx(((OURS - 0.25 * THEIRS) ** 2).mean())
    assert value(AnnealedMSELoss(factor), progress=1.0) == pytest.approx(((OURS - THEIRS) ** 2).mean())


def test_continuation_loss_leaves_a_margin() -> None:
    errors = ((OURS - 0.5 * THEIRS) ** 2).sum(1)
    assert value(ContinuationLoss(0.5, margin=20)) == pytest.approx(np.maximum(errors - 10, 0).mean())


def test_adakd_trusts_the_teacher_on_easy_texts_first() -> None:
    """At first where the teacher is right, at last where it is wrong, and always on unlabeled texts."""
    teacher = torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.0, 4.0]])
    labels = torch.tensor([0, 0, -1])  # right, wrong, unlabeled
    for progress, easier in ((0.0, True), (1.0, False)):
        student = torch.zeros(3, 2, requires_grad=True)
        loss = AdaKDLoss(1.0)({"logits": student}, {"logits": teacher}, {"labels": labels}, progress)
        (gradient,) = torch.autograd.grad(loss, student)
        pull = (0.5 - torch.softmax(teacher, -1)[:, 0]) / 3  # of the teacher alone
        hard = torch.tensor([-0.5, -0.5, 0.0]) / 3  # of the labels alone
        share = (gradient[:2, 0] - hard[:2]) / (pull[:2] - hard[:2])
        assert (share[0] > share[1]) == easier
        assert gradient[2, 0].item() == pytest.approx(pull[2].item(), rel=1e-5)
