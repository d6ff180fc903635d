"""The results of an exam as tables. No torch.

`results.jsonl` has one row per trial and is identical for every run of the same plan, but for the rows of the best
student without its parts: which one is best depends on measured latency. `costs.jsonl` has the costs measured on this
machine, one row per form in which a model ships. docs/exam.md lists the columns.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from eyas.errors import DataError, OutputError

logger = logging.getLogger("eyas")

FORMAT_VERSION = 4
RESULTS, COSTS, PLAN, MACHINE = "results.jsonl", "costs.jsonl", "plan.yaml", "machine.json"
RESULT, FAILURE, TIMING = "result.json", "failure.json", "timing.json"
PREDICTIONS, VALIDATION, DIFFERENCES = "predictions.parquet", "validation.parquet", "differences.json"
STUDENT, SHIPPED = "student", "shipped"
# Folders of a student of several tasks, in that of its first trial, and of the teachers that an exam fine-tunes.
TOGETHER, TEACHERS = "together", "teachers"
# The recipe of a student without a teacher (a twin); in an exam it trains for as many steps as with one.
TWIN = "hard-labels"
# The linear models on the texts themselves: of whole texts, of words, of rows of fields.
LINEAR = ("words and characters + LR", "word features + LR", "values + LR")
# The parts of the best student that an exam trains it without, to say what each brought; the teacher's is the twin.
START, TRANSFER, TEACHER = "start", "transfer set", "teacher"
# The recipe of a student that was made before.
ADDED = "made before"
# Ends the name of the control of a recipe with several stages.
LAST_STAGE = " stages=last"
# One candidate = the trials that differ only in their seed.
CANDIDATE = ["dataset", "kind", "model", "precision", "recipe", "embeddings"]
# The columns that determine a model's speed and size. How it was trained does not.
FORM = ["dataset", "kind", "model", "precision", "embeddings"]
# Columns of a row; failed trials and rows of earlier versions lack some.
ROW_COLUMNS = [
    *("status", "error", "metric", "task", "score", "validation_score"),
    *("agreement", "data_key", "transfer", "start"),
]
LEARNED_COLUMNS = ["transfer_texts", "steps"]
COST_COLUMNS = [
    *("latency_ms", "latency_p95_ms", "latency_p99_ms", "times_faster", "sentences_per_second"),
    *("load_ms", "peak_rss_bytes", "added_rss_bytes", "joules_per_1000"),
]


def load_exam(folder: str | Path) -> pd.DataFrame:
    """Load the trials of an exam, one per row, with their cost and retention.

    Raises:
        DataError: there are no results, they are of an older version, or a line is damaged.
        OutputError: the results are of a newer version.
    """
    folder = Path(folder)
    rows = read_rows(folder / RESULTS)
    if not rows:
        raise DataError(f"{folder} has no results yet. Create them with: eyas exam ... --out {folder}")
    frame = pd.DataFrame(rows)
    for column in ROW_COLUMNS:
        if column not in frame:
            frame[column] = None
    costs = [row for row in read_rows(folder / COSTS) if row["key"] in set(frame["key"])]
    if costs:
        known = pd.DataFrame(costs)[[*FORM, *COST_COLUMNS]].astype(dict.fromkeys(COST_COLUMNS, float))
        frame = frame.merge(known, on=FORM, how="left")
    for column in (*LEARNED_COLUMNS, *COST_COLUMNS):
        if column not in frame:
            frame[column] = np.nan
    frame["without"] = frame["without"].fillna("") if "without" in frame else ""
    named = _recipes_of(folder / PLAN)
    frame["control"] = [_is_control(recipe) and recipe not in named for recipe in frame["recipe"]]
    frame["retention"] = _relative_to_teacher(frame, "score")
    frame["validation_retention"] = _relative_to_teacher(frame, "validation_score")
    return frame


def candidates(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per candidate: means over seeds, and `score_std` (NaN for a single seed).

    Failed trials are excluded; `failed` counts them, `seeds` the others. So are students without one of their parts.
    """
    trials = trials[trials["without"] == ""]
    done = trials[trials["status"] == "done"]
    labels = ["metric", "task", "data_key", "transfer", "start", "control"]
    numbers = [c for c in done.select_dtypes("number").columns if c not in ("seed", "format_version", *CANDIDATE)]
    groups = done.groupby(CANDIDATE, sort=False, dropna=False)
    table = groups[numbers].mean()
    table["score_std"] = groups["score"].std()
    table[labels] = groups[labels].first()
    table["seeds"] = groups.size()
    table["keys"] = groups["key"].agg(list)
    failed = trials[trials["status"] == "failed"].groupby(CANDIDATE, dropna=False).size()
    table["failed"] = failed.reindex(table.index).fillna(0).astype(int)
    table = table.reset_index()
    table["title"] = [title(row) for row in table.to_dict("records")]
    table["dominated"] = _dominated(table)
    return table


def title(row: dict[str, Any]) -> str:
    """The name of a candidate within its data set."""
    if row["kind"] in ("teacher", "member"):
        return f"{row['model']} {row['precision']}"
    if row["kind"] == "baseline":
        return str(row["model"])
    vectors = "" if row["embeddings"] == "teacher" else f", {row['embeddings']} embeddings"
    return f"{row['model']}, {row['recipe']}{vectors}"


