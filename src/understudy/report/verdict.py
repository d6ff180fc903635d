"""What the exam says: which candidates are on the front, which one to ship, what distillation brought."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from understudy.exam.bootstrap import Comparison, compare
from understudy.exam.results import TWIN, Wanted, predictions


def mark_front(table: pd.DataFrame) -> pd.Series:
    """Whether no other candidate of the data set is as fast and better, or faster and as good."""
    front = pd.Series(False, index=table.index)
    for _, rows in table.groupby("dataset"):
        best = -np.inf
        for index, row in rows.sort_values(["latency_ms", "score"], ascending=[True, False]).iterrows():
            if row["score"] > best and np.isfinite(row["latency_ms"]):
                front[index], best = True, row["score"]
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
    """What each candidate's seeds got of each text.

    Args:
        folder: of the exam.
        table: candidates of one data set.
    """

    def __init__(self, folder: Path, table: pd.DataFrame) -> None:
        self._folder, self._keys, self._metric = folder, table["keys"], str(table["metric"].iloc[0])
        self._known: dict[Any, list[np.ndarray]] = {}

    def compare(self, a: Any, b: Any) -> Comparison:
        return compare(self._sums(a), self._sums(b), self._metric)

    def _sums(self, index: Any) -> list[np.ndarray]:
        if index not in self._known:
            tables = (predictions(self._folder, key) for key in self._keys[index])
            self._known[index] = [np.stack(list(table["sums"])).astype(np.float32) for table in tables]
        return self._known[index]


@dataclass(frozen=True)
class Helped:
    """A student, what it was trained on, and what the texts beside the training texts brought it.

    Args:
        dataset: the data set with the transfer set.
        transfer: what is in it beside the training texts.
        texts, steps: that the student was trained on, and for; NaN where an earlier version did not note it.
        gain: over the same student on the training texts alone; None for that one.
    """

    dataset: str
    title: str
    transfer: str
    texts: float
    steps: float
    score: float
    gain: Comparison | None


def helped(folder: Path, table: pd.DataFrame) -> list[Helped]:
    """What each transfer set brought, where an exam has the same data and teacher with and without it: each student on
    the training texts alone, and then with more.

    Args:
        table: candidates of all data sets.
    """
    found = []
    distilled = table[(table["kind"] == "student") & (table["recipe"] != TWIN) & table["data_key"].notna()]
    for _, rows in distilled.groupby(["data_key", "title", "precision"], sort=False):
        alone = rows.index[rows["transfer"] == ""]
        if not len(alone):
            continue
        more, answers = rows.index.difference(alone, sort=False), Answers(folder, rows)
        for index in [alone[0], *more] if len(more) else []:
            row = rows.loc[index]
            facts = {name: row[name] for name in ("dataset", "title", "transfer", "steps", "score")}
            gain = answers.compare(index, alone[0]) if index in more else None
            found.append(Helped(**facts, texts=row["transfer_texts"], gain=gain))
    return found


def twins(table: pd.DataFrame) -> dict[Any, Any]:
    """{index of a distilled student: index of the same one that learned from the labels alone}."""
    same = ["dataset", "model", "precision", "embeddings"]
    students = table[table["kind"] == "student"]
    found = {tuple(row[c] for c in same): i for i, row in students[students["recipe"] == TWIN].iterrows()}
    distilled = students[students["recipe"] != TWIN]
    pairs = {i: found.get(tuple(row[c] for c in same)) for i, row in distilled.iterrows()}
    return {i: twin for i, twin in pairs.items() if twin is not None}
