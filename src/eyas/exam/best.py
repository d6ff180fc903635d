"""The student to ship."""

from pathlib import Path
from typing import Any

import pandas as pd

from eyas.errors import DataError
from eyas.exam.results import Requirements, candidates, load_exam, plain, winner


def find_best(
    folder: str | Path, requirements: Requirements | None = None, dataset: str | None = None
) -> dict[str, Any]:
    """The cheapest student that keeps to `requirements`, by validation scores.

    Returns:
        Its row (see docs/exam.md), with `key`, the trial of the seed with the best validation score.

    Raises:
        DataError: no student is good enough, and how far the best are; an unknown data set.
    """
    requirements = requirements or Requirements()
    trials = load_exam(folder)
    table = candidates(trials)
    names = list(dict.fromkeys(trials["dataset"]))
    if dataset is None and len(names) > 1:
        raise DataError(f"The exam has several data sets: choose one of {', '.join(names)} with --dataset.")
    if dataset not in (None, *names):
        raise DataError(f"The exam has no data set {dataset!r}, only {', '.join(names)}.")
    table = table[table["dataset"] == (dataset or names[0])]
    row, good = best_row(trials, table, requirements)
    if not good:
        raise DataError(_nothing(table, requirements))
    return row


def best_row(
    trials: pd.DataFrame, table: pd.DataFrame, requirements: Requirements | None = None
) -> tuple[dict[str, Any], bool]:
    """(the student to ship, whether it keeps to `requirements`); where none does, the closest to the teacher.

    Args:
        trials: as from `load`.
        table: the candidates of one data set.

    Raises:
        DataError: no student finished.
    """
    index, good = winner(table, requirements or Requirements())
    if index is None:
        raise DataError("No student finished this exam, so there is none to ship.")
    row = table.loc[index]
    if row[["latency_ms", "validation_retention"]].isna().any():
        raise DataError("The students are not measured beside their teacher yet. Run the exam again: it goes on there.")
    seeds = trials[trials["key"].isin(row["keys"])]
    best = seeds.loc[seeds["validation_score"].astype(float).idxmax()]
    cells = {name: plain(value) for name, value in row.items() if name != "keys"}
    return {**cells, "key": best["key"], "seed": int(best["seed"])}, good


def _nothing(table: pd.DataFrame, requirements: Requirements) -> str:
    students = table[table["kind"] == "student"]
    closest = students.loc[students["validation_retention"].idxmax()]
    fastest, smallest = students["latency_ms"].min(), students["size_bytes"].min() / 1e6
    return (
        f"On validation, no student reaches {requirements}. {closest['title']} keeps the most, "
        f"{closest['validation_retention']:.1%} of the teacher at {closest['latency_ms']:.3f} ms and "
        f"{closest['size_bytes'] / 1e6:.2f} MB; the fastest takes {fastest:.3f} ms, the smallest {smallest:.2f} MB. "
        "Ask for less, or let more students sit in."
    )
