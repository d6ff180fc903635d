"""Losses over logits against reference values: authors' code, or a paper's equations, run in float64.

Each file of `tests/golden` says how its values were made ("evidence") and what they mean ("formula_in_words").
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eyas import HardLabelLoss, LogitMSELoss
from eyas.losses import (
    AdaKDLoss,
    AnnealedMSELoss,
    ContinuationLoss,
    CosineHiddenLoss,
    DISTLoss,
    DKDLoss,
    LogitStandardizationLoss,
    Loss,
    SoftCrossEntropyLoss,
    SoftTargetLoss,
    WeightedTeachersLoss,
    schedules,
)
from eyas.losses.teachers import TeacherPolicy

GOLDEN = Path(__file__).parents[1] / "golden"
CLASSES = ("2_classes", "3_classes")


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def value(found: Any) -> Tensor:
    return torch.tensor(found, dtype=torch.float64)


def run(loss: Loss, case: Any, progress: float = 0.0) -> tuple[float, Tensor]:
    """The unweighted term and its gradient by the student's logits."""
    logits = value(case["student_logits"]).requires_grad_()
    labels = torch.tensor(case["labels"]) if "labels" in case else None
    term = loss({"logits": logits}, {"logits": value(case["teacher_logits"])}, {"labels": labels}, progress)
    return term.item(), torch.autograd.grad(term, logits)[0]


def close(found: Tensor, expected: Any) -> None:
    """Equal to 1e-6 of the largest element."""
    wanted = value(expected)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()))


@pytest.mark.parametrize("classes", CLASSES)
def test_pkd_terms_over_logits(classes: str) -> None:
    """The authors' mean is over classes too, so theirs is this divided by their number."""
    file = golden("pkd_logits")
    case, expected = file["inputs"][classes], file["expected"][classes]
    count = int(classes[0])
    for temperature in (1, 5, 10, 20):
        soft, _ = run(SoftTargetLoss(temperature), case)
        assert soft / count == pytest.approx(expected[f"kd_T{temperature}"], rel=1e-6)
    hard, gradient = run(HardLabelLoss(), case)
    assert hard == pytest.approx(expected["ce"], rel=1e-6)
    soft, soft_gradient = run(SoftTargetLoss(10), case)
    assert 0.7 * soft / count + 0.3 * hard == pytest.approx(expected["total_T10_alpha0.7"], rel=1e-6)
    close(0.7 * soft_gradient / count + 0.3 * gradient, expected["gradient_of_first_by_student_logits"])


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize(("name", "key"), [("tinybert_logits", "T{}"), ("bert_emd_logits", "soft_T{}")])
def test_soft_cross_entropy(name: str, key: str, classes: str) -> None:
    """TinyBERT's and BERT-EMD's mean is over classes too; BERT-EMD's has the temperature squared."""
    file = golden(name)
    case, expected, count = file["inputs"][classes], file["expected"][classes], int(classes[0])
    for temperature in (1, 2):
        factor = temperature**2 if name == "bert_emd_logits" else 1
        soft, _ = run(SoftCrossEntropyLoss(temperature), case)
        assert factor * soft / count == pytest.approx(expected[key.format(temperature)], rel=1e-6)
    if name == "tinybert_logits":
        close(run(SoftCrossEntropyLoss(1), case)[1] / count, expected["gradient_of_first_by_student_logits"])


@pytest.mark.parametrize("classes", CLASSES)
def test_ad_kd_terms_over_logits(classes: str) -> None:
    file = golden("ad_kd_logits")
    case, expected = file["inputs"][classes], file["expected"][classes]
    for temperature in (1, 3):
        soft, _ = run(SoftCrossEntropyLoss(temperature), case)
        assert soft == pytest.approx(expected[f"soft_T{temperature}"], rel=1e-6)
    soft, gradient = run(SoftCrossEntropyLoss(1), case)
    hard, hard_gradient = run(HardLabelLoss(), case)
    assert 0.8 * soft + 0.2 * hard == pytest.approx(expected["alpha*soft+(1-alpha)*ce_T1_alpha0.8"], rel=1e-6)
    close(0.8 * gradient + 0.2 * hard_gradient, expected["gradient_of_first_by_student_logits"])


