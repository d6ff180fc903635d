"""Several exported models in a row: each answers the texts of which it is sure, the next one the others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eyas.runtime.stages import Stages
from eyas.tasks import Task, softmax


class Cascade(Stages):
    """A folder that `eyas cascade` wrote; `Predictor` opens it too.

    Its logits are those of the model that answers, divided by that model's temperature.

    Args:
        folder, threads, self_test, abstain_below: as for `Predictor`.

    Attributes:
        answered: how many texts each model answered so far.
    """

    def __init__(
        self, folder: str | Path, threads: int = 1, self_test: bool = True, abstain_below: float | None = None
    ) -> None:
        super().__init__(folder, threads, self_test, abstain_below)
        self.answered = [0] * len(self.stages)

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Logits, [texts, labels] float32; for a tagger's lists of words [words, tags].

        Raises:
            DataError: pairs where single texts are expected, or the reverse.
        """
        found: list[np.ndarray] = [np.empty((0, len(self.label_names)), np.float32)] * len(texts)
        waiting, before = list(range(len(texts))), [stage.cut for stage in self.stages]
        for number, (stage, order) in enumerate(zip(self.stages, self.orders, strict=True)):
            if not waiting:
                break
            some = None if pairs is None else [pairs[row] for row in waiting]
            logits = stage.task.calibrated(stage.logits([texts[row] for row in waiting], some))[:, order]
            counts = [len(texts[row]) if self.task.is_tagging else 1 for row in waiting]
            sure = confidences(self.task, logits, counts) >= self.manifest.stages[number]["least"]
            parts = np.split(logits, np.cumsum(counts)[:-1])
            for row, part, enough in zip(waiting, parts, sure, strict=True):
                if enough:
                    found[row] = part
            self.answered[number] += int(sure.sum())
            waiting = [row for row, enough in zip(waiting, sure, strict=True) if not enough]
        self.count_cut(before)
        return np.concatenate(found) if found else np.empty((0, len(self.label_names)), np.float32)


def confidences(task: Task, logits: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """[texts] the probability of each text's least certain decision; 1 for a text without words.

    Args:
        logits: [rows, outputs], divided by the temperature.
        counts: rows of each text.
    """
    result = np.ones(len(counts))
    if len(logits):
        each = softmax(task.decisions(logits)).max(1)
        rows = np.repeat(np.arange(len(counts)), counts)
        np.minimum.at(result, np.repeat(rows, len(task.groups)), each)
    return result
