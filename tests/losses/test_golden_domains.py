"""Meta-KD against values of its authors' code, run in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from test_golden_logits import close, golden, value
from torch import Tensor

from eyas.losses import AttentionLoss, DomainStateLoss, ExpertiseWeights, HiddenStateLoss, LogitMSELoss, MetaTeacherLoss
from eyas.losses.domains import of_each_text
from eyas.losses.weights import MeansSoFar
from eyas.models.domains import DomainHead
from eyas.teachers.domains import prototype_scores
from eyas.training.recipes import make_stages


@pytest.fixture(scope="module")
def file() -> Any:
    return golden("meta_kd")


def test_prototype_scores(file: Any) -> None:
    found = prototype_scores({name: np.array(own) for name, own in file["inputs"]["text_vectors_by_domain"].items()})
    for name, expected in file["expected"]["prototype_scores"].items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-9)


def test_loss_of_the_meta_teacher(file: Any) -> None:
    case, expected = file["inputs"], file["expected"]
    logits = value(case["teacher_logits_in_training"]).requires_grad_()
    shuffled = torch.tensor(case["domain_ids"])[case["permutation_of_domain_ids"]]
    loss = MetaTeacherLoss(DomainHead(3, 2), file["options"]["domain_loss_weight"]).compare(
        logits, torch.tensor(case["labels"]), value(case["domain_logits"]), shuffled, value(case["scores"])
    )
    assert loss.item() == pytest.approx(expected["teacher_loss"], rel=1e-6)
    close(torch.autograd.grad(loss, logits)[0], expected["teacher_loss_gradient_by_logits"])


def test_meta_teacher_leaves_out_what_it_is_not_told() -> None:
    """Logits of 0 for two labels and two domains cost ln 2 each, the domains half; a score below 0 counts as 0."""
    loss, zeros = MetaTeacherLoss(DomainHead(2, 2)), torch.zeros(3, 2)
    labels, domains, scores = torch.tensor([0, 1, -100]), torch.tensor([0, 1, 1]), torch.tensor([1.0, -1.0, 1.0])
    assert loss.compare(zeros, labels, zeros, domains, scores).item() == pytest.approx((1.5 + 0 + 0.5) * 0.693147 / 3)


def test_expertise_weights(file: Any) -> None:
    teacher, batch = _fields(file)[1:]
    expected = value(file["expected"]["expertise_weights"])
    close(ExpertiseWeights([], scores=False).weights(teacher, batch), expected.tolist())
    with_scores = expected * (1 + value(file["inputs"]["scores"]))
    close(ExpertiseWeights([]).weights(teacher, batch), with_scores.tolist())


class GivenState(DomainStateLoss):
    """The file has the student's states, not what they are made of."""

    student_fields = frozenset({"domain_states"})

    def states(self, student: Any, batch: Any) -> Tensor:
        return torch.as_tensor(student["domain_states"])


class MeanWeights(ExpertiseWeights):
    """In the authors' code the errors are already means, so that the weights act by their mean."""

    def weights(self, teacher: Any, batch: Any) -> Tensor:
        found = super().weights(teacher, batch)
        return found.mean().expand(len(found))


def test_stage_one(file: Any) -> None:
    expected = file["expected"]["stage_one"]
    student, teacher, batch = _fields(file)
    losses = [
        HiddenStateLoss("uniform", embeddings=True, summed=True),
        AttentionLoss("scores", "uniform", summed=True),
        GivenState(file["options"]["domain_loss_weight"]),
    ]
    parts = [of_each_text(loss, student, teacher, batch).mean().item() for loss in losses]
    assert parts == pytest.approx([expected[f"{name}_loss"] for name in ("rep", "att", "domain")], rel=1e-6)
    loss = MeanWeights(losses)(student, teacher, batch)
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-6)
    found = torch.stack(torch.autograd.grad(loss, student["hidden_states"]))
    close(found, file["expected"]["stage_one_gradient_by_student_hidden"])


def test_recipe_has_these_losses() -> None:
    first, last = make_stages("meta-kd")
    (weights,) = first.losses
    assert isinstance(weights, ExpertiseWeights)
    hidden, attention, domain = weights.losses
    assert isinstance(hidden, HiddenStateLoss)
    assert isinstance(attention, AttentionLoss)
    assert isinstance(domain, DomainStateLoss)
    assert (hidden.embeddings, hidden.summed, attention.summed, domain.weight) == (True, True, True, 0.5)
    assert first.is_below_head  # its objective chooses the checkpoint
    (plain,) = make_stages("meta-kd", {"domain_weight": 0})[0].losses
    assert plain.teacher_fields == {"hidden_states", "queries", "keys", "logits"}
    assert not last.needs_layers