@pytest.mark.parametrize("classes", [*CLASSES, "5_classes"])
def test_dkd(classes: str) -> None:
    file = golden("dkd")
    case, expected = file["inputs"][classes], file["expected"][classes]
    for alpha, beta, temperature in ((1, 8, 4), (1, 4, 2)):
        found, gradient = run(DKDLoss(temperature, alpha, beta), case)
        assert found == pytest.approx(expected[f"alpha{alpha}_beta{beta}_T{temperature}"], rel=1e-6)
        if beta == 8:
            close(gradient, expected["gradient_of_first_by_student_logits"])
    assert run(DKDLoss(4, 1, 0), case)[0] == pytest.approx(expected["tckd_T4"], rel=1e-6)
    assert run(DKDLoss(4, 0, 1), case)[0] == pytest.approx(expected["nckd_T4"], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("classes", CLASSES)
def test_dist(classes: str) -> None:
    file = golden("dist")
    case, expected = file["inputs"][classes], file["expected"][classes]
    for temperature in (1, 4):
        between, _ = run(DISTLoss(temperature, class_weight=0), case)
        both, gradient = run(DISTLoss(temperature), case)
        assert between == pytest.approx(expected[f"beta1_gamma0_tau{temperature}"], rel=1e-6)
        assert both - between == pytest.approx(expected[f"beta0_gamma1_tau{temperature}"], rel=1e-6)
        if temperature == 1:
            close(gradient, expected["gradient_of_first_by_student_logits"])


@pytest.mark.parametrize("classes", CLASSES)
def test_annealing(classes: str) -> None:
    file = golden("annealing_kd")
    case, expected = file["inputs"][classes], file["expected"][classes]
    for temperature, name in ((7, "T7_of_7_factor_1/7"), (4, "T4_of_7_factor_4/7"), (1, "T1_of_7_factor_1")):
        loss = AnnealedMSELoss(schedules.annealing(7))
        found, gradient = run(loss, case, progress=(7 - temperature + 0.5) / 7)
        assert found == pytest.approx(expected[name], rel=1e-6)
        if temperature == 7:
            close(gradient, expected["gradient_of_first_by_student_logits"])
    by_epoch = file["expected"]["schedule_phi_by_epoch"]["14_epochs_highest_7"]
    ours = [schedules.annealing(7)((epoch + 0.5) / 14) for epoch in range(14)]
    assert ours == pytest.approx(by_epoch)


@pytest.mark.parametrize("classes", CLASSES)
def test_continuation(classes: str) -> None:
    """The norm as the paper prints it: a sum over classes."""
    file = golden("continuation_kd")
    case, expected = file["inputs"][classes], file["expected"][classes]
    for temperature in (10, 5, 1):
        loss = ContinuationLoss(schedules.annealing(10))
        found, gradient = run(loss, case, progress=(10 - temperature + 0.5) / 10)
        assert found == pytest.approx(expected[f"T{temperature}_of_10_m1.0_sum_over_classes"], rel=1e-6)
        if temperature == 10:
            close(gradient, expected["gradient_of_first_by_student_logits"])


@pytest.mark.parametrize("classes", ["3_classes", "5_classes"])
def test_logit_standardization(classes: str) -> None:
    file = golden("logit_standardisation")
    case, expected = file["inputs"][classes], file["expected"][classes]
    for temperature in (1, 2, 4):
        found, gradient = run(LogitStandardizationLoss(temperature), case)
        assert found == pytest.approx(expected[f"standardised_T{temperature}"], rel=1e-6)
        if temperature == 2:
            close(gradient, expected["gradient_of_first_by_student_logits"])
        if temperature == 2:
            assert run(SoftTargetLoss(2), case)[0] == pytest.approx(expected["plain_T2"], rel=1e-6)


@pytest.mark.parametrize("classes", CLASSES)
def test_adakd(classes: str) -> None:
    file = golden("adakd")
    case, expected = file["inputs"][classes], file["expected"][classes]
    for slope in (1, 0, -1):
        found, gradient = run(AdaKDLoss(2.0, slope), case)
        assert found == pytest.approx(expected[f"loss_k{slope}_T2"], rel=1e-6)
        if slope == 1:
            close(gradient, expected["gradient_of_first_by_student_logits"])


def test_logit_mse_by_task() -> None:
    file = golden("mkd")
    for task in ("task_a", "task_b"):
        found, gradient = run(LogitMSELoss(), file["inputs"][task])
        assert found == pytest.approx(file["expected"][task]["mean_over_elements"], rel=1e-6)
        close(gradient, file["expected"][task]["gradient_of_mean_over_elements"])


def test_cosine_and_soft_targets_of_distilbert() -> None:
    """Over the real tokens, as rows of a batch."""
    file = golden("distilbert")
    inputs, expected = file["inputs"], file["expected"]
    real = torch.tensor(inputs["attention_mask"]).bool()
    logits = {name: value(inputs[f"{name}_logits"])[real] for name in ("student", "teacher")}
    for temperature in (1, 2):
        case = {"student_logits": logits["student"].tolist(), "teacher_logits": logits["teacher"].tolist()}
        found, gradient = run(SoftTargetLoss(temperature), case)
        assert found == pytest.approx(expected[f"soft_targets_T{temperature}"], rel=1e-6)
        close(gradient, value(expected[f"gradient_of_soft_targets_T{temperature}_by_student_logits"])[real].tolist())
    hidden = value(inputs["student_last_hidden"]).requires_grad_()
    fields = {"hidden_states": (hidden, hidden)}, {"hidden_states": (value(inputs["teacher_last_hidden"]),) * 2}
    loss = CosineHiddenLoss("final")(*fields, {"attention_mask": real})
    assert loss.item() == pytest.approx(expected["cosine"], rel=1e-6)
    close(torch.autograd.grad(loss, hidden)[0], expected["gradient_of_cosine_by_student_hidden"])


def test_mt_bert() -> None:
    """Weights of each teacher and text, and the loss with its gradient."""
    file = golden("mt_bert_logits")
    case, expected = file["inputs"], file["expected"]
    each, labels = value(case["teacher_logits"]).permute(1, 2, 0), torch.tensor(case["labels"])
    weights = 1 / (1 + WeightedTeachersLoss().errors(each, labels))
    close(weights.T, expected["weights_of_each_teacher_and_text"])
    for temperature in (1, 2):
        logits = value(case["student_logits"]).requires_grad_()
        loss = WeightedTeachersLoss(temperature)({"logits": logits}, {"each_logits": each}, {"labels": labels})
        assert loss.item() == pytest.approx(expected[f"loss_T{temperature}"], rel=1e-6)
        close(torch.autograd.grad(loss, logits)[0], expected[f"gradient_T{temperature}"])


def test_policy_of_reinforced_selection() -> None:
    file = golden("reinforced_multi_teacher")
    case, expected = file["inputs"], file["expected"]
    states, actions = value(case["states"]), value(case["actions"])
    policy = TeacherPolicy(3, 5).double()
    policy.load_state_dict({"weights": value(case["weights"]), "bias": value(case["biases"])})
    close(policy(states).sigmoid(), expected["probability_of_choosing"])
    chances = policy.log_probability(states, actions)
    close(chances.exp(), expected["probability_of_actions"])
    total = chances.sum()
    assert total.item() == pytest.approx(expected["sum_of_log_probabilities"], rel=1e-6)
    by_weights, by_bias = torch.autograd.grad(total, [policy.weights, policy.bias])
    close(by_weights, expected["gradient_of_sum_of_log_probabilities_by_weights"])
    close(by_bias, expected["by_biases"])


def test_mkd_sums_squared_errors_over_tasks() -> None:
    """Each batch has one task; its term is the mean over elements."""
    file = golden("mkd")
    total = 0.0
    for task in ("task_a", "task_b"):
        found, gradient = run(LogitMSELoss(), file["inputs"][task])
        expected = file["expected"][task]
        assert found == pytest.approx(expected["mean_over_elements"], rel=1e-6)
        close(gradient, expected["gradient_of_mean_over_elements"])
        total += found
    assert total == pytest.approx(file["expected"]["sum_over_tasks"]["mean_over_elements"], rel=1e-6)
