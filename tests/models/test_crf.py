"""The CRF compared with an enumeration of all tag sequences."""

import itertools

import numpy as np
import pytest
import torch

from eyas.models.crf import CRF
from eyas.runtime.crf import max_marginals

TAGS, LENGTHS = 3, (4, 1, 3, 2)


@pytest.fixture
def crf() -> CRF:
    torch.manual_seed(0)
    crf = CRF(TAGS)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    return crf


@pytest.fixture
def emissions() -> torch.Tensor:
    return torch.randn(len(LENGTHS), max(LENGTHS), TAGS, generator=torch.Generator().manual_seed(1))


MASK = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)


def _scores(crf: CRF, emissions: torch.Tensor) -> dict[tuple[int, ...], float]:
    """The score of every tag sequence of one sentence."""
    found = {}
    for tags in itertools.product(range(TAGS), repeat=len(emissions)):
        total = float(crf.start[tags[0]] + crf.end[tags[-1]])
        total += sum(float(emissions[place, tag]) for place, tag in enumerate(tags))
        total += sum(float(crf.transitions[a, b]) for a, b in itertools.pairwise(tags))
        found[tags] = total
    return found


@torch.no_grad()
def test_crf_matches_enumeration_of_sequences(crf: CRF, emissions: torch.Tensor) -> None:
    posteriors, best = crf.posteriors(emissions, MASK), crf.max_marginals(emissions, MASK)
    for row, length in enumerate(LENGTHS):
        scores = _scores(crf, emissions[row, :length])
        chances = np.exp(np.array(list(scores.values())))
        chances /= chances.sum()
        for (tags, _), chance in zip(scores.items(), chances, strict=True):
            padded = torch.zeros(1, max(LENGTHS), dtype=torch.long)
            padded[0, :length] = torch.tensor(tags)
            found = crf.log_likelihood(emissions[row : row + 1], MASK[row : row + 1], padded)
            assert float(found) == pytest.approx(np.log(chance), abs=1e-4)
        for place, tag in itertools.product(range(length), range(TAGS)):
            through = [c for tags, c in zip(scores, chances, strict=True) if tags[place] == tag]
            assert float(posteriors[row, place, tag].exp()) == pytest.approx(sum(through), abs=1e-5)
        viterbi = max(scores, key=lambda tags: scores[tags])
        assert best[row, :length].argmax(-1).tolist() == list(viterbi)
        assert float(best[row, 0].max()) == pytest.approx(scores[viterbi], abs=1e-4)


@torch.no_grad()
def test_numpy_max_marginals_equal_torch(crf: CRF, emissions: torch.Tensor) -> None:
    content = {name: parameter.tolist() for name, parameter in crf.named_parameters()}
    ours = crf.max_marginals(emissions, MASK).numpy()
    for row, length in enumerate(LENGTHS):
        found = max_marginals(emissions[row, :length].numpy(), content)
        np.testing.assert_allclose(found, ours[row, :length], atol=1e-5)


def test_crf_has_finite_gradients_with_empty_sentence(crf: CRF, emissions: torch.Tensor) -> None:
    mask = MASK.clone()
    mask[1] = False
    tags = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    found = crf.log_likelihood(emissions, mask, tags)
    assert found[1] == 0
    found.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in crf.parameters() if parameter.grad is not None)


@torch.no_grad()
def test_crf_likelihood_sums_over_tags_of_unlabeled_words(crf: CRF, emissions: torch.Tensor) -> None:
    tags = torch.tensor([[1, -100, 2, -100]])
    found = crf.log_likelihood(emissions[:1], MASK[:1], tags)
    scores = _scores(crf, emissions[0])
    chances = {path: np.exp(score) for path, score in scores.items()}
    wanted = sum(chance for path, chance in chances.items() if path[0] == 1 and path[2] == 2)
    assert float(found) == pytest.approx(np.log(wanted / sum(chances.values())), abs=1e-4)
