"""A task: the meaning of a model's outputs. Imports numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast, get_args

import numpy as np

from eyas.kinds import IS, MEANINGS, Groups, Kind, no_decision, one_decision, yes_or_no

# The logit of a choice that is not available in a decision.
CLOSED = -1e9
# In a model's configuration: its temperature, and what it was fitted on.
CALIBRATION = "eyas_calibration"
# The field of a configuration that says how a model was compressed.
COMPRESSION = "eyas_compression"


@dataclass(frozen=True)
class Task:
    """The meaning of a model's outputs.

    Args:
        kind: classification (one label per text), tagging (one label per word), regression (a number), multi-label
            (any number of labels), aspects (one value for each of several aspects), fields (0 or 1 for a row of
            categorical fields), vectors (one vector per text), generation (a text that is written).
        labels: output names: `aspect=value` for aspects, a single name for regression, the dimensions for vectors
            (none in data); none for generation.
        temperature: of a model: what its logits are divided by for probabilities.
    """

    kind: Kind
    labels: tuple[str, ...]
    temperature: float = field(default=1.0, compare=False)

    @property
    def is_tagging(self) -> bool:
        """Whether each row is a word."""
        return self.kind == "tagging"

    @property
    def is_classification(self) -> bool:
        """Whether each text has exactly one label."""
        return self.is_single_label and not self.is_tagging

    @property
    def can_abstain(self) -> bool:
        """Whether a model may give no answer: the answers have one label for each text or aspect."""
        return (self.is_classification and not self.reads_fields) or self.kind == "aspects"

    @property
    def reads_fields(self) -> bool:
        """Whether each row has categorical fields in place of a text."""
        return self.kind == "fields"

    @property
    def is_single_label(self) -> bool:
        """Whether each row (text or word) has exactly one label."""
        return MEANINGS[self.kind].groups is one_decision

    @property
    def has_binary_outputs(self) -> bool:
        """Whether each output is a separate yes-or-no decision."""
        return MEANINGS[self.kind].groups is yes_or_no

    @property
    def metric(self) -> str:
        """The metric that compares models, chooses checkpoints and decides exams."""
        return "span_f1" if self.is_tagging and has_spans(self.labels) else MEANINGS[self.kind].metric

    @property
    def decides(self) -> bool:
        """Whether the outputs are decisions, not numbers to approximate or texts."""
        return MEANINGS[self.kind].groups is not no_decision

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The names of the choices: the labels, and for multi-label also the absence of each label."""
        if self.has_binary_outputs:
            return (*(f"not {name}" for name in self.labels), *self.labels)
        return self.labels

    @cached_property
    def groups(self) -> Groups:
        """For each decision about a text or word, the columns of `decisions` to choose from."""
        return MEANINGS[self.kind].groups(self.labels)

    @property
    def aspects(self) -> list[str]:
        return list(dict.fromkeys(name.split(IS, 1)[0] for name in self.labels)) if self.kind == "aspects" else []

    def decisions(self, logits: np.ndarray) -> np.ndarray:
        """[rows, outputs] -> [decisions, choices]. A row's decisions are consecutive; unavailable choices are -1e9."""
        if self.is_single_label:
            return logits
        if self.has_binary_outputs:
            logits = np.concatenate([np.zeros_like(logits), logits], 1)
        result = np.full((len(logits), len(self.groups), len(self.choices)), CLOSED, dtype=np.float32)
        for number, columns in enumerate(self.groups):
            result[:, number, columns] = logits[:, columns]
        return result.reshape(-1, len(self.choices))

    def decided(self, labels: np.ndarray) -> np.ndarray:
        """Labels of a split -> [decisions] int, indices into `choices`; negative if unlabeled."""
        if self.has_binary_outputs:
            known = np.where(labels > 0, len(self.labels), 0) + np.arange(len(self.labels))
            return np.asarray(np.where(labels < 0, -1, known).reshape(-1), dtype=np.int64)
        return labels.reshape(-1)

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """The logits divided by the temperature."""
        return logits if self.temperature == 1 else logits / np.float32(self.temperature)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """[rows, outputs] -> the same shape: softmax over each decision's choices; numeric outputs are unchanged."""
        if not self.decides:
            return logits
        logits = self.calibrated(logits)
        if self.has_binary_outputs:
            return sigmoid(logits)
        if self.is_single_label:
            return softmax(logits)
        result = np.empty_like(logits)
        for columns in self.groups:
            result[..., columns] = softmax(logits[..., columns])
        return result

    def describe(self) -> str:
        """A short description for messages."""
        if not self.labels:
            return self.kind
        return f"{self.kind} ({len(self.aspects) or len(self.labels)} {MEANINGS[self.kind].units})"


def has_spans(tags: Sequence[str]) -> bool:
    """Whether tags mark spans (`O`, `B-`, `I-`) rather than a property of each word."""
    return any(tag == "O" or tag.startswith("I-") or tag == "I" for tag in tags)


def task_of_model(config: Any, labels: Sequence[str]) -> Task:
    """The task of a Hugging Face configuration: `eyas_task` if set, otherwise inferred from the head."""
    known = getattr(config, "eyas_task", None)
    heads = " ".join(getattr(config, "architectures", None) or [])
    problem = getattr(config, "problem_type", None)
    temperature = float((getattr(config, CALIBRATION, None) or {}).get("temperature", 1.0))
    if known in get_args(Kind):
        kind = cast(Kind, known)
    elif "TokenClassification" in heads:
        kind = "tagging"
    elif problem == "multi_label_classification":
        kind = "multi-label"
    else:
        kind = "regression" if problem == "regression" or len(labels) == 1 else "classification"
    return Task(kind, tuple(labels), temperature)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Elementwise."""
    return np.asarray(1 / (1 + np.exp(-logits)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """[..., choices] -> probabilities."""
    # As `max` and `sum`, which take several times as long for one row.
    shifted = np.exp(logits - np.maximum.reduce(logits, axis=-1, keepdims=True))
    return np.asarray(shifted / np.add.reduce(shifted, axis=-1, keepdims=True))
