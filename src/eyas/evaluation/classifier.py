"""A trained model as a function from texts to logits, on torch."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eyas.models import is_student
from eyas.models.loading import MAX_LENGTH, input_length, load_classifier, task_of_config
from eyas.runtime.alignment import WordEncoder, pad
from eyas.runtime.answers import Answer
from eyas.runtime.predictor import tag
from eyas.text import clean_texts, wrong_shape

TEXTS_PER_BATCH = 64
# A tokenizer that knows no limit says 1e30.
UNSET = 100_000


class Classifier:
    """A model and its tokenizer: a student, a teacher, any Hugging Face classifier of texts or words.

    Has the same face as `eyas.serve.Predictor`, which runs exported folders without torch.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.task = task_of_config(model.config)
        self.label_names = list(self.task.labels)
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
    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """[texts, labels] float32; of a tagger's lists of words [words, tags], long ones read in windows.

        Raises:
            DataError: pairs where single texts are expected, or the reverse.
        """
        if self.task.is_tagging:
            return self._tag(texts)
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
            # A student cuts long texts itself: no word of them from transformers.
            limits = {"truncation": True, "max_length": self.max_length} if self._truncate else {"verbose": False}
            inputs = self.tokenizer(*batch, padding=True, return_tensors="pt", **limits)
            result[rows] = self.model(**inputs.to(self.model.device)).logits.float().cpu().numpy()
        return result

    def tag(self, text: str | Sequence[str]) -> Answer:
        """Tags and spans of one sentence; raises DataError where the model is no tagger."""
        return tag(self, text)

    @torch.no_grad()
    def _tag(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        offsets = np.concatenate([[0], np.cumsum([len(words) for words in sentences], dtype=np.int64)])
        result = np.zeros((int(offsets[-1]), len(self.label_names)), dtype=np.float32)
        windows = sorted(self.words.windows(sentences, self.max_length), key=lambda window: len(window.ids))
        self.model.eval()
        for start in range(0, len(windows), TEXTS_PER_BATCH):
            part = windows[start : start + TEXTS_PER_BATCH]
            ids, mask = (
                torch.from_numpy(a).to(self.model.device)
                for a in pad([window.ids for window in part], self.tokenizer.pad_token_id)
            )
            logits = self.model(input_ids=ids, attention_mask=mask).logits.float().cpu().numpy()
            for row, window in enumerate(part):
                result[offsets[window.sentence] + window.words] = logits[row, window.positions]
        return result

    @cached_property
    def words(self) -> WordEncoder:
        return WordEncoder(self.tokenizer.backend_tokenizer, self.tokenizer.unk_token)
