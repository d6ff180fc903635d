"""What a model's logits say, in words: the same from torch, from ONNX, on the command line."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from eyas.spans import spans_of
from eyas.tasks import IS, Task

Answer = dict[str, Any]


def answer(task: Task, logits: np.ndarray) -> Answer:
    """The answer for one text.

    Args:
        logits: [outputs].

    Returns:
        classification: label, score (its probability); regression: score; multi-label: labels, scores (of each);
        aspects: aspects {aspect: {label, score}}; vectors: vector.
    """
    if task.kind == "vectors":
        return {"vector": [float(value) for value in logits]}
    if task.kind == "regression":
        return {"score": float(logits[0])}
    chances = task.probabilities(logits[None])[0]
    if task.kind == "multi-label":
        found = [int(column) for column in np.flatnonzero(logits > 0)]
        return {"labels": [task.labels[c] for c in found], "scores": [float(chances[c]) for c in found]}
    best = [columns[int(chances[columns].argmax())] for columns in task.groups]
    if task.kind == "aspects":
        names = [task.labels[column].split(IS, 1) for column in best]
        each = zip(names, best, strict=True)
        return {"aspects": {aspect: {"label": v, "score": float(chances[c])} for (aspect, v), c in each}}
    return {"label": task.labels[best[0]], "score": float(chances[best[0]])}


def answer_words(task: Task, logits: np.ndarray, words: Sequence[str], places: Sequence[tuple[int, int]]) -> Answer:
    """The answer for one sentence.

    Args:
        logits: [words, tags].
        places: where each word starts and ends.

    Returns:
        tokens, tags, scores (probabilities), one a word, and spans: entity_group, score (mean), word, start, end.
    """
    chances = task.probabilities(logits)
    best = chances.argmax(1)
    tags = [task.labels[index] for index in best]
    scores = chances[np.arange(len(best)), best] if len(best) else np.empty(0)
    spans = [
        {
            "entity_group": kind,
            "score": float(scores[start:end].mean()),
            "word": " ".join(words[start:end]),
            "start": places[start][0],
            "end": places[end - 1][1],
        }
        for kind, start, end in spans_of(tags)
    ]
    return {"tokens": list(words), "tags": tags, "scores": [float(score) for score in scores], "spans": spans}
