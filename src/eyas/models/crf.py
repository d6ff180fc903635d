"""A linear-chain conditional random field over tags (Lafferty et al. 2001), vectorized over the batch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

# The score of tags other than a word's label.
IMPOSSIBLE = -1e4

Reduce = Callable[[Tensor, int], Tensor]


class CRF(nn.Module):
    """Scores of tag sequences. Masks are True for words; padding is on the right.

    Args:
        size: number of tags.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(size))
        self.end = nn.Parameter(torch.zeros(size))
        self.transitions = nn.Parameter(torch.zeros(size, size))

    def log_likelihood(self, emissions: Tensor, mask: Tensor, tags: Tensor) -> Tensor:
        """Log-probability of `tags` [batch, words] -> [batch]; words with a negative tag may have any tag.

        Args:
            emissions: [batch, words, tags].
            mask: [batch, words].
        """
        others = torch.arange(emissions.shape[-1], device=tags.device) != tags.unsqueeze(-1)
        allowed = emissions.masked_fill(others & (tags >= 0).unsqueeze(-1), IMPOSSIBLE)
        return torch.where(mask[:, 0], self._total(allowed, mask) - self._total(emissions, mask), 0.0)

    def _total(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log of the summed scores of all sequences -> [batch]."""
        return torch.logsumexp(self._forwards(emissions, mask, torch.logsumexp)[-1] + self.end, 1)

    def posteriors(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log-probability of each tag of each word given the sentence -> [batch, words, tags]."""
        return torch.log_softmax(self._marginals(emissions, mask, torch.logsumexp), -1)

    def max_marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Score of the best sequence through each tag of each word; its argmax is the Viterbi path."""
        return self._marginals(emissions, mask, torch.amax)

    def _marginals(self, emissions: Tensor, mask: Tensor, reduce: Reduce) -> Tensor:
        forwards = torch.stack(self._forwards(emissions, mask, reduce), 1)
        backwards = torch.stack(self._backwards(emissions, mask, reduce), 1)
        return forwards + backwards

    def _forwards(self, emissions: Tensor, mask: Tensor, reduce: Reduce) -> list[Tensor]:
        states = [self.start + emissions[:, 0]]
        for place in range(1, emissions.shape[1]):
            new = reduce(states[-1].unsqueeze(2) + self.transitions, 1) + emissions[:, place]
            states.append(torch.where(mask[:, place, None], new, states[-1]))
        return states

    def _backwards(self, emissions: Tensor, mask: Tensor, reduce: Reduce) -> list[Tensor]:
        end = self.end.expand(len(emissions), -1)
        states = [end]
        for place in range(emissions.shape[1] - 1, 0, -1):
            new = reduce(self.transitions + (emissions[:, place] + states[-1]).unsqueeze(1), 2)
            states.append(torch.where(mask[:, place, None], new, end))
        return states[::-1]
