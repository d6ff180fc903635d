"""Where a student and its teacher differ (after Mohanty et al. 2023)."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from eyas.evaluation.changes import slice_row
from eyas.tasks import Task, softmax

NEGATIONS = re.compile(
    r"\b(?:not?|never|none|nothing|nobody|nowhere|neither|nor|cannot|without|hardly|barely|n't|\w+n['\u2019]t"
    r"|tidak|tak|bukan|jangan|belum|tanpa)\b|n't\b",
    re.IGNORECASE,
)
NUMBER = re.compile(r"\d")
WORD = re.compile(r"\w+")
LENGTHS = ((1, 5), (6, 10), (11, 20), (21, 40), (41, None))
CONFIDENCES = (0.0, 0.6, 0.8, 0.95, 0.99)
FLIPS = 50
SHOWN_CHARACTERS = 300
MOST_LABELS = 30


def differences(
    task: Task,
    texts: Sequence[Any],
    labels: np.ndarray,
    student_logits: np.ndarray,
    teacher_logits: np.ndarray,
    known_words: Collection[str],
) -> dict[str, list[dict[str, Any]]]:
    """Scores of student and teacher on slices of a split, and the most telling disagreements.

    Args:
        texts: [rows] texts, pairs joined; for tagging lists of words.
        labels: as from `labels_of`; decisions without a label are left out.
        student_logits, teacher_logits: [rows or words, outputs], columns in the order of the task's labels.
        known_words: lower-case words in the student's training texts.

    Returns:
        `slices` of decisions (texts, words, aspects ...): group, name, rows, student_accuracy, teacher_accuracy,
        agreement, and in how many texts the student is right less often (`lost`) or more often (`won`). Empty slices
        are left out; regression has no slices.
        `flips`: the 50 disagreements with the highest confidence of both (for regression, the widest): text, label,
        and the label and score of each.
    """
    if not task.decides:
        return {"slices": [], "flips": _widest(texts, labels, student_logits, teacher_logits)}
    each = np.array([len(text) for text in texts]) if task.is_tagging else np.full(len(texts), len(task.groups))
    known = task.decided(labels) >= 0
    rows = np.repeat(np.arange(len(texts)), each)[known]
    places = np.concatenate([np.arange(count) for count in each])[known] if len(each) else rows
    student, teacher = (softmax(task.decisions(logits)[known]) for logits in (student_logits, teacher_logits))
    gold = task.decided(labels)[known]
    student_said, teacher_said = student.argmax(1), teacher.argmax(1)
    plain = [" ".join(text) if task.is_tagging else text for text in texts]
    slices = []
    for group, name, mask in _slices(plain, rows, gold, teacher.max(1), task.choices, known_words):
        if mask.any():
            right = [said[mask] == gold[mask] for said in (student_said, teacher_said)]
            slices.append(slice_row(group, name, right, (student_said == teacher_said)[mask], rows[mask]))
    sure = np.minimum(student.max(1), teacher.max(1))
    differing = np.flatnonzero(student_said != teacher_said)
    flips = [
        {
            "text": shown(texts[rows[at]], int(places[at])),
            "label": task.choices[gold[at]],
            "student": task.choices[student_said[at]],
            "student_score": round(float(student[at].max()), 4),
            "teacher": task.choices[teacher_said[at]],
            "teacher_score": round(float(teacher[at].max()), 4),
        }
        for at in differing[np.argsort(-sure[differing], kind="stable")][:FLIPS]
    ]
    return {"slices": slices, "flips": flips}


def _slices(
    texts: Sequence[str],
    rows: np.ndarray,
    gold: np.ndarray,
    confidence: np.ndarray,
    names: Sequence[str],
    known_words: Collection[str],
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(group, name, mask over decisions); `rows` maps decisions to texts."""
    for label in np.argsort(-np.bincount(gold, minlength=len(names)), kind="stable")[:MOST_LABELS]:
        yield "label", names[label], gold == label
    for least, above in zip(CONFIDENCES, (*CONFIDENCES[1:], 1.01), strict=True):
        name = f"teacher {least:.0%} to {min(above, 1):.0%} sure"
        yield "confidence", name, (confidence >= least) & (confidence < above)
    for group, name, mask in slices_of_texts(texts, known_words):
        yield group, name, mask[rows]


def slices_of_texts(texts: Sequence[str], known_words: Collection[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    """(group, name, mask over texts) by length and content."""
    words = [WORD.findall(text.lower()) for text in texts]
    lengths = np.array([len(row) for row in words])
    for low, high in LENGTHS:
        name = f"{low} to {high} words" if high else f"{low} words and more"
        yield "length", name, (lengths >= low) & (lengths <= (high or lengths.max(initial=0)))
    yield "content", "with a negation", np.array([bool(NEGATIONS.search(text)) for text in texts])
    yield "content", "with a number", np.array([bool(NUMBER.search(text)) for text in texts])
    unknown = np.array([any(word not in known_words for word in row) for row in words])
    yield "content", "with a word not seen in training", unknown
    yield "content", "with known words only", ~unknown


def _widest(texts: Sequence[str], labels: np.ndarray, student: np.ndarray, teacher: np.ndarray) -> list[dict[str, Any]]:
    student_said, teacher_said = student.reshape(-1), teacher.reshape(-1)
    order = np.argsort(-np.abs(student_said - teacher_said), kind="stable")[:FLIPS]
    return [
        {
            "text": shown(texts[row]),
            "label": f"{labels[row]:.3g}",
            "student": f"{student_said[row]:.3g}",
            "student_score": None,
            "teacher": f"{teacher_said[row]:.3g}",
            "teacher_score": None,
        }
        for row in order
    ]


def shown(text: Any, place: int = 0) -> str:
    """A shortened text; for a sentence, the word at `place` in brackets and the words around it."""
    if isinstance(text, str):
        return text[:SHOWN_CHARACTERS] + "…" * (len(text) > SHOWN_CHARACTERS)
    words = [*text[max(place - 15, 0) : place], f"[{text[place]}]", *text[place + 1 : place + 16]]
    return " ".join(words)
