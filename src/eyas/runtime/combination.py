"""Several exported models that answer together: the mean of their logits or probabilities."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eyas.runtime.stages import Stages
from eyas.tasks import softmax


def _mean(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits.mean(0))


def _probabilities(logits: np.ndarray) -> np.ndarray:
    """The logarithms of the mean probabilities."""
    return _logarithms(softmax(logits).mean(0))


def _confidence(logits: np.ndarray) -> np.ndarray:
    """As `_probabilities`, each model weighted by the probability of its answer."""
    chances = softmax(logits)
    weights = chances.max(-1, keepdims=True)
    return _logarithms((weights * chances).sum(0) / weights.sum(0))


def _logarithms(chances: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(chances.clip(1e-30)))


# [models, rows, labels] logits -> [rows, labels].
RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": _mean,
    "probabilities": _probabilities,
    "confidence": _confidence,
}


class Combination(Stages):
    """The models of a folder as one, as `CombinedTeacher` combines teachers; `Predictor` opens it too."""

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Logits, [texts, labels] float32; for a tagger's lists of words [words, tags].

        Raises:
            DataError: pairs where single texts are expected, or the reverse.
        """
        each = [stage.logits(texts, pairs)[:, order] for stage, order in zip(self.stages, self.orders, strict=True)]
        self.cut = sum(stage.cut for stage in self.stages)
        return RULES[self.manifest.combination](np.stack(each).astype(np.float64)).astype(np.float32)
