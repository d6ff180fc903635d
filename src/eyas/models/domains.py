"""A head that guesses the domain of a text."""

import torch
from torch import Tensor, nn


class DomainHead(nn.Module):
    """Guesses a text's domain from the mean of its tokens and a vector of its domain (Meta-KD, Pan et al. 2021).

    Args:
        domains: their number.
        size: the hidden size of the encoder.
        dropout: dropout probability.
    """

    def __init__(self, domains: int, size: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(domains, size)
        self.dense = nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(size, domains)

    def states(self, content: Tensor, domains: Tensor) -> Tensor:
        """A vector per text, [texts, size].

        Args:
            content: [texts, size], the mean of each text's tokens.
            domains: [texts] int; -1 = none, for which the mean of all domains stands.
        """
        table = self.embedding.weight
        vectors = torch.cat([table, table.mean(0, keepdim=True)])
        states: Tensor = self.dense(content + vectors[domains])
        return states

    def forward(self, content: Tensor, domains: Tensor) -> Tensor:
        """Logits [texts, domains]; the arguments are those of `states`."""
        logits: Tensor = self.classifier(self.dropout(self.states(content, domains).tanh()))
        return logits
