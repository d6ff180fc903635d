"""What a student and its teacher do together: the student answers where it is sure, the teacher the rest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eyas.evaluation.bootstrap import bracketed, ratio_interval, score
from eyas.evaluation.deferral import lowest_threshold
from eyas.exam.results import VALIDATION, predictions
from eyas.report.verdict import reference
from eyas.tasks import Task

# What the pair must keep of the teacher, with 95 % confidence; points of the curve.
LEAST, POINTS = 0.99, 50


@dataclass(frozen=True)
class Together:
    """The student to ship and its teacher in one cascade.

    Args:
        dataset, title: the data set and the student.
        threshold: the confidence from which on the student answers, chosen on validation texts; None if no threshold
            keeps enough.
        answered: share of the scored texts that the student answers.
        retention, interval: of the score on them.
        speed: times the teacher's.
        curve: the score and the mean latency for thresholds between none and all.
    """

    dataset: str
    title: str
    threshold: float | None
    answered: float
    retention: float
    interval: tuple[float, float] | None
    speed: float
    curve: pd.DataFrame


def together(folder: Path, table: pd.DataFrame) -> list[Together]:
    """The winner of each data set with its teacher in fp32, as far as the exam kept their confidences.

    Args:
        table: candidates, with the column `winner`.
    """
    found = []
    for name, rows in table.groupby("dataset", sort=False):
        best, teacher = rows.index[rows["winner"]], reference(rows)
        task = Task(rows["task"].iloc[0], ())
        if not task.decides or task.reads_fields or not len(best) or teacher is None:  # ranks of one model alone
            continue
        if not rows.loc[teacher, "score"] > 0:
            continue
        if not rows.loc[teacher, "latency_ms"] > rows.loc[best[0], "latency_ms"]:  # or not measured
            continue
        pair = [rows.loc[index] for index in (best[0], teacher)]
        if not all((folder / "trials" / row["keys"][0] / VALIDATION).is_file() for row in pair):
            continue
        found.append(_together(folder, str(name), pair))
    return found


def _together(folder: Path, dataset: str, pair: list[Any]) -> Together:
    keys, metric = [row["keys"][0] for row in pair], str(pair[0]["metric"])
    scored = [predictions(folder, key) for key in keys]
    known = [pd.read_parquet(folder / "trials" / key / VALIDATION) for key in keys]
    own, theirs = (np.stack(list(part["sums"])) for part in scored)
    ours, whole = (np.stack(list(part["sums"])) for part in known)
    sure = scored[0]["confidence"].to_numpy()
    least = lowest_threshold(known[0]["confidence"].to_numpy(), ours, whole, whole, metric, LEAST)
    latencies = [float(row["latency_ms"]) for row in pair]

    def mixed(threshold: float) -> tuple[np.ndarray, float]:
        answers = sure >= threshold
        cost = latencies[0] + float((~answers).mean()) * latencies[1]
        return np.where(answers[:, None], own, theirs), cost

    thresholds = np.unique(np.quantile(sure, np.linspace(0, 1, POINTS)))
    each = [(float(threshold), *mixed(threshold)) for threshold in [*thresholds, np.inf]]
    curve = pd.DataFrame(
        {
            "dataset": dataset,
            "threshold": [min(threshold, 1.0) for threshold, _, _ in each],
            "answered": [float((sure >= threshold).mean()) for threshold, _, _ in each],
            "score": [float(score(metric, both.sum(0))) for _, both, _ in each],
            "latency_ms": [cost for _, _, cost in each],
        }
    )
    both, cost = mixed(np.inf if least is None else least)
    kept = float(score(metric, both.sum(0)) / score(metric, theirs.sum(0)))
    return Together(
        dataset,
        str(pair[0]["title"]),
        least,
        0.0 if least is None else float((sure >= least).mean()),
        kept,
        ratio_interval([both], [theirs], metric),
        latencies[1] / cost,
        curve,
    )


def sentence(pair: Together, split: str) -> str:
    """What the pair keeps, and how fast it is."""
    if pair.threshold is None:
        return (
            f"{pair.title} and its teacher: no threshold keeps {LEAST:.0%} of the teacher with 95 % confidence on the "
            "validation texts."
        )
    return (
        f"{pair.title} with the teacher for the rest: {pair.retention:.1%} of the teacher{bracketed(pair.interval)} "
        f"on the {split} split at {pair.speed:,.1f} times its speed. The student answers "
        f"{pair.answered:.0%} of the texts, those of which it is {pair.threshold:.1%} sure or more."
    )
