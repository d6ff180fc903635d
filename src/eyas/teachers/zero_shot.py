"""A model of entailment as a teacher of labels that it was never trained on."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from eyas.errors import DataError, LabelError, ModelError
from eyas.teachers.answers import AnsweringTeacher
from eyas.teachers.live import Teacher

TEMPLATE = "This example is {}."
ENTAILMENT = "entail"


class ZeroShotTeacher(AnsweringTeacher):
    """Labels texts without training: how far does each text entail what its label says?

    A label's logit is that of entailment (Yin et al. 2019, Benchmarking Zero-shot Text Classification, section 5), so
    the probabilities are those of transformers' zero-shot pipeline. Needs a pass of the model per text and label.

    Args:
        model: a classifier of pairs (premise, hypothesis), one of whose labels starts with "entail".
        labels: the labels, or {label: hypothesis}, such as {"positive": "The customer is happy."}.
        max_length: maximum number of tokens of a text and a hypothesis.
        dtype: as for `Teacher`.

    Raises:
        ModelError: the model has no label of entailment.
    """

    def __init__(
        self,
        model: str | Path | Teacher,
        labels: Sequence[str] | Mapping[str, str],
        max_length: int = 256,
        dtype: str | None = None,
    ) -> None:
        self.judge = model if isinstance(model, Teacher) else Teacher(model, max_length=max_length, dtype=dtype)
        found = [row for row, name in enumerate(self.judge.label_names) if entails(name)]
        if len(found) != 1 or not self.judge.task.is_single_label:
            raise ModelError(
                f"A zero-shot teacher (--zero-shot) is a model of entailment: one of its labels starts with "
                f"{ENTAILMENT!r}; this model's are {', '.join(self.judge.label_names)}."
            )
        self._entails = found[0]
        mapped = isinstance(labels, Mapping)
        self.hypotheses = [labels[label] if mapped else TEMPLATE.format(label) for label in labels]  # type: ignore[call-overload]
        super().__init__(list(labels), "", self.judge.max_length)
        blank = [label for label, asked in zip(labels, self.hypotheses, strict=True) if not label or not asked.strip()]
        if blank:
            raise LabelError(f"zero_shot (--zero-shot) has an empty label or hypothesis: {blank[0]!r}.")

    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = ("logits",)) -> dict[str, Any]:
        """`logits` [batch, labels] float32.

        Raises:
            DataError: the data has pairs of texts.
        """
        if batch.get("text_pair"):
            raise DataError("A zero-shot teacher (--zero-shot) labels single texts, but the data has pairs.")
        texts, count = list(batch["text"]), len(self.hypotheses)
        logits = self.judge.logits([text for text in texts for _ in range(count)], self.hypotheses * len(texts))
        return {"logits": torch.from_numpy(logits[:, self._entails].reshape(len(texts), count).copy())}

    @property
    def model(self) -> Any:
        return self.judge.model

    @property
    def tokenizer(self) -> Any:
        return self.judge.tokenizer

    def tokenize(self, texts: list[str], pairs: list[str] | None = None) -> Any:
        return self.judge.tokenize(texts, pairs)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        judge = self.judge.fingerprint
        own = {"labels": self.label_names, "task": self.task.kind, "entails": self._entails}
        return {**judge, **own, "hypotheses": self.hypotheses}


def is_judge(teacher: Teacher) -> bool:
    """Whether one of its labels is entailment."""
    return any(map(entails, teacher.label_names))


def entails(label: str) -> bool:
    return label.lower().startswith(ENTAILMENT)


def parse_hypotheses(text: str) -> list[str] | dict[str, str]:
    """What --zero-shot says: "positive,negative", or "positive=The customer is happy.,negative=..."."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not any("=" in part for part in parts):
        return parts
    pairs = [part.partition("=") for part in parts]
    if not all(separator for _, separator, _ in pairs):
        raise DataError(
            f"--zero-shot {text!r}: expected LABEL,LABEL or LABEL=HYPOTHESIS,LABEL=HYPOTHESIS. For hypotheses with "
            "commas, use eyas.ZeroShotTeacher in Python."
        )
    labels = [label.strip() for label, _, _ in pairs]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise LabelError(f"--zero-shot names the label {twice[0]!r} more than once.")
    return dict(zip(labels, (hypothesis.strip() for _, _, hypothesis in pairs), strict=True))
