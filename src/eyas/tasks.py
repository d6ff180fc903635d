"""What is learned: the kinds of task, what a model's outputs mean in each, and what they decide. numpy alone.

Every task but regression is a number of decisions, each one choice out of a few: one a text (classification), one a
word (tagging), one an aspect (aspects), yes or no for each label (multi-label). Scores, agreement and losses are
written once, for decisions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args

import numpy as np

Kind = Literal["classification", "tagging", "regression", "multi-label", "aspects", "vectors"]
# What data can be labelled for; a text's vector is its teacher's alone.
KINDS: tuple[str, ...] = get_args(Kind)[:-1]
# What one output stands for, in the names of a multi-aspect model: "service=positive".
IS = "="
# A choice that is not open in a decision.
CLOSED = -1e9


@dataclass(frozen=True)
class Task:
    """What a model's outputs mean.

    Args:
        kind: classification (one label a text), tagging (one a word), regression (a number), multi-label (any number
            of labels), aspects (one value for each of several aspects), vectors (a point for each text).
        labels: names of the outputs; of aspects `aspect=value`, of regression one, of vectors their dimensions (of
            data none).
    """

    kind: Kind
    labels: tuple[str, ...]

    @property
    def is_tagging(self) -> bool:
        return self.kind == "tagging"

    @property
    def metric(self) -> str:
        """The score that compares models, chooses checkpoints and decides exams."""
        if self.kind == "tagging":
            return "span_f1" if has_spans(self.labels) else "accuracy"
        return {"regression": "pearson", "multi-label": "micro_f1", "vectors": "cosine"}.get(self.kind, "accuracy")

    @property
    def decides(self) -> bool:
        """Whether its outputs choose something; a regression's and a vector's are numbers to come near to."""
        return self.kind not in ("regression", "vectors")

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """Names of what a decision chooses from: the labels, and for multi-label each one's absence as well."""
        if self.kind == "multi-label":
            return (*(f"not {name}" for name in self.labels), *self.labels)
        return self.labels

    @cached_property
    def groups(self) -> list[list[int]]:
        """For each decision about a text (or a word), the columns of `decisions` that are open in it."""
        size = len(self.labels)
        if not self.decides:
            return []
        if self.kind == "multi-label":
            return [[column, size + column] for column in range(size)]
        if self.kind == "aspects":
            aspects: dict[str, list[int]] = {}
            for column, name in enumerate(self.labels):
                aspects.setdefault(name.split(IS, 1)[0], []).append(column)
            return list(aspects.values())
        return [list(range(size))]

    @property
    def aspects(self) -> list[str]:
        return list(dict.fromkeys(name.split(IS, 1)[0] for name in self.labels)) if self.kind == "aspects" else []

    def decisions(self, logits: np.ndarray) -> np.ndarray:
        """[rows, outputs] -> [decisions, choices]; the decisions of a row follow each other; closed choices -1e9."""
        if self.kind in ("classification", "tagging"):
            return logits
        if self.kind == "multi-label":
            logits = np.concatenate([np.zeros_like(logits), logits], 1)
        result = np.full((len(logits), len(self.groups), len(self.choices)), CLOSED, dtype=np.float32)
        for number, columns in enumerate(self.groups):
            result[:, number, columns] = logits[:, columns]
        return result.reshape(-1, len(self.choices))

    def decided(self, labels: np.ndarray) -> np.ndarray:
        """Labels of a split -> [decisions] int, indices into `choices`; below 0 where unlabelled."""
        if self.kind == "multi-label":
            known = np.where(labels > 0, len(self.labels), 0) + np.arange(len(self.labels))
            return np.asarray(np.where(labels < 0, -1, known).reshape(-1), dtype=np.int64)
        return labels.reshape(-1)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """[rows, outputs] -> the same shape: softmax over each decision's choices; numbers themselves."""
        if not self.decides:
            return logits
        if self.kind == "multi-label":
            return np.asarray(1 / (1 + np.exp(-logits)))
        result = np.empty_like(logits)
        for columns in self.groups:
            result[..., columns] = softmax(logits[..., columns])
        return result

    def describe(self) -> str:
        """In words, for messages."""
        count = len(self.aspects) if self.kind == "aspects" else len(self.labels)
        units = {"regression": "number", "tagging": "tags", "aspects": "aspects", "vectors": "dimensions"}
        return f"{self.kind} ({count} {units.get(self.kind, 'labels')})"


def has_spans(tags: Sequence[str]) -> bool:
    """Whether tags mark spans (`O`, `B-`, `I-`) and not one property of each word."""
    return any(tag == "O" or tag.startswith("I-") or tag == "I" for tag in tags)


def task_of_model(config: Any, labels: Sequence[str]) -> Task:
    """The task of a Hugging Face configuration: `eyas_task` where we made it, else what its head says."""
    known = getattr(config, "eyas_task", None)
    heads = " ".join(getattr(config, "architectures", None) or [])
    problem = getattr(config, "problem_type", None)
    if known in get_args(Kind):
        return Task(cast(Kind, known), tuple(labels))
    if "TokenClassification" in heads:
        return Task("tagging", tuple(labels))
    if problem == "regression" or len(labels) == 1:
        return Task("regression", tuple(labels))
    return Task("multi-label" if problem == "multi_label_classification" else "classification", tuple(labels))


def softmax(logits: np.ndarray) -> np.ndarray:
    """[..., choices] -> probabilities."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))
