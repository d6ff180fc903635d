"""What transfer sets, teachers, starts and recipes brought in an exam."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eyas.evaluation.bootstrap import Comparison, compare
from eyas.exam.results import LAST_STAGE, START, TEACHER, TRANSFER, TWIN, predictions
from eyas.report.answers import Answers

# The columns that identify a student of a data set, whatever its recipe.
STUDENT = ["dataset", "model", "precision", "embeddings"]


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
