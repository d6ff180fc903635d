"""Each loss compared with numpy, and properties of all of them."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from eyas.errors import ModelError
from eyas.losses import (
    HardLabelLoss,
    LearnedWeights,
    LogitMSELoss,
    Loss,
    PKDLoss,
    SoftTargetLoss,
    TeacherCasesLoss,
    schedules,
)
from eyas.losses.weights import SCALE
from eyas.tasks import Task

STUDENT = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, -2.0], [1.0, 1.0, 1.0]], requires_grad=True)
TEACHER = torch.tensor([[3.0, -2.0, 0.0], [-1.0, 2.0, 0.0], [0.5, 0.0, 1.5]])
LABELS = torch.tensor([0, 1, -100])


def value(loss: Loss, progress: float = 0.0) -> float:
    return loss({"logits": STUDENT}, {"logits": TEACHER}, {"labels": LABELS}, progress).item()


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_hard_label_loss_ignores_unlabeled_rows() -> None:
    probabilities = softmax(STUDENT.detach().numpy())
    expected = -np.log(probabilities[[0, 1], [0, 1]]).mean()
    assert value(HardLabelLoss()) == pytest.approx(expected, rel=1e-6)


def test_hard_label_loss_is_zero_for_unlabeled_batch() -> None:
    loss = HardLabelLoss()({"logits": STUDENT}, {}, {"labels": torch.full((3,), -100)})
    assert loss.item() == 0.0


def test_logit_mse_loss_matches_manual_value() -> None:
    expected = ((STUDENT.detach().numpy() - TEACHER.numpy()) ** 2).mean()
    assert value(LogitMSELoss()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_target_loss_matches_manual_value(temperature: float) -> None:
    ours, theirs = softmax(STUDENT.detach().numpy() / temperature), softmax(TEACHER.numpy() / temperature)
    expected = (theirs * np.log(theirs / ours)).sum(1).mean() * temperature**2
    assert value(SoftTargetLoss(temperature)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [LogitMSELoss(), SoftTargetLoss(3.0)])
def test_losses_are_zero_when_student_equals_teacher(loss: Loss) -> None:
    fields = {"logits": TEACHER}
    assert float(loss(fields, fields, {"labels": LABELS})) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("loss", [HardLabelLoss(), LogitMSELoss(), SoftTargetLoss(3.0)])
def test_losses_have_gradients_for_student_only(loss: Loss) -> None:
    student, teacher = STUDENT.detach().clone().requires_grad_(), TEACHER.clone().requires_grad_()
    loss({"logits": student}, {"logits": teacher.detach()}, {"labels": LABELS}).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_weights_and_temperatures_follow_schedules() -> None:
    loss = LogitMSELoss(weight=schedules.linear(1.0, 0.0))
    outputs = {"logits": STUDENT}, {"logits": TEACHER}, {"labels": LABELS}
    assert loss.terms(*outputs, 0.25)[0][1].item() == pytest.approx(0.75 * value(loss))
    warm = SoftTargetLoss(schedules.linear(4.0, 1.0))
    assert value(warm, 1.0) == pytest.approx(value(SoftTargetLoss(1.0)))
    assert schedules.cosine(2.0, 1.0)(0.5) == pytest.approx(1.5)
    assert schedules.cosine(2.0, 1.0)(1.0) == pytest.approx(1.0)


def test_learned_weights_match_manual_values() -> None:
    """exp(-s) * term + s for each term; the best weight of a constant term is its inverse."""
    batch, student = {"labels": torch.tensor([0, 1])}, {"logits": torch.tensor([[1.0, 0.0], [0.5, 0.0]])}
    teacher = {"logits": torch.tensor([[3.0, 0.0], [0.0, 3.0]])}
    terms = [HardLabelLoss(), LogitMSELoss(weight=2.0)]
    loss = LearnedWeights(terms)
    assert loss.teacher_fields == {"logits"}
    assert loss.title == "HardLabelLoss, LogitMSELoss, with learned weights"
    values = [float(value) for term in terms for _, value in term.terms(student, teacher, batch, 0.0)]
    assert loss(student, teacher, batch).item() == pytest.approx(sum(values))
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.05 / SCALE)
    for _ in range(2000):
        optimizer.zero_grad()
        loss(student, teacher, batch).backward()
        optimizer.step()
    learned = torch.exp(-SCALE * loss.scaled_log_variances).tolist()
    assert learned == pytest.approx([1 / value for value in values], rel=1e-2)
    with pytest.raises(ModelError, match="PKDLoss compares whole texts"):  # a term's refusal applies to all
        LearnedWeights([HardLabelLoss(), PKDLoss()]).check(Task("tagging", ("O", "B")))


def test_learned_weight_of_a_term_without_labels_stays() -> None:
    """Its weight would grow in every step, and end in NaN."""
    loss = LearnedWeights([LogitMSELoss(), HardLabelLoss()])
    student = {"logits": torch.tensor([[1.0, 0.0]], requires_grad=True)}
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5 / SCALE)
    for _ in range(300):
        optimizer.zero_grad()
        value = loss(student, {"logits": torch.tensor([[3.0, 0.0]])}, {"labels": torch.tensor([-100])})
        value.backward()
        optimizer.step()
    assert torch.isfinite(value)
    assert loss.scaled_log_variances[1] == 0
    assert loss.scaled_log_variances[0] != 0


def test_learned_weights_change_at_learning_rate_of_copied_student() -> None:
    """By half a unit in two hundred steps of Adam at 1e-4."""
    student = {"logits": torch.tensor([[30.0, 0.0]])}
    loss = LearnedWeights([LogitMSELoss()])
    optimizer = torch.optim.AdamW(loss.parameters(), lr=1e-4)
    for _ in range(200):
        optimizer.zero_grad()
        loss(student, {"logits": torch.zeros(1, 2)}, {}).backward()
        optimizer.step()
    assert SCALE * loss.scaled_log_variances.item() > 0.5


def test_cases_of_the_teacher_are_those_of_pea_kd() -> None:
    """The labels of the authors' code, for the thresholds of each of their tasks."""
    golden = json.loads((Path(__file__).parents[1] / "golden" / "pea_kd.json").read_text())
    logits = torch.tensor(golden["inputs"]["teacher_logits"])
    labels = torch.tensor(golden["inputs"]["labels"])
    for task, thresholds in golden["options"]["t1_t2"].items():
        expected = golden["expected"]["ptp_labels"][task]
        assert TeacherCasesLoss(*thresholds).cases(logits, labels).tolist() == expected
    sure = torch.tensor([[9.0, -9.0], [9.0, -9.0]])  # by hand: right and wrong, both sure
    assert TeacherCasesLoss().cases(sure, torch.tensor([0, 1])).tolist() == [0, 2]


def test_cases_of_the_teacher_leave_texts_without_a_label_out() -> None:
    """By hand: a head of zeros has a cross-entropy of log 4 for each text that has a label."""
    loss = TeacherCasesLoss()
    loss.prepare(SimpleNamespace(hidden_size=8), None)
    torch.nn.init.zeros_(loss.head.weight)
    torch.nn.init.zeros_(loss.head.bias)
    student = {"hidden_states": [torch.ones(3, 5, 8)]}
    for labels, expected in (([1, -100, 0], math.log(4)), ([-100, -100, -100], 0.0)):
        found = loss(student, {"logits": torch.zeros(3, 2)}, {"labels": torch.tensor(labels)})
        assert float(found.detach()) == pytest.approx(expected)
