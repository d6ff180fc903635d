"""Conclusions of an exam: the front, the student to ship, and the gains from distillation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from eyas.evaluation.bootstrap import (
    Comparison,
    bracketed,
    compare,
    comparison,
    doubt,
    interval_of,
    mean_score,
    ratio_of,
    samples,
)
from eyas.exam.results import (
    ADDED,
    LAST_STAGE,
    LINEAR,
    RESULT,
    START,
    TEACHER,
    TRANSFER,
    TWIN,
    Requirements,
    predictions,
    winner,
)
from eyas.settings import NO_START

# The columns that identify a student of a data set, whatever its recipe.
STUDENT = ["dataset", "model", "precision", "embeddings"]
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


def outscored(answers: "Answers", table: pd.DataFrame, best: Any) -> str:
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


@dataclass(frozen=True)
class Helped:
    """A student, its transfer set, and the gain from the texts beyond the training texts.

    Args:
        dataset: the data set with the transfer set.
        transfer: the texts beyond the training texts.
        texts, steps: number of training texts and steps; NaN if an earlier version did not record them.
        gain: gain over the same student on the training texts alone; None for that student.
    """

    dataset: str
    title: str
    transfer: str
    texts: float
    steps: float
    score: float
    gain: Comparison | None


def helped(folder: Path, table: pd.DataFrame) -> list[Helped]:
    """The gain from each transfer set, if the exam has the same data and teacher with and without it.

    Each student is listed first on the training texts alone, then with more texts.

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


@dataclass(frozen=True)
class Brought:
    """What a part of the best student brought: its gain over the same student without the part.

    Args:
        part: `START`, `TRANSFER` or `TEACHER`.
        what: what it is, such as general-en or neighbors:10.
        score: without it.
    """

    dataset: str
    title: str
    part: str
    what: str
    score: float
    gain: Comparison


def brought(folder: Path, trials: pd.DataFrame, table: pd.DataFrame) -> list[Brought]:
    """What each part brought to the winner of each data set, as far as the exam trained it without the part.

    Args:
        trials: as returned by `load_exam`.
        table: its candidates, with the column `winner`.
    """
    found, pairs = [], twins(table)
    done = trials[trials["status"] == "done"]
    for index, best in table[table["winner"]].iterrows():
        own = done[done["key"].isin(best["keys"])].sort_values("seed")
        same = np.logical_and.reduce([done[name] == best[name] for name in [*STUDENT, "recipe"]])
        others = {part: done[same & (done["without"] == part)] for part in (START, TRANSFER)}
        if index in pairs:
            others[TEACHER] = done[done["key"].isin(table.loc[pairs[index], "keys"])]
        names = {START: own["start"].iloc[0], TRANSFER: best["transfer"], TEACHER: best["recipe"]}
        for part, other in others.items():
            both = sorted(set(own["seed"]) & set(other["seed"]))
            if not both:
                continue
            ours, theirs = (
                [np.stack(list(predictions(folder, key)["sums"])) for key in rows.set_index("seed").loc[both, "key"]]
                for rows in (own, other)
            )
            gain = compare(ours, theirs, str(best["metric"]))
            score = float(other.set_index("seed").loc[both, "score"].mean())
            found.append(Brought(best["dataset"], best["title"], part, str(names[part]), score, gain))
    return found


@dataclass(frozen=True)
class Gain(Comparison):
    """A comparison of recipes.

    Args:
        certain: whether the difference is beyond its interval and beyond the spread over the seeds of both; False for a
            single seed.
    """

    certain: bool