def test_stage_two(file: Any) -> None:
    case, expected = file["inputs"], file["expected"]
    (loss,) = make_stages("meta-kd")[1].losses
    logits = value(case["stage_two_student_logits"]).requires_grad_()
    found = loss({"logits": logits}, {"logits": value(case["stage_two_teacher_logits"])}, {})
    assert found.item() == pytest.approx(expected["stage_two"], rel=1e-6)
    close(torch.autograd.grad(found, logits)[0], expected["stage_two_gradient"])


def test_each_text_has_its_own_weight_and_no_padding(file: Any) -> None:
    """By brute force: one text after the other, cut to its real tokens."""
    student, teacher, batch = _fields(file)
    batch["attention_mask"] = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 0]])
    losses = [HiddenStateLoss("uniform", embeddings=True), AttentionLoss("scores", "uniform")]
    both = ExpertiseWeights(losses)
    weights, total = both.weights(teacher, batch), 0.0
    for row, length in enumerate([3, 2, 3, 2]):
        ours, theirs = (
            {
                name: [layer[row : row + 1, :length] for layer in side[name]] if name != "heads" else side[name]
                for name in ("hidden_states", "queries", "keys", "heads")
            }
            for side in (student, teacher)
        )
        mask = {"attention_mask": torch.ones(1, length)}
        total += weights[row].item() * sum(loss(ours, theirs, mask).item() for loss in losses)
    assert both(student, teacher, batch).item() == pytest.approx(total / 4, rel=1e-6)


def test_texts_without_labels_have_the_mean_weight_of_those_before() -> None:
    """Probabilities 1 and 0.5: squares of 0 and 0.25, whose mean is 0.125."""
    weights = ExpertiseWeights([LogitMSELoss()], scores=False)
    teacher = {"logits": torch.tensor([[30.0, -30.0], [0.0, 0.0], [0.0, 0.0]])}
    found = weights.weights(teacher, {"labels": torch.tensor([0, 1, -100])})
    assert found.tolist() == pytest.approx([0.5, 0.4378235, 0.4687907])
    nothing = weights.weights({"logits": torch.zeros(1, 2)}, {"labels": torch.tensor([-100])})
    assert nothing.tolist() == pytest.approx([0.4687907])


def test_means_are_of_the_training_texts_alone() -> None:
    means = MeansSoFar(2)
    known, values = torch.tensor([True, False]), torch.tensor([[1.0, 3.0], [9.0, 9.0]])
    with torch.no_grad():
        assert means(values, known).tolist() == [[1.0, 3.0], [0.0, 0.0]]
    assert means(values, known).tolist() == [[1.0, 3.0], [1.0, 3.0]]


def _fields(file: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Student, teacher and batch. Keys of ones make the queries the scores of attention, times the root of 3."""
    case = file["inputs"]

    def side(name: str, hidden: str) -> dict[str, Any]:
        scores = value(case[f"{name}_attention"])  # [layers, texts, heads, tokens, tokens]
        layers, texts, heads, tokens, _ = scores.shape
        keys = torch.eye(tokens, dtype=torch.float64).repeat(1, heads).expand(texts, tokens, heads * tokens)
        return {
            "queries": list((scores * tokens**0.5).transpose(2, 3).reshape(layers, texts, tokens, heads * tokens)),
            "keys": [keys] * layers,
            "heads": heads,
            "hidden_states": [layer.requires_grad_(name == "student") for layer in value(case[hidden])],
            "domain_states": value(case[f"{name}_domain_feature"]),
        }

    student, teacher = side("student", "student_hidden_in_teacher_width"), side("teacher", "teacher_hidden")
    labels = torch.tensor(case["labels"])
    gold = value(case["teacher_probabilities"]).gather(1, labels.unsqueeze(1))  # of four decimals: they do not sum to 1
    probabilities = ((1 - gold) / 2).repeat(1, 3).scatter(1, labels.unsqueeze(1), gold)
    teacher |= {"logits": probabilities.log(), "prototype_scores": value(case["scores"])}
    return student, teacher, {"labels": labels, "attention_mask": torch.ones(4, 3)}
