"""Small changes of texts: does a student still answer as its teacher?"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eyas.tasks import Task

MOST_TEXTS = 200
LETTERS = re.compile(r"[^\W\d_]{4,}")
WORD = re.compile(r"\w+")
AUXILIARY = re.compile(
    r"\b(?:is|are|was|were|do|does|did|can|could|will|would|should|must|has|have|had|may|might)\b", re.IGNORECASE
)
NOT = re.compile(r"\bnot\s+|\s+not\b|(?<=\w)n['\u2019]t\b", re.IGNORECASE)
CONTRACTED = (
    (re.compile(r"\b(w)on['\u2019]t\b", re.IGNORECASE), r"\1ill"),
    (re.compile(r"\b(ca)n['\u2019]t\b", re.IGNORECASE), r"\1n"),
)

# (text, random) -> the changed text, or the text itself where the change does not apply.
Change = Callable[[str, np.random.Generator], str]


def _typo(text: str, random: np.random.Generator) -> str:
    """Two neighboring letters of a word swapped."""
    words = list(LETTERS.finditer(text))
    if not words:
        return text
    word = words[int(random.integers(len(words)))]
    place = word.start() + 1 + int(random.integers(len(word.group()) - 2))
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def _doubled(text: str, random: np.random.Generator) -> str:
    words = list(WORD.finditer(text))
    if not words:
        return text
    word = words[int(random.integers(len(words)))]
    return f"{text[: word.end()]} {word.group()}{text[word.end() :]}"


def _negated(text: str, random: np.random.Generator) -> str:
    found = AUXILIARY.search(text)
    return text if found is None or NOT.search(text) else f"{text[: found.end()]} not{text[found.end() :]}"


def _affirmed(text: str, random: np.random.Generator) -> str:
    for pattern, whole in CONTRACTED:
        text = pattern.sub(whole, text)
    return NOT.sub("", text)


KEEPING: dict[str, Change] = {
    "in capitals": lambda text, random: text.upper(),
    "without punctuation": lambda text, random: "".join(c for c in text if not unicodedata.category(c).startswith("P")),
    "with a typo": _typo,
    "with a word doubled": _doubled,
}
"""Changes that keep the label, as a rule."""
TURNING: dict[str, Change] = {"with an added “not”": _negated, "without its “not”": _affirmed}
"""English only: changes that may turn the label, so that only the agreement tells something."""


@dataclass(frozen=True)
class Changed:
    """Changed texts.

    Args:
        texts, names, rows: for each the text, the name of its change, and the row of the original.
    """

    texts: list[str]
    names: list[str]
    rows: list[int]


def changed_texts(texts: Sequence[str], seed: int = 0) -> Changed:
    """Up to 200 of the texts with each change that applies to them."""
    random, found = np.random.default_rng(seed), Changed([], [], [])
    rows = np.sort(random.permutation(len(texts))[:MOST_TEXTS])
    for name, change in {**KEEPING, **TURNING}.items():
        for row in map(int, rows):
            text = change(texts[row], random)
            if text.strip() and text != texts[row]:
                found.texts.append(text)
                found.names.append(name)
                found.rows.append(row)
    return found


def change_slices(
    task: Task, changed: Changed, labels: np.ndarray, student_logits: np.ndarray, teacher_logits: np.ndarray
) -> list[dict[str, Any]]:
    """Slices as of `differences`, one per change; without accuracies where the label may have turned.

    Args:
        labels: of the original texts, as from `labels_of`.
        student_logits, teacher_logits: [changed texts, outputs].
    """
    each = len(task.groups)
    student, teacher = (task.decisions(logits).argmax(1) for logits in (student_logits, teacher_logits))
    gold = task.decided(labels[changed.rows]) if len(changed.rows) else np.empty(0, np.int64)
    names, slices = np.repeat(changed.names, each), []
    texts = np.repeat(np.arange(len(changed.names)), each)
    for name in (*KEEPING, *TURNING):
        mask = (names == name) & (gold >= 0)
        if mask.any():
            right = [said[mask] == gold[mask] for said in (student, teacher)] if name in KEEPING else None
            slices.append(slice_row("change", name, right, (student == teacher)[mask], texts[mask]))
    return slices


def slice_row(
    group: str, name: str, right: Sequence[np.ndarray] | None, agree: np.ndarray, texts: np.ndarray
) -> dict[str, Any]:
    """A slice: its size, scores, and in how many texts the student is right less often, or more often.

    They are counted by text, because the errors of one text come together.

    Args:
        right: [decisions] whether the student is right, and whether the teacher is; None if that is not known.
        agree: [decisions] whether both say the same.
        texts: [decisions] the number of the text.
    """
    row: dict[str, Any] = {"group": group, "name": name, "rows": len(agree)}
    for key in ("student_accuracy", "teacher_accuracy", "lost", "won"):
        row[key] = None
    if right is not None:
        student, teacher = right
        row |= {"student_accuracy": float(student.mean()), "teacher_accuracy": float(teacher.mean())}
        gained = np.bincount(texts, student.astype(float) - teacher)
        row |= {"lost": int((gained < 0).sum()), "won": int((gained > 0).sum())}
    return {**row, "agreement": float(agree.mean())}
