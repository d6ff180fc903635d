"""A convolution over the characters of each token (Ma & Hovy 2016, section 2.1).

It depends only on the token, so it becomes part of the token's vector and costs nothing at run time.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

LONGEST_TOKEN = 16
FILTERS_PER_SIZE = 1.5


class CharacterVectors(nn.Module):
    """Token ids -> [..., output_size]: convolutions of width 3, then the maximum over a token's characters."""

    def __init__(self, vocab_size: int, char_vocab_size: int, char_embedding_size: int) -> None:
        super().__init__()
        self.output_size = int(char_embedding_size * FILTERS_PER_SIZE)
        self.register_buffer("spelling", torch.zeros(vocab_size, LONGEST_TOKEN, dtype=torch.long))
        self.characters = nn.Embedding(char_vocab_size, char_embedding_size, padding_idx=0)
        self.filters = nn.Linear(3 * char_embedding_size, self.output_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            return self.of(self.get_buffer("spelling"))[input_ids]
        unique, places = input_ids.unique(return_inverse=True)
        # Not by indexing, whose gradient is summed in no fixed order.
        return nn.functional.embedding(places, self.of(self.get_buffer("spelling")[unique]))

    def of(self, spelling: Tensor) -> Tensor:
        """[tokens, characters] -> [tokens, output_size]."""
        x = nn.functional.pad(self.characters(spelling), (0, 0, 1, 1))
        windows = torch.cat([x[:, :-2], x[:, 1:-1], x[:, 2:]], -1)
        return torch.relu(self.filters(windows)).amax(1)


def spell(tokens: Sequence[str]) -> tuple[np.ndarray, int]:
    """The characters of each token.

    Returns:
        [tokens, 16] int64, 0 = padding, and the number of different characters, including padding.
    """
    names = [token.removeprefix("##") for token in tokens]
    known = {character: index for index, character in enumerate(sorted(set("".join(names))), 1)}
    spelling = np.zeros((len(names), LONGEST_TOKEN), dtype=np.int64)
    for row, name in enumerate(names):
        ids = [known[character] for character in name[:LONGEST_TOKEN]]
        spelling[row, : len(ids)] = ids
    return spelling, len(known) + 1
