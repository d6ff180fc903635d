"""What was lost: where a student and its teacher differ (after Mohanty et al. 2023)."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from understudy.runtime.predictor import softmax

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
    texts: Sequence[str],
    labels: np.ndarray,
    student_logits: np.ndarray,
    teacher_logits: np.ndarray,
    label_names: Sequence[str],
    known_words: Collection[str],
) -> dict[str, list[dict[str, Any]]]:
    """Scores of student and teacher on slices of a split, and the most telling disagreements.

    Args:
        texts: [rows]; pairs joined.
        labels: [rows] int, all labelled.
        student_logits, teacher_logits: [rows, labels], columns in the order of `label_names`.
        known_words: lower-case words that the student could learn.

    Returns:
        `slices`: group, name, rows, student_accuracy, teacher_accuracy, agreement; empty slices are left out.
        `flips`: the 50 disagreements of which both are surest; text, label, and label and score of each.
    """
    mine, theirs = student_logits.argmax(1), teacher_logits.argmax(1)
    slices = []
    for group, name, mask in _slices(texts, labels, softmax(teacher_logits).max(1), label_names, known_words):
        if mask.any():
            slices.append(
                {
                    "group": group,
                    "name": name,
                    "rows": int(mask.sum()),
                    "student_accuracy": float((mine == labels)[mask].mean()),
                    "teacher_accuracy": float((theirs == labels)[mask].mean()),
                    "agreement": float((mine == theirs)[mask].mean()),
                }
            )
    return {"slices": slices, "flips": _flips(texts, labels, student_logits, teacher_logits, label_names)}


def _slices(
    texts: Sequence[str],
    labels: np.ndarray,
    confidence: np.ndarray,
    label_names: Sequence[str],
    known_words: Collection[str],
) -> Iterator[tuple[str, str, np.ndarray]]:
    for label in np.argsort(-np.bincount(labels, minlength=len(label_names)), kind="stable")[:MOST_LABELS]:
        yield "label", label_names[label], labels == label
    words = [WORD.findall(text.lower()) for text in texts]
    lengths = np.array([len(row) for row in words])
    for low, high in LENGTHS:
        name = f"{low} to {high} words" if high else f"{low} words and more"
        yield "length", name, (lengths >= low) & (lengths <= (high or lengths.max(initial=0)))
    for least, above in zip(CONFIDENCES, (*CONFIDENCES[1:], 1.01), strict=True):
        name = f"teacher {least:.0%} to {min(above, 1):.0%} sure"
        yield "confidence", name, (confidence >= least) & (confidence < above)
    yield "content", "with a negation", np.array([bool(NEGATIONS.search(text)) for text in texts])
    yield "content", "with a number", np.array([bool(NUMBER.search(text)) for text in texts])
    unknown = np.array([any(word not in known_words for word in row) for row in words])
    yield "content", "with a word not seen in training", unknown
    yield "content", "with known words only", ~unknown


def _flips(
    texts: Sequence[str],
    labels: np.ndarray,
    student_logits: np.ndarray,
    teacher_logits: np.ndarray,
    label_names: Sequence[str],
) -> list[dict[str, Any]]:
    mine, theirs = softmax(student_logits), softmax(teacher_logits)
    differing = np.flatnonzero(mine.argmax(1) != theirs.argmax(1))
    sure = np.minimum(mine.max(1), theirs.max(1))
    chosen = differing[np.argsort(-sure[differing], kind="stable")][:FLIPS]
    return [
        {
            "text": texts[row][:SHOWN_CHARACTERS] + "…" * (len(texts[row]) > SHOWN_CHARACTERS),
            "label": label_names[labels[row]],
            "student": label_names[mine[row].argmax()],
            "student_score": round(float(mine[row].max()), 4),
            "teacher": label_names[theirs[row].argmax()],
            "teacher_score": round(float(theirs[row].max()), 4),
        }
        for row in chosen
    ]
