"""Answers from logits: labels, scores, tags and spans. Shared by torch, ONNX and the command line."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eyas.kinds import IS, Kind
from eyas.spans import spans_of
from eyas.tasks import Task

Answer = dict[str, Any]


def answer(task: Task, logits: np.ndarray) -> Answer:
    """The answer for one text; for tagging, for one word (see `answer_words`).

    Args:
        logits: [outputs].

    Returns:
        classification, tagging: label, score (its probability); regression: score; multi-label: labels, scores (of
        each); aspects: aspects {aspect: {label, score}}; fields: score (the probability of 1); vectors: vector.
    """
    return answers(task, logits[None])[0]


def answers(task: Task, logits: np.ndarray) -> list[Answer]:
    """The answers for logits [texts, outputs]; see `answer`."""
    return ANSWERS[task.kind](task, logits, task.probabilities(logits))


def abstained(found: Answer, least: float) -> Answer:
    """The answer, with None in place of each label whose score is below `least`; the label is then its `guess`."""
    if "aspects" in found:
        return {**found, "aspects": {name: abstained(one, least) for name, one in found["aspects"].items()}}
    return found if found["score"] >= least else {**found, "label": None, "guess": found["label"]}


def _label(task: Task, logits: np.ndarray, chances: np.ndarray) -> list[Answer]:
    best, scores = chances.argmax(1).tolist(), np.maximum.reduce(chances, axis=1).tolist()
    return [{"label": task.labels[column], "score": score} for column, score in zip(best, scores, strict=True)]


def _labels(task: Task, logits: np.ndarray, chances: np.ndarray) -> list[Answer]:
    chosen = [np.flatnonzero(row > 0).tolist() for row in logits]
    return [
        {"labels": [task.labels[c] for c in columns], "scores": row[columns].tolist()}
        for columns, row in zip(chosen, chances, strict=True)
    ]


def _aspects(task: Task, logits: np.ndarray, chances: np.ndarray) -> list[Answer]:
    return [{"aspects": _of_each_aspect(task, row)} for row in chances]


def _of_each_aspect(task: Task, chances: np.ndarray) -> Answer:
    found = {}
    for columns in task.groups:
        best = columns[int(chances[columns].argmax())]
        aspect, value = task.labels[best].split(IS, 1)
        found[aspect] = {"label": value, "score": float(chances[best])}
    return found


# Task, logits and probabilities of texts -> the answer for each.
ANSWERS: dict[Kind, Callable[[Task, np.ndarray, np.ndarray], list[Answer]]] = {
    "classification": _label,
    "tagging": _label,
    "regression": lambda task, logits, _: [{"score": score} for score in logits[:, 0].tolist()],
    "multi-label": _labels,
    "aspects": _aspects,
    "fields": lambda task, _, chances: [{"score": score} for score in chances[:, 1].tolist()],
    "vectors": lambda task, logits, _: [{"vector": row} for row in logits.tolist()],
}


def _array(labels: list[str | None]) -> np.ndarray:
    return np.array(labels, dtype=object if None in labels else str)


# Answers for texts -> predictions without scores.
PREDICTIONS: dict[Kind, Callable[[list[Answer]], Any]] = {
    "classification": lambda answers: _array([found["label"] for found in answers]),
    "tagging": lambda answers: [found["tags"] for found in answers],
    "regression": lambda answers: np.array([found["score"] for found in answers], dtype=np.float32),
    "multi-label": lambda answers: [found["labels"] for found in answers],
    "aspects": lambda answers: [{name: one["label"] for name, one in found["aspects"].items()} for found in answers],
    "fields": lambda answers: np.array([found["score"] for found in answers], dtype=np.float32),
    "vectors": lambda answers: np.array([found["vector"] for found in answers], dtype=np.float32),
}


def answer_words(task: Task, logits: np.ndarray, words: Sequence[str], places: Sequence[tuple[int, int]]) -> Answer:
    """The answer for one sentence.

    Args:
        logits: [words, tags].
        places: start and end of each word.

    Returns:
        tokens, tags, scores (probabilities), one per word, and spans: entity_group, score (mean), word, start, end.
    """
    chances = task.probabilities(logits)
    best = chances.argmax(1)
    tags = [task.labels[index] for index in best]
    scores = chances[np.arange(len(best)), best] if len(best) else np.empty(0)
    spans = grouped(tags, scores, words, places)
    return {"tokens": list(words), "tags": tags, "scores": [float(score) for score in scores], "spans": spans}


def grouped(
    tags: Sequence[str], scores: Sequence[float] | np.ndarray, words: Sequence[str], places: Sequence[tuple[int, int]]
) -> list[Answer]:
    """The spans of a sentence, from each word's tag, score and place."""
    return [
        {
            "entity_group": kind,
            "score": float(np.mean(scores[start:end])),
            "word": " ".join(words[start:end]),
            "start": places[start][0],
            "end": places[end - 1][1],
        }
        for kind, start, end in spans_of(tags)
    ]
