"""Choose the student to ship."""

from pathlib import Path
from typing import Any

import pandas as pd

from eyas.errors import DataError
from eyas.exam.results import Requirements, candidates, load_exam, plain, shippable, winner


def find_best(
    folder: str | Path, requirements: Requirements | None = None, dataset: str | None = None
) -> dict[str, Any]:
    """The cheapest student that meets `requirements`, by validation scores.

    Returns:
        Its row (see docs/exam.md); `key` is the trial of the seed with the best validation score.

    Raises:
        DataError: no student meets the requirements, or `dataset` is unknown or missing.
    """
    requirements = requirements or Requirements()
    trials = load_exam(folder)
    table = candidates(trials)
    names = list(dict.fromkeys(trials["dataset"]))
    if dataset is None and len(names) > 1:
        raise DataError(f"The exam has several data sets: {', '.join(names)}. Choose one with dataset (--dataset).")
    if dataset not in (None, *names):
        raise DataError(f"The exam has no data set {dataset!r}. Expected one of {', '.join(names)}.")
    table = table[table["dataset"] == (dataset or names[0])]
    row, good = best_row(trials, table, requirements)
    if not good:
        raise DataError(_unmet(row, table, requirements))
    return row


def best_row(
    trials: pd.DataFrame, table: pd.DataFrame, requirements: Requirements | None = None
) -> tuple[dict[str, Any], bool]:
    """(student to ship, whether it meets `requirements`); if none does, the student closest to the teacher.

    Args:
        trials: as returned by `load_exam`.
        table: the candidates of one data set.

    Raises:
        DataError: no student finished.
    """
    index, good = winner(table, requirements or Requirements())
    if index is None:
        raise DataError("No student finished this exam, so none can be shipped.")
    row = table.loc[index]
    if pd.isna(row["latency_ms"]):
        raise DataError("The students are not measured beside their teacher yet. Run the exam again to resume it.")
    if row[["retention", "validation_retention"]].isna().any():
        raise DataError("The teacher failed, or it does not score above 0: no student keeps a share of that.")
    seeds = trials[trials["key"].isin(row["keys"])]
    best = seeds.loc[seeds["validation_score"].astype(float).idxmax()]
    cells = {name: plain(value) for name, value in row.items() if name != "keys"}
    return {**cells, "key": best["key"], "seed": int(best["seed"])}, good


def _unmet(closest: dict[str, Any], table: pd.DataFrame, requirements: Requirements) -> str:
    students = shippable(table)
    fastest, smallest = students["latency_ms"].min(), students["size_bytes"].min() / 1e6
    return (
        f"On validation, no student reaches {requirements}. The closest is {closest['title']}: "
        f"{closest['validation_retention']:.1%} of the teacher at {closest['latency_ms']:.3f} ms and "
        f"{closest['size_bytes'] / 1e6:.2f} MB. The fastest takes {fastest:.3f} ms, the smallest {smallest:.2f} MB. "
        "Relax the requirements, or add students to the exam."
    )
