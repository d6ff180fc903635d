"""The answers of candidates of an exam, compared over the same texts."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eyas.evaluation.bootstrap import Comparison, comparison, interval_of, mean_score, ratio_of, samples
from eyas.exam.results import predictions


class Answers:
    """The score of each text for every seed of a candidate, read on demand.

    Args:
        folder: the exam's folder.
        table: candidates of one data set.
    """

    def __init__(self, folder: Path, table: pd.DataFrame) -> None:
        self._folder, self._keys, self._metric = folder, table["keys"], str(table["metric"].iloc[0])
        self._known: dict[Any, tuple[float, np.ndarray]] = {}

    def compare(self, a: Any, b: Any) -> Comparison:
        (first, ours), (second, theirs) = self._scores(a), self._scores(b)
        return comparison(first - second, ours, theirs)

    def interval(self, a: Any) -> tuple[float, float]:
        """The interval of the score of candidate `a`."""
        return interval_of(self._scores(a)[1])

    def retention(self, a: Any, teacher: Any) -> tuple[float, float] | None:
        """The interval of the score of `a` divided by the teacher's; None if that is not surely above 0."""
        return ratio_of(self._scores(a)[1], self._scores(teacher)[1])

    def _scores(self, index: Any) -> tuple[float, np.ndarray]:
        """The score of a candidate, and its scores on samples of texts, drawn once: long for a large split."""
        if index not in self._known:
            tables = (predictions(self._folder, key) for key in self._keys[index])
            sums = [np.stack(list(table["sums"])).astype(np.float32) for table in tables]
            self._known[index] = mean_score(sums, self._metric), samples([sums], self._metric)[0]
        return self._known[index]
