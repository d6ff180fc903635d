"""Several exported models that answer together."""

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


def joined(logits: np.ndarray) -> np.ndarray:
    """Logits [rows, labels] of models that know some of the labels: the closest to theirs, by least squares.

    A model's logits are known up to a constant of the text, which is found too (Vongkulbhisal et al. 2019, section
    3.3, where the labels are unified by factorization of the logits). With the same labels, it is the rule `mean`.

    Args:
        logits: [models, rows, labels], minus infinity for labels that a model does not know.
    """
    models, _, labels = logits.shape
    owner, label = np.nonzero(np.isfinite(logits).all(1))
    design = np.zeros((len(owner), labels + models))
    design[np.arange(len(owner)), label] = 1
    design[np.arange(len(owner)), labels + owner] = -1
    solution = np.linalg.pinv(design) @ logits[owner, :, label]
    return np.asarray(solution[:labels].T)


def _logarithms(chances: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(chances.clip(1e-30)))


JOINED = "joined"
# [models, rows, labels] logits -> [rows, labels].
RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": _mean,
    "probabilities": _probabilities,
    "confidence": _confidence,
    JOINED: joined,
}


class Combination(Stages):
    """The models of a folder as one, as `CombinedTeacher` combines teachers; `Predictor` opens it too."""

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Logits, [texts, labels] float32; for a tagger's lists of words [words, tags].

        Raises:
            DataError: pairs where single texts are expected, or the reverse.
        """
        before = [stage.cut for stage in self.stages]
        each = [stage.logits(texts, pairs) for stage in self.stages]
        if self.manifest.combination == JOINED:  # the last column is that of labels which a model does not know
            each = [np.pad(logits, ((0, 0), (0, 1)), constant_values=-np.inf) for logits in each]
        each = [logits[:, order] for logits, order in zip(each, self.orders, strict=True)]
        self.count_cut(before)
        return RULES[self.manifest.combination](np.stack(each).astype(np.float64)).astype(np.float32)
