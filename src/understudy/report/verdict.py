"""What the exam says: which candidates are on the front, which one to ship, what distillation brought."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from understudy.exam.bootstrap import Comparison, compare
from understudy.exam.results import TWIN, Wanted, predictions


def mark_front(table: pd.DataFrame) -> pd.Series:
    """Whether no other candidate of the data set is as fast and more accurate, or faster and as accurate."""
    front = pd.Series(False, index=table.index)
    for _, rows in table.groupby("dataset"):
        best = -np.inf
        for index, row in rows.sort_values(["latency_ms", "accuracy"], ascending=[True, False]).iterrows():
            if row["accuracy"] > best and np.isfinite(row["latency_ms"]):
                front[index], best = True, row["accuracy"]
    return front


def sentence(row: dict[str, Any], good: bool, wanted: Wanted) -> str:
    """The verdict in words."""
    if not np.isfinite(row["times_faster"]) or not np.isfinite(row["retention"]):
        return f"{row['title']} is not measured beside its teacher yet: run the exam again."
    digits = 0 if row["times_faster"] >= 10 else 1
    speed = f"{row['times_faster']:,.{digits}f} times its speed"
    facts = f"{row['retention']:.1%} of the teacher at {speed} and {row['size_bytes'] / 1e6:.1f} MB"
    if good:
        return f"Ship {row['title']}: {facts}."
    return f"On validation, no student reaches {wanted}. The closest is {row['title']}: {facts}."


class Answers:
    """Which examples each candidate got right, averaged over its seeds.

    Args:
        folder: of the exam.
        table: candidates.
    """

    def __init__(self, folder: Path, table: pd.DataFrame) -> None:
        self._folder, self._keys = folder, table["keys"]
        self._known: dict[Any, pd.Series] = {}

    def right(self, index: Any) -> pd.Series:
        if index not in self._known:
            parts = []
            for key in self._keys[index]:
                rows = predictions(self._folder, key)
                parts.append((rows["label"] == rows["prediction"]).astype(float))
            self._known[index] = sum(parts[1:], parts[0]) / len(parts)
        return self._known[index]

    def compare(self, a: Any, b: Any) -> Comparison:
        return compare(self.right(a).to_numpy(), self.right(b).to_numpy())


def twins(table: pd.DataFrame) -> dict[Any, Any]:
    """{index of a distilled student: index of the same one that learned from the labels alone}."""
    same = ["dataset", "model", "precision", "embeddings"]
    students = table[table["kind"] == "student"]
    found = {tuple(row[c] for c in same): i for i, row in students[students["recipe"] == TWIN].iterrows()}
    distilled = students[students["recipe"] != TWIN]
    pairs = {i: found.get(tuple(row[c] for c in same)) for i, row in distilled.iterrows()}
    return {i: twin for i, twin in pairs.items() if twin is not None}
