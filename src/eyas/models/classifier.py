"""A trained model as a function from texts to logits, on torch."""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from eyas.models.loading import input_length, load_classifier, task_of_config
from eyas.models.student import is_student
from eyas.runtime.alignment import WordEncoder, pad
from eyas.runtime.predict import PredictMixin
from eyas.runtime.tokens import is_cut
from eyas.tasks import Task
from eyas.text import clean_texts, is_too_long, wrong_shape

TEXTS_PER_BATCH = 64


class Classifier(PredictMixin):
    """A model and its tokenizer: a student, a teacher, any Hugging Face classifier of texts or words.

    It has the interface of `eyas.serve.Predictor`, which runs exported folders without torch.

    Args:
        max_length: maximum number of tokens per text; by default from the tokenizer or the student.
        task: the model's task; by default from its configuration.
    """

    def __init__(self, model: Any, tokenizer: Any, max_length: int | None = None, task: Task | None = None) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.model.train(False)
        self.task = task or task_of_config(model.config)
        self.label_names = list(self.task.labels)
        self.data_labels: list[str] = getattr(model.config, "data_labels", None) or self.label_names
        self.max_length = input_length(model, tokenizer, max_length)
        self.pair: bool | None = getattr(model.config, "pair", None)
        self.row_fields = list(getattr(model.config, "fields", ()))

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str]) -> Self:
        """Load a student or a teacher.

        Args:
            source: a folder or a Hub name.

        Raises:
            ModelError: no such model, or not a classifier or tagger.
        """
        return cls(*load_classifier(os.fspath(source)))

    @torch.no_grad()
    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Logits [texts, labels] float32; for taggers [words, tags], with long sentences read in windows.

        Raises:
            DataError: pairs where single texts are expected, or the reverse.
        """
        if self.task.is_tagging:
            return self._tag(texts)
        if self.pair not in (None, pairs is not None):
            raise wrong_shape(self.pair)
        texts = self.written(texts)
        given = [column for column in (texts, pairs) if column is not None]
        columns = [clean_texts(column, self.max_length) for column in given]
        order = np.argsort([sum(map(len, row)) for row in zip(*columns, strict=True)], kind="stable")
        result = np.empty((len(texts), len(self.label_names)), dtype=np.float32)
        for start in range(0, len(order), TEXTS_PER_BATCH):
            rows = order[start : start + TEXTS_PER_BATCH]
            inputs = self._encode([[column[row] for row in rows] for column in columns])
            for row, encoding in zip(rows, inputs.encodings or (), strict=False):
                too_long = any(is_too_long(column[row], self.max_length) for column in given)
                self.cut += too_long or is_cut(encoding, self.max_length)
            result[rows] = self._forward(inputs).cpu().numpy()
        return result

    def tokenize(self, texts: list[str], pairs: list[str] | None = None) -> Any:
        """Model inputs for a list of texts, padded to the longest."""
        given = [column for column in (self.written(texts), pairs) if column is not None]
        return self._encode([clean_texts(column, self.max_length) for column in given])

    def _encode(self, columns: Sequence[list[str]]) -> Any:
        # Students truncate texts themselves, and those of a pair separately, so every runtime truncates alike.
        own = is_student(self.model)
        limits = {"verbose": False} if own else {"truncation": True, "max_length": self.max_length}
        return self.tokenizer(*columns, padding=True, return_tensors="pt", **limits)

    def _tag(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """[words of all sentences, tags], read at each word's first subword; long sentences in windows."""
        offsets = np.concatenate([[0], np.cumsum([len(words) for words in sentences], dtype=np.int64)])
        result = np.zeros((int(offsets[-1]), len(self.label_names)), dtype=np.float32)
        windows = sorted(self.words.windows(sentences, self.max_length), key=lambda window: len(window.ids))
        for start in range(0, len(windows), TEXTS_PER_BATCH):
            part = windows[start : start + TEXTS_PER_BATCH]
            ids, mask = (torch.from_numpy(array) for array in pad([w.ids for w in part], self.tokenizer.pad_token_id))
            logits = self._forward({"input_ids": ids, "attention_mask": mask}).cpu().numpy()
            for row, window in enumerate(part):
                result[offsets[window.sentence] + window.words] = logits[row, window.positions]
        return result

    def _forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits in float32, [texts, labels] or [sentences, tokens, tags]."""
        self.model.eval()
        logits: Tensor = self.model(**{name: value.to(self.model.device) for name, value in inputs.items()}).logits
        return logits.float()

    @cached_property
    def words(self) -> WordEncoder:
        return WordEncoder(self.tokenizer.backend_tokenizer, self.tokenizer.unk_token)
