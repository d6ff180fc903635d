"""A trained classifier as a function from texts to logits, on torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy.data.labels import ordered_names
from understudy.models import is_student
from understudy.models.loading import MAX_LENGTH, input_length, load_classifier
from understudy.text import clean_texts, wrong_shape

TEXTS_PER_BATCH = 64
# A tokenizer that knows no limit says 1e30.
UNSET = 100_000


class Classifier:
    """A model and its tokenizer: a student, a teacher, any Hugging Face sequence classifier.

    Has the same face as `understudy.serve.Predictor`, which runs exported folders without torch.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.label_names = ordered_names(model.config.id2label)
        self.data_labels: list[str] = getattr(model.config, "data_labels", None) or self.label_names
        # A student cuts texts itself, each of a pair on its own, so that every runtime cuts them alike.
        self._truncate = not is_student(model)
        own = tokenizer.model_max_length
        self.max_length = input_length(model, tokenizer, own if own < UNSET else MAX_LENGTH)
        self.pair: bool | None = getattr(model.config, "pair", None)

    @classmethod
    def load(cls, folder: str | Path) -> "Classifier":
        """Load a student or teacher folder; raises ModelError."""
        return cls(*load_classifier(folder))

    @torch.no_grad()
    def logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """[texts, labels] float32; raises DataError for pairs where single texts are expected, or the reverse."""
        if self.pair not in (None, pairs is not None):
            raise wrong_shape(self.pair)
        if not len(texts):
            return np.empty((0, len(self.label_names)), dtype=np.float32)
        columns = [clean_texts(column, self.max_length) for column in (texts, pairs) if column is not None]
        order = np.argsort([sum(map(len, row)) for row in zip(*columns, strict=True)], kind="stable")
        result = np.empty((len(texts), len(self.label_names)), dtype=np.float32)
        self.model.eval()
        for start in range(0, len(order), TEXTS_PER_BATCH):
            rows = order[start : start + TEXTS_PER_BATCH]
            batch = [[column[row] for row in rows] for column in columns]
            limits = {"truncation": True, "max_length": self.max_length} if self._truncate else {}
            inputs = self.tokenizer(*batch, padding=True, return_tensors="pt", **limits)
            result[rows] = self.model(**inputs.to(self.model.device)).logits.float().cpu().numpy()
        return result
