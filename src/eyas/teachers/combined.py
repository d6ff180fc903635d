"""Several teachers as one."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F

from eyas.data.labels import are_generic
from eyas.errors import LabelError, ModelError
from eyas.models.inside import EACH, EACH_STATES, mean_of_tokens
from eyas.runtime import combination
from eyas.runtime.combination import JOINED
from eyas.runtime.stages import places_of

SAMPLED = "sampled"
RULES: dict[str, str] = {
    **{name: name for name in combination.RULES},
    **dict.fromkeys((SAMPLED, "label-loss", "reinforced"), "probabilities"),
}
"""Rules by name: the mean of the logits, of the probabilities, and of the probabilities weighted by confidence; what
combines the answers, a key of `eyas.runtime.combination.RULES`. `joined` is for teachers whose labels differ in part.

The last three combine in training, and otherwise as `probabilities`. `sampled` answers each batch by one teacher, drawn
at random (SKDBERT, Ding et al. 2023, arXiv 2211.14466). `label-loss` and `reinforced` are recipes; see `RECIPES_OF`.
"""

RECIPES_OF = {"label-loss": "mt-bert", "reinforced": "reinforced"}
"""The recipes of rules that weigh or choose each teacher in the loss."""


def parse_rule(rule: str) -> tuple[str, str | None]:
    """The rule's name, and the shares of "sampled:2,1".

    Raises:
        ModelError: unknown rule.
    """
    name, colon, shares = rule.partition(":")
    if name not in RULES or (colon and name != SAMPLED):
        raise ModelError(f"teachers (--teachers) is {rule!r}, expected one of {', '.join(RULES)}.")
    return name, shares if colon else None


def _labels(teachers: Sequence[Any], rule: str) -> list[str]:
    """All labels.

    Raises:
        LabelError: they differ, and no rule says how to join them, or nothing connects them.
    """
    if rule == JOINED and any(are_generic(teacher.label_names) for teacher in teachers):
        raise LabelError(
            f"Labels are joined by their names (--teachers joined), but one teacher has {teachers[0].label_names[:4]}. "
            "Name them in the models' configurations (id2label)."
        )
    groups = [set(teacher.label_names) for teacher in teachers]
    alone = sorted(set.union(*groups) - set.intersection(*groups))
    if alone and rule != JOINED:
        raise LabelError(
            f"Not all teachers have {', '.join(alone)}. A combination needs the same labels: rename them in the "
            "models' configurations (id2label), or join them with teachers (--teachers) joined."
        )
    connected, others = groups[0], groups[1:]
    while near := [group for group in others if group & connected]:
        connected, others = connected.union(*near), [group for group in others if not group & connected]
    if others:
        raise LabelError(
            f"Teachers of {', '.join(sorted(connected))} and of {', '.join(sorted(others[0]))} cannot be joined: "
            "expected at least one label in common (--teachers joined), which tells how the others compare."
        )
    return list(dict.fromkeys(name for teacher in teachers for name in teacher.label_names))


def _shares(text: str | None, count: int) -> Tensor:
    """How often each teacher is drawn: equally often, or as in "2,1"."""
    try:
        shares = [1.0] * count if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    total = sum(shares)
    if len(shares) != count or not all(share >= 0 for share in shares) or not 0 < total < float("inf"):
        raise ModelError(f"teachers (--teachers) sampled:{text}: expected {count} numbers, such as sampled:2,1.")
    return torch.tensor([share / total for share in shares])


class CombinedTeacher:
    """Several teachers of the same labels, or `joined` of labels that overlap, as one.

    Each one's answers are cached apart.
    The student takes its words from the first.

    Args:
        teachers: live teachers, or teachers of answers.
        rule: one of `RULES`; "sampled:2,1" draws the first of two teachers twice as often as the second.

    Raises:
        LabelError: their labels differ.
        ModelError: unknown rule, fewer than two teachers, or other tasks.
    """

    fields: ClassVar[frozenset[str]] = frozenset({"logits", EACH, EACH_STATES})

    def __init__(self, teachers: Sequence[Any], rule: str = "mean", members: Sequence[Any] = ()) -> None:
        name, shares = parse_rule(rule)
        if len(teachers) < 2:
            raise ModelError(f"Expected at least two teachers (--teacher), got {len(teachers)}.")
        self.shares = _shares(shares, len(teachers))
        first = teachers[0]
        for other in teachers[1:]:
            if other.task.kind != first.task.kind:
                raise ModelError(
                    f"The teachers do {first.task.describe()} and {other.task.describe()}. Combine equal tasks."
                )
        if not first.task.is_single_label and name not in ("mean", SAMPLED):
            raise ModelError(f"--teachers {rule} is for one label per text; these teachers do {first.task.describe()}.")
        self.teachers, self.rule, self.name = list(teachers), rule, name
        # What answers: the teachers, or their caches.
        self.members = list(members) or self.teachers
        # What combines their answers outside training, a key of `eyas.runtime.combination.RULES`.
        self.combination = "mean" if name == SAMPLED and not first.task.is_single_label else RULES[name]
        self.label_names = _labels(teachers, name)
        same = self.label_names == first.label_names
        self.task = first.task if same else replace(first.task, labels=tuple(self.label_names))
        self.data_labels = list(first.data_labels) if same else self.label_names
        self.model, self.tokenizer, self.max_length = first.model, first.tokenizer, first.max_length
        self.reads: tuple[str, ...] = tuple(dict.fromkeys(name for member in self.members for name in member.reads))
        # The last column, of a label that a teacher does not know, is minus infinity.
        self.orders = [places_of(self.label_names, one.label_names) for one in self.teachers]

    @property
    def is_cached(self) -> bool:
        """Whether the members answer from their caches."""
        return self.members is not self.teachers

    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = ("logits",)) -> dict[str, Any]:
        """`logits` [rows, labels] float32, and on demand `each_logits` [rows, labels, teachers], and of live models
        `each_states`, for each teacher the means over the tokens of its layers' states, [rows, size] each.
        """
        if self.name == JOINED and set(fields) - {"logits"}:
            raise ModelError(
                "mt-bert and reinforced compare teachers of the same labels, not joined (--teachers) ones."
            )
        if self.name == SAMPLED and set(fields) == {"logits"}:
            one = int(torch.multinomial(self.shares, 1))
            return {"logits": self.members[one].outputs(batch)["logits"][:, self.orders[one]].float().cpu()}
        asked = ("logits", "hidden_states") if EACH_STATES in fields else ("logits",)
        each = [member.outputs(batch, asked) for member in self.members]
        logits = self._aligned([outputs["logits"] for outputs in each])
        found: dict[str, Callable[[], Any]] = {
            "logits": lambda: self._combine(logits),
            EACH: lambda: logits.permute(1, 2, 0),
            EACH_STATES: lambda: tuple(
                tuple(mean_of_tokens(states, one["attention_mask"]) for states in one["hidden_states"]) for one in each
            ),
        }
        return {field: found[field]() for field in fields}

    def logits(self, ids: np.ndarray) -> Tensor:
        """[rows, labels] float32 for [rows] ids; of cached answers only."""
        return self._combine(self._aligned([member.logits(ids) for member in self.members]))

    def _combine(self, logits: Tensor) -> Tensor:
        return torch.from_numpy(combination.RULES[self.combination](logits.double().numpy())).float()

    def _aligned(self, logits: Sequence[Tensor]) -> Tensor:
        """[teachers, rows, labels], in the order of the first teacher's labels."""
        each = [F.pad(one.float().cpu(), (0, 1), value=-torch.inf) for one in logits]
        return torch.stack([one[:, order] for one, order in zip(each, self.orders, strict=True)])

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
