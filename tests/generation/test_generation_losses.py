"""The losses at each token: the authors' figures, and sums by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eyas.generation.losses import ANNEALING, TopK, divergence, imitation, top_k

GOLDEN = Path(__file__).parents[1] / "golden" / "imitkd.json"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return dict(json.loads(GOLDEN.read_text()))


@pytest.mark.parametrize("contexts", ["mixed", "all_gold", "all_sampled"])
@pytest.mark.parametrize("loss", ["hard", "full"])
def test_imitation_matches_authors(golden: dict[str, Any], contexts: str, loss: str) -> None:
    given = {name: torch.tensor(value) for name, value in golden["inputs"].items()}
    shares = {"all_gold": torch.zeros(4, dtype=torch.bool), "all_sampled": torch.ones(4, dtype=torch.bool)}
    decoded = shares.get(contexts, given["uses_decoded_context_in_mixed"].bool())

    def used(gold: str, own: str) -> Tensor:
        mask = decoded.view(-1, *[1] * (given[gold].dim() - 1))
        return torch.where(mask, given[own], given[gold])

    student = used("student_logits_gold_context", "student_logits_decoded_context").requires_grad_()
    teacher = used("teacher_logits_gold_context", "teacher_logits_decoded_context")
    context = used("gold_context", "student_decoded_context")
    special = (golden["options"]["pad"], golden["options"]["end"])
    found = imitation(student, teacher, context, given["gold_words"], decoded, special, loss == "full")
    assert found.item() == pytest.approx(golden["expected"][f"{contexts}_{loss}"], abs=1e-6)
    if contexts == "mixed":
        found.backward()
        name = f"mixed_{loss}_gradient_by_student_logits_of_the_contexts_used"
        torch.testing.assert_close(student.grad, torch.tensor(golden["expected"][name]), atol=1e-6, rtol=0)


def test_shares_of_gold_contexts_match_authors(golden: dict[str, Any]) -> None:
    names = {"linear": "linear", "exponential": "exponential_200", "sigmoid": "reverse_sigmoid_20"}
    for name, theirs in names.items():
        found = [ANNEALING[name](step / 10) for step in range(11)]
        assert found == pytest.approx(golden["expected"]["beta_at_t_of_10"][theirs], abs=1e-9)


def test_start_that_is_also_padding_or_end_is_learned() -> None:
    """T5 and Marian start with padding, BART with the end: the first word is learned, what follows the end is not."""
    student, teacher = torch.zeros(1, 4, 2), torch.zeros(1, 4, 2)
    teacher[0, :, 1] = torch.tensor([100.0, 0, 100, 100])
    for start in (0, 2):
        context = torch.tensor([[start, 1, 2, 0]])
        found = imitation(student, teacher, context, context, torch.tensor([True]), (0, 2), True)
        assert float(found) == pytest.approx(math.log(2) / 2)  # of two tokens, one differs from even odds by a bit


def test_divergence_of_all_words_is_that_of_the_distribution() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 9), torch.randn(2, 3, 9)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]], dtype=torch.bool)
    library = torch.nn.functional.kl_div(
        student[mask].log_softmax(-1), teacher[mask].log_softmax(-1), log_target=True, reduction="batchmean"
    )
    for known in (teacher, top_k(teacher, 9), top_k(teacher, 100)):
        assert float(divergence(student, known, mask)) == pytest.approx(float(library), abs=1e-5)


def test_words_outside_the_top_count_as_one() -> None:
    """Teacher 1/2, 1/4, 1/8, 1/8, student even: of the first word and the rest, 1/2 ln 2 + 1/2 ln(1/2 / 3/4)."""
    teacher = torch.tensor([[[0.5, 0.25, 0.125, 0.125]]]).log()
    kept = top_k(teacher, 1)
    assert kept.words.tolist() == [[[0]]]
    found = divergence(torch.zeros(1, 1, 4), kept, torch.ones(1, 1, dtype=torch.bool))
    assert float(found) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-6)


def test_teacher_without_doubt_gives_finite_gradients() -> None:
    student = torch.tensor([[[-60.0, 60.0, 0.0]]], requires_grad=True)
    kept = TopK(torch.tensor([[[0, 2]]]), torch.tensor([[[0.0, -80.0]]]))
    divergence(student, kept, torch.ones(1, 1, dtype=torch.bool)).backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_words_outside_the_top_count_in_large_vocabularies() -> None:
    """With 250,112 words (mT5), what is outside has 1.7 %: the library's divergence of the top and one other."""
    student, kept = torch.zeros(1, 1, 250_112), torch.full((1, 1, 16), 0.983 / 16).log()
    student[..., :16] = 12.0  # 9 % are outside
    ours = student.double().softmax(-1)[0, 0, :16]
    merged = torch.cat([ours, 1 - ours.sum()[None]]).log()
    theirs = torch.cat([kept[0, 0].double().exp(), torch.tensor([0.017], dtype=torch.float64)])
    expected = torch.nn.functional.kl_div(merged, theirs, reduction="sum")
    found = divergence(student, TopK(torch.arange(16)[None, None], kept), torch.ones(1, 1, dtype=torch.bool))
    assert float(found) == pytest.approx(float(expected), rel=0.02)
