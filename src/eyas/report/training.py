"""Training curves of the loss, its terms and the validation score, from the history of each trial."""

import json
from math import isfinite, nan
from pathlib import Path
from typing import Any

import pandas as pd

from eyas.exam.results import STUDENT

HISTORY = "training_history.jsonl"
SCORE, LOSS = "validation score", "loss"
# Of students without a score while they train.
VALIDATION_LOSS = "validation loss"
# Most points per curve and stage; longer histories are averaged.
MOST_POINTS = 60


def training_curves(folder: Path, keys: list[str]) -> pd.DataFrame:
    """The training curves of one candidate, averaged over its seeds.

    Args:
        keys: keys of its trials.

    Returns:
        Columns stage, name (`SCORE`, `LOSS` or a term's), step, value. Steps continue across the stages of a recipe.
        A loss with a single term has the name of that term. Empty if no trial has a history.
    """
    found = pd.DataFrame([row for key in keys for row in _history(folder / "trials" / key / STUDENT / HISTORY)])
    if found.empty:
        return found
    last = found.groupby("stage")["step"].max()
    bins = -(-MOST_POINTS * found["step"] // found["stage"].map(last))
    before = found["stage"].map(last.cumsum() - last)
    groups = found.assign(step=found["step"] + before).groupby(["stage", "name", bins.rename("bin")], sort=False)
    curves = groups.agg(step=("step", "max"), value=("value", "mean")).reset_index()
    terms = curves[~curves["name"].isin([SCORE, LOSS, VALIDATION_LOSS])].groupby("stage")["name"].nunique()
    same = (curves["name"] == LOSS) & (curves["stage"].map(terms) == 1)
    return curves[~same].sort_values(["stage", "step"], kind="stable").drop(columns="bin")


def compact(curves: pd.DataFrame) -> list[dict[str, Any]]:
    """Curves for the page: {name, stage, points: [[step, value]]}; the score first, over all stages (stage None)."""
    several = curves["stage"].nunique() > 1
    stages = curves["stage"].where((curves["name"] != SCORE) & several, -1)
    rows = []
    for (stage, name), part in curves.groupby([stages, "name"], sort=False):
        points = [[int(step), float(f"{value:.4g}")] for step, value in zip(part["step"], part["value"], strict=True)]
        rows.append({"name": name, "stage": None if stage < 0 else int(stage) + 1, "points": points})
    return sorted(rows, key=lambda row: row["name"] != SCORE)


def _history(path: Path) -> list[dict[str, Any]]:
    """One row (stage, step, name, value) per finite number."""
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = []
    for entry in map(json.loads, lines):
        named = {LOSS: entry.get("loss", nan), SCORE: entry.get("eval_score", nan)}
        if "eval_score" not in entry:
            named[VALIDATION_LOSS] = entry.get("eval_loss", nan)
        named |= {name.removeprefix("loss/"): value for name, value in entry.items() if name.startswith("loss/")}
        at = {"stage": entry["stage"], "step": entry["step"]}
        rows += [{**at, "name": name, "value": value} for name, value in named.items() if isfinite(value)]
    return rows
