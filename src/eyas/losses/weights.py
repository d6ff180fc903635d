"""Learned weights of losses, and what texts without a label get in place of one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eyas.losses.base import Fields, Loss, WeightedLosses, terms_of

# Adam moves a parameter by about the learning rate per step, but the log-variances must move by whole units.
SCALE = 50.0


class LearnedWeights(WeightedLosses):
    """The sum of exp(-s) * term + s, with a learned s for each term.

    s is the logarithm of the term's variance: a term that stays large loses weight.

    Args:
        losses: the terms; their own weights still apply.
    """

    paper = "Kendall et al. 2018, section 3.2"
    weighting = "with learned weights"

    def __init__(self, losses: Sequence[Loss]) -> None:
        super().__init__(losses)
        # The terms' log-variances divided by `SCALE`.
        self.scaled_log_variances = nn.Parameter(torch.zeros(len(losses)))
        # Otherwise, `SCALE` would inflate the gradient norm used for clipping.
        self.scaled_log_variances.register_hook(lambda gradient: gradient / SCALE)

    def terms(self, student: Fields, teacher: Fields, batch: Fields, progress: float) -> list[tuple[str, Tensor]]:
        terms = [term for loss in self.losses for term in terms_of(loss, student, teacher, batch, progress)]
        log_variances = (SCALE * self.scaled_log_variances).unbind()
        # A term of 0 says nothing, such as that of labels in a batch without any: its weight would grow without bound.
        return [
            (name, torch.where(term == 0, term, torch.exp(-s) * term + s))
            for (name, term), s in zip(terms, log_variances, strict=True)
        ]


class MeansSoFar(nn.Module):
    """Gives texts without a label the mean of the labeled texts so far; 0 before the first.

    Args:
        shape: of one text's values.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, values: Tensor, known: Tensor) -> Tensor:
        """The values [texts, *shape], replaced where `known` [texts] is False. Training alone changes the means."""
        sums, count = self.get_buffer("sums"), self.get_buffer("count")
        if torch.is_grad_enabled():
            sums += values[known].sum(0).detach()
            count += known.sum()
        means = (sums / count.clamp(min=1)).to(values.dtype)
        return torch.where(known.view(-1, *[1] * sums.dim()), values, means)