@dataclass(frozen=True)
class Taught:
    """A student and a recipe, and its gain over another recipe on each data set.

    Args:
        against: the other recipe: itself without options, or the student's first; empty for the first.
        scores: by data set.
        gains: by data set, if the other recipe has a score there too.
    """

    student: str
    recipe: str
    against: str
    scores: dict[str, float]
    gains: dict[str, Gain]

    @property
    def mean(self) -> float | None:
        """Mean over the data sets: of the gains, or of the scores for the first recipe."""
        found = [gain.difference for gain in self.gains.values()] if self.against else list(self.scores.values())
        return float(np.mean(found)) if found else None

    def certain(self, sign: int) -> int:
        """The number of data sets on which it is certainly better (1) or worse (-1)."""
        return sum(gain.certain and gain.difference * sign > 0 for gain in self.gains.values())


def taught(folder: Path, table: pd.DataFrame) -> list[Taught]:
    """The gain of each recipe, for students with several.

    A recipe is compared with the student's first that uses a teacher; with options, with itself without them; a last
    stage alone, with its recipe. Data sets with one such recipe are left out: each may have its own default.

    Args:
        table: candidates of all data sets.
    """
    found = []
    students = table[table["kind"] == "student"]
    counts = students[students["recipe"] != TWIN].groupby(STUDENT)["recipe"].nunique()
    students = students.join(counts.rename("recipes"), on=STUDENT)
    students = students[students["recipes"] > 1]
    for (student, _, vectors), own in students.groupby(STUDENT[1:], sort=False):
        recipes = list(dict.fromkeys(own["recipe"]))
        distilled = [recipe for recipe in recipes if recipe != TWIN]
        name = student if vectors == "teacher" else f"{student}, {vectors} embeddings"
        places = {(row["dataset"], row["recipe"]): index for index, row in own.iterrows()}
        answers = {dataset: Answers(folder, rows) for dataset, rows in own.groupby("dataset", sort=False)}
        for recipe in recipes:
            plain = next((one for one in (recipe.removesuffix(LAST_STAGE), recipe.split()[0]) if one != recipe), "")
            other = plain if plain in recipes else distilled[0]
            row = Taught(name, recipe, other if other != recipe else "", {}, {})
            for dataset, answer in answers.items():
                here, there = (places.get((dataset, one)) for one in (recipe, other))
                if here is not None:
                    row.scores[dataset] = float(own.loc[here, "score"])
                if row.against and here is not None and there is not None:
                    gain, spread = answer.compare(here, there), np.hypot(*own.loc[[here, there], "score_std"])
                    certain = not gain.low <= 0 <= gain.high and abs(gain.difference) > spread
                    row.gains[dataset] = Gain(**vars(gain), certain=bool(certain))
            found.append(row)
    return found


def summaries(rows: list[Taught]) -> list[str]:
    """For each student: the recipe that scores highest, and the recipes that differ with certainty."""
    found = []
    for student in dict.fromkeys(row.student for row in rows):
        own = [row for row in rows if row.student == student]
        most = max(len(row.scores) for row in own)
        best = max((row for row in own if len(row.scores) == most), key=lambda row: np.mean(list(row.scores.values())))
        better, worse = (", ".join(_certain(own, sign)) or "none" for sign in (1, -1))
        found.append(f"{student}: {best.recipe} scores highest. Beyond the spread, better: {better}; worse: {worse}.")
    return found


def _certain(rows: list[Taught], sign: int) -> list[str]:
    """The recipes that are certainly better (1) or worse (-1); with several data sets, on how many of them."""
    counts = [(row, row.certain(sign)) for row in rows]
    return [
        f"{row.recipe} than {row.against}" + (f" ({count} of {len(row.gains)})" if len(row.gains) > 1 else "")
        for row, count in counts
        if count
    ]


def twins(table: pd.DataFrame) -> dict[Any, Any]:
    """{index of a distilled student: index of its twin, trained on the labels alone}."""
    students = table[table["kind"] == "student"]
    found = {tuple(row[c] for c in STUDENT): i for i, row in students[students["recipe"] == TWIN].iterrows()}
    distilled = students[students["recipe"] != TWIN]
    pairs = {i: found.get(tuple(row[c] for c in STUDENT)) for i, row in distilled.iterrows()}
    return {i: twin for i, twin in pairs.items() if twin is not None}