def predictions(folder: Path, key: str) -> pd.DataFrame:
    """The predictions of one trial, in the order of the split.

    Columns `example_id` and `sums`, except for tagging `logits`, and for one answer per text `label` and `prediction`.
    """
    return pd.read_parquet(folder / "trials" / key / PREDICTIONS)


@dataclass(frozen=True)
class Requirements:
    """Requirements on the student to ship; None = no limit.

    Args:
        retention: minimum share of the teacher's score.
        latency_ms: maximum median time per text.
        size_bytes: maximum size of weights and tokenizer.
    """

    retention: float | None = 0.97
    latency_ms: float | None = None
    size_bytes: float | None = None

    def __str__(self) -> str:
        share = (
            f"{100 * self.retention:g}% of the teacher" if self.retention is not None else "any share of the teacher"
        )
        limits = [
            f"{self.latency_ms:g} ms" if self.latency_ms is not None else "",
            f"{self.size_bytes / 1e6:g} MB" if self.size_bytes is not None else "",
        ]
        within = " and ".join(filter(None, limits))
        return f"{share} within {within}" if within else share


def shippable(table: pd.DataFrame) -> pd.DataFrame:
    """The students, without those that the exam added as controls."""
    students = table[table["kind"] == "student"]
    taught = students[~students["control"].astype(bool)]
    return taught if len(taught) else students


def choose(table: pd.DataFrame, requirements: Requirements) -> pd.DataFrame:
    """The students of one data set that meet the requirements, cheapest first.

    They are chosen by validation scores, so that test scores stay unbiased. Twins are controls: they do not count.
    """
    students = shippable(table).copy()
    good = pd.Series(True, index=students.index)
    if requirements.retention is not None:
        good &= students["validation_retention"] >= requirements.retention
    good &= _within(students, requirements)
    order = ["latency_ms", "size_bytes", "validation_score"]
    return students[good].sort_values(order, ascending=[True, True, False], kind="stable")


def _within(students: pd.DataFrame, requirements: Requirements) -> pd.Series:
    """Whether each student is within the limits of latency and size."""
    limits = {"latency_ms": requirements.latency_ms, "size_bytes": requirements.size_bytes}
    good = pd.Series(True, index=students.index)
    for name, most in limits.items():
        if most is not None:
            good &= students[name] <= most
    return good


def winner(table: pd.DataFrame, requirements: Requirements) -> tuple[Any | None, bool]:
    """(index of the student to ship, whether it meets the requirements).

    If none does, it is the one within the limits of latency and size, or else of all, that is closest to the teacher.
    """
    good = choose(table, requirements)
    if len(good):
        return good.index[0], True
    students = shippable(table)
    if students.empty:
        return None, False
    within = students[_within(students, requirements)]
    return (within if len(within) else students)["validation_score"].astype(float).idxmax(), False


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a truncated last line is skipped with a warning."""
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = []
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            if number < len(lines):
                raise DataError(f"{path}:{number} is damaged. Run the exam again to rewrite it.") from None
            logger.warning("%s: the last line is truncated and was skipped. Run the exam again to restore it.", path)
            break
        version = row.get("format_version", 0)
        if version > FORMAT_VERSION:
            raise OutputError(
                f"{path} has format version {version}, this eyas reads up to {FORMAT_VERSION}. "
                "It was made by a newer version: upgrade, or choose another --out."
            )
        if version < FORMAT_VERSION:
            raise DataError(f"{path} was made by an older version of eyas. Run the exam again.")
        rows.append(row)
    return rows


def _is_control(recipe: str) -> bool:
    return recipe == TWIN or recipe.endswith(LAST_STAGE)


def _recipes_of(path: Path) -> list[str]:
    """The recipes that a plan names; without a plan, students on the labels alone count as named."""
    return list(yaml.safe_load(path.read_text()).get("recipes") or ()) if path.is_file() else [TWIN]


def _relative_to_teacher(frame: pd.DataFrame, column: str) -> pd.Series:
    """Shares of the teacher's score; NaN unless that is above 0."""
    teachers = frame[(frame["kind"] == "teacher") & (frame["precision"] == "fp32")]
    scores = teachers.set_index("dataset")[column].astype(float)
    scores = scores[~scores.index.duplicated()]
    return frame[column].astype(float) / frame["dataset"].map(scores.where(scores > 0))


def _dominated(table: pd.DataFrame) -> pd.Series:
    """Whether a baseline of the same data set is at least as good and as fast as the student."""
    result = pd.Series(False, index=table.index)
    for _, rows in table.groupby("dataset"):
        baselines = rows[rows["kind"] == "baseline"]
        for index, row in rows[rows["kind"] == "student"].iterrows():
            better = (baselines["score"] >= row["score"]) & (baselines["latency_ms"] <= row["latency_ms"])
            result[index] = bool(better.any())
    return result


def plain(value: Any) -> Any:
    """The value as a number, string or None for JSON."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
