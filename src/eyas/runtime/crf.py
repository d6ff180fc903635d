"""Scores of tag sequences in numpy, as in `eyas.models.crf`, for one sentence."""

from typing import Any

import numpy as np


def max_marginals(emissions: np.ndarray, crf: dict[str, Any]) -> np.ndarray:
    """Score of the best sequence through each tag of each word; its argmax is the Viterbi path.

    Args:
        emissions: [words, tags].
        crf: `start` [tags], `end` [tags], `transitions` [tags, tags].

    Returns:
        [words, tags] float32.
    """
    if not len(emissions):
        return emissions
    forwards, backwards = np.empty_like(emissions), np.empty_like(emissions)
    following = np.asarray(crf["transitions"], dtype=np.float32)
    preceding = np.ascontiguousarray(following.T)
    forwards[0], backwards[-1] = crf["start"] + emissions[0], crf["end"]
    for place in range(1, len(emissions)):
        forwards[place] = (preceding + forwards[place - 1]).max(1) + emissions[place]
    for place in range(len(emissions) - 1, 0, -1):
        backwards[place - 1] = (following + (emissions[place] + backwards[place])).max(1)
    return np.asarray(forwards + backwards)
