"""Conclusions of an exam: the front, the student to ship, and what to doubt."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from eyas.evaluation.bootstrap import bracketed, doubt
from eyas.exam.results import ADDED, LINEAR, RESULT, Requirements, winner
from eyas.report.answers import Answers
from eyas.report.gains import twins
from eyas.settings import NO_START

NOTHING = "new weights"
# A slice of fewer rows says little.
FEWEST_ROWS, LEVEL = 20, 0.05


def mark_front(table: pd.DataFrame, cost: str = "latency_ms") -> pd.Series:
    """Whether no other candidate of the data set costs as little and is better, or costs less and is as good."""
    front = pd.Series(False, index=table.index)
    for _, rows in table.groupby("dataset"):
        best = -np.inf
        for index, row in rows.sort_values([cost, "score"], ascending=[True, False]).iterrows():
            if row["score"] > best and np.isfinite(row[cost]):
                front[index], best = True, row["score"]
    return front


def sentence(
    row: dict[str, Any],
    good: bool,
    requirements: Requirements,
    split: str = "test",
    interval: tuple[float, float] | None = None,
    rivals: str = "",
) -> str:
    """The verdict as a sentence.

    Args:
        split: the split that was scored.
        interval: of the retention on it.
        rivals: as from `outscored`.
    """
    if not np.isfinite(row["latency_ms"]):
        return f"{row['title']} is not measured beside its teacher yet: run the exam again."
    if not np.isfinite(row["retention"]):
        return f"{row['title']} has no teacher to keep a share of: it failed, or it does not score above 0."
    digits = 0 if row["times_faster"] >= 10 else 1
    known = np.isfinite(row["times_faster"])  # not beside a teacher without a model, such as a file
    speed = f"{row['times_faster']:,.{digits}f} times its speed" if known else f"{row['latency_ms']:.3f} ms"
    kept = f"{row['retention']:.1%} of the teacher{bracketed(interval)}"
    facts = f"{kept} on the {split} split, at {speed} and {megabytes(row['size_bytes'])}"
    facts += f", but {rivals}" if rivals else ""
    if good:
        return f"Ship {row['title']}: {facts}."
    return (
        f"On validation, no student reaches {requirements}. The closest is {row['title']}, with "
        f"{row['validation_retention']:.1%} there. It keeps {facts}."
    )


def verdict(folder: Path, table: pd.DataFrame, requirements: Requirements) -> tuple[str, Any | None, bool]:
    """The verdict on one data set: a sentence, the index of its student, whether that meets the requirements.

    Args:
        table: candidates of the data set.
    """
    (best, good), teacher, answers = winner(table, requirements), reference(table), Answers(folder, table)
    if best is None:
        return "No student finished this exam.", None, False
    kept = None if teacher is None else answers.retention(best, teacher)
    rivals = outscored(answers, table, best)
    said = sentence(dict(table.loc[best]), good, requirements, split_of(folder, table), kept, rivals)
    alone = "No student with a teacher finished this exam. " if table.loc[best, "control"] else ""
    return alone + said, best, good


def outscored(answers: Answers, table: pd.DataFrame, best: Any) -> str:
    """What is simpler than a student and scores more: its twin, the best linear model; empty if neither does.

    Args:
        table: candidates of one data set.
        best: the index of the student.
    """
    said, score = [], float(table.loc[best, "score"])
    twin = twins(table).get(best)
    if twin is not None and table.loc[twin, "score"] > score:
        harm = answers.compare(best, twin).high < 0
        meaning = "the teacher does harm" if harm else "the teacher does not help"
        said.append(f"on the labels alone the same student scores more ({_against(table, twin, best)}), so {meaning}")
    linear = table[(table["kind"] == "baseline") & (table["score"] > score)].sort_values("score", ascending=False)
    costs = {"speed": "latency_ms", "size": "size_bytes"}
    offers = {
        one: [name for name, column in costs.items() if linear.loc[one, column] > table.loc[best, column]]
        for one in linear.index
    }
    if len(linear):
        other = min(linear.index, key=lambda one: len(offers[one]))  # of equals, the one that scores most
        more = "more" if answers.compare(other, best).low > 0 else "more, within the interval"
        need = "no student is needed" if more == "more" else "a student may not be needed"
        meaning = f"the student has only its {' and '.join(offers[other])} to offer" if offers[other] else need
        name = linear.loc[other, "model"]
        said.append(f"the linear model {name} scores {more} ({_against(table, other, best)}), so {meaning}")
    return ", and ".join(said)


def _against(table: pd.DataFrame, one: Any, other: Any) -> str:
    return f"{100 * table.loc[one, 'score']:.1f} against {100 * table.loc[other, 'score']:.1f}"


def megabytes(size: float) -> str:
    """A size in bytes as a text."""
    return f"{size / 1e6:.{1 if size >= 1e6 else 2}f} MB"


def worst_slice(slices: Sequence[dict[str, Any]]) -> str:
    """A sentence about the slice on which a student loses most; empty if it loses nowhere beyond chance.

    Only slices of 20 rows and more count. In more texts the student must be right less often than more often, at a
    level of 5 % divided by the number of slices (the sign test, with Bonferroni's correction; for one answer a text it
    is McNemar's).
    """
    large = [
        row
        for row in slices
        if row["group"] != "confidence" and row["rows"] >= FEWEST_ROWS and row.get("lost") is not None
    ]
    lost = [row for row in large if _chance(row["lost"], row["won"]) < LEVEL / len(large)]
    if not lost:
        return ""
    worst = max(lost, key=lambda row: row["teacher_accuracy"] - row["student_accuracy"])
    where = f"the label {worst['name']}" if worst["group"] == "label" else f"texts {_where(worst)}"
    student, teacher = 100 * worst["student_accuracy"], 100 * worst["teacher_accuracy"]
    return f"It loses most on {where}: {student:.1f} against {teacher:.1f}."


def _chance(lost: int, won: int) -> float:
    """The probability of so many losses or more, if losses and wins were equally likely."""
    return float(binomtest(lost, lost + won, alternative="greater").pvalue) if lost + won else 1.0


def _where(row: dict[str, Any]) -> str:
    return f"of {row['name']}" if row["group"] == "length" else str(row["name"])


def teacher_doubt(answers: Answers, table: pd.DataFrame) -> str:
    """A sentence if the teacher of a data set is not certainly better than the linear model; else empty.

    Args:
        table: candidates of one data set.
    """
    teacher = reference(table)
    linear = table.index[table["model"].isin(LINEAR)]
    if teacher is None or not len(linear):
        return ""
    better, worse = (float(table.loc[one, "score"]) for one in (teacher, linear[0]))
    inputs = str(table.loc[linear[0], "model"]).removesuffix(" + LR")
    return doubt(better, worse, answers.compare(teacher, linear[0]), inputs)


def several_teachers(answers: Answers, table: pd.DataFrame) -> str:
    """What several teachers score together, and the best of them alone, by validation; empty for a single teacher.

    Args:
        table: candidates of one data set.
    """
    whole = reference(table)
    members = table[(table["kind"] == "member") & (table["precision"] == "fp32")]
    if whole is None or members.empty:
        return ""
    best = members["validation_score"].astype(float).idxmax()
    gap = answers.compare(whole, best)
    both, alone = (100 * float(table.loc[one, "score"]) for one in (whole, best))
    return (
        f"Together the {len(members)} teachers score {both:.1f}; the best alone, {members.loc[best, 'model']}, "
        f"{alone:.1f}: the others bring {100 * gap.difference:+.1f} (95 % interval {100 * gap.low:+.1f} to "
        f"{100 * gap.high:+.1f})."
    )


def split_of(folder: Path, table: pd.DataFrame) -> str:
    """The split on which the candidates of a data set were scored."""
    path = folder / "trials" / table["keys"].iloc[0][0] / RESULT
    return str(json.loads(path.read_text()).get("split", "test")) if path.is_file() else "test"


def reference(table: pd.DataFrame) -> Any | None:
    """The index of the teacher in fp32; None if it failed."""
    found = table.index[(table["kind"] == "teacher") & (table["precision"] == "fp32")]
    return found[0] if len(found) else None


def starting_points(table: pd.DataFrame) -> str:
    """A sentence about what the students of a data set start from; empty if all start from new weights.

    Args:
        table: candidates of one data set.
    """
    students = table[(table["kind"] == "student") & (table["recipe"] != ADDED)]
    models: dict[str, list[str]] = {}
    for start, model in zip(students["start"], students["model"], strict=True):
        names = models.setdefault(start if isinstance(start, str) and start != NO_START else NOTHING, [])
        names += [model] if model not in names else []
    if set(models) <= {NOTHING}:
        return ""
    return "Students start " + "; ".join(f"from {source}: {', '.join(names)}" for source, names in models.items()) + "."
