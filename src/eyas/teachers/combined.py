"""Several teachers as one."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from eyas.errors import LabelError, ModelError

# [teachers, rows, labels] logits -> [rows, labels].
Rule = Callable[[Tensor], Tensor]


def _mean(logits: Tensor) -> Tensor:
    return logits.mean(0)


def _probabilities(logits: Tensor) -> Tensor:
    """The logarithms of the mean probabilities."""
    return logits.log_softmax(-1).logsumexp(0) - float(np.log(len(logits)))


def _confidence(logits: Tensor) -> Tensor:
    """As `_probabilities`, each teacher weighted by the probability of its answer."""
    own = logits.log_softmax(-1)
    weights = own.amax(-1, keepdim=True)
    return (own + weights).logsumexp(0) - weights.logsumexp(0)


RULES: dict[str, Rule] = {"mean": _mean, "probabilities": _probabilities, "confidence": _confidence}
"""Rules by name: the mean of the logits, of the probabilities, and of the probabilities weighted by confidence."""


class CombinedTeacher:
    """Several teachers of the same labels as one; each one's answers are cached apart.

    The student takes its words from the first.

    Args:
        teachers: live teachers, or teachers of answers.
        rule: one of `RULES`.

    Raises:
        LabelError: their labels differ.
        ModelError: unknown rule, fewer than two teachers, or other tasks.
    """

    fields: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __init__(self, teachers: Sequence[Any], rule: str = "mean", members: Sequence[Any] = ()) -> None:
        if rule not in RULES:
            raise ModelError(f"teachers (--teachers) is {rule!r}, expected one of {', '.join(RULES)}.")
        if len(teachers) < 2:
            raise ModelError(f"Expected at least two teachers (--teacher), got {len(teachers)}.")
        first = teachers[0]
        for other in teachers[1:]:
            if other.task.kind != first.task.kind:
                raise ModelError(
                    f"The teachers do {first.task.describe()} and {other.task.describe()}. Combine equal tasks."
                )
            if set(other.label_names) != set(first.label_names):
                alone = sorted(set(other.label_names) ^ set(first.label_names))
                raise LabelError(
                    f"Only one of two teachers has {', '.join(alone)}. A combination needs the same labels: rename "
                    "them in the models' configurations (id2label)."
                )
        if not first.task.is_single_label and rule != "mean":
            raise ModelError(f"--teachers {rule} is for one label per text; these teachers do {first.task.describe()}.")
        self.teachers, self.rule = list(teachers), rule
        # What answers: the teachers, or their caches.
        self.members = list(members) or self.teachers
        self.task, self.label_names, self.data_labels = first.task, first.label_names, list(first.data_labels)
        self.model, self.tokenizer, self.max_length = first.model, first.tokenizer, first.max_length
        self.reads: tuple[str, ...] = tuple(dict.fromkeys(name for member in self.members for name in member.reads))
        self.orders = [[one.label_names.index(name) for name in self.label_names] for one in self.teachers]

    @property
    def is_cached(self) -> bool:
        """Whether the members answer from their caches."""
        return self.members is not self.teachers

    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = ("logits",)) -> dict[str, Any]:
        """`logits` [rows, labels] float32."""
        return {"logits": self._combined([member.outputs(batch)["logits"] for member in self.members])}

    def logits(self, ids: np.ndarray) -> Tensor:
        """[rows, labels] float32 for [rows] ids; of cached answers only."""
        return self._combined([member.logits(ids) for member in self.members])

    def _combined(self, logits: Sequence[Tensor]) -> Tensor:
        each = [one[:, order].float().cpu() for one, order in zip(logits, self.orders, strict=True)]
        return RULES[self.rule](torch.stack(each))

    def tokenize(self, texts: list[str], pairs: list[str] | None = None) -> Any:
        return self.teachers[0].tokenize(texts, pairs)

    def label(self, dataset: Dataset, cache: str | Path | None = None) -> "CombinedTeacher":
        """The combination of the teachers' cached answers."""
        places = [None if cache is None else Path(cache) / str(number) for number in range(len(self.teachers))]
        cached = [one.label(dataset, place) for one, place in zip(self.teachers, places, strict=True)]
        return CombinedTeacher(self.teachers, self.rule, cached)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        members = [{**teacher.fingerprint} for teacher in self.teachers]
        return {"teachers": members, "rule": self.rule, "labels": self.label_names}
