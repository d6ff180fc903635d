"""A trained model in its folder."""

import os
import shutil
import weakref
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from eyas.data.datasets import load_data, load_table
from eyas.errors import DataError
from eyas.evaluation.evaluate import evaluate
from eyas.export import export_model
from eyas.generation import TextGenerator, load_pairs
from eyas.generation import evaluate as evaluate_written
from eyas.models.classifier import Classifier
from eyas.models.loading import is_seq2seq_folder
from eyas.runtime.answers import Answer
from eyas.runtime.predict import Text
from eyas.training.folders import read_history


class TrainedModel:
    """A trained model in its folder, as returned by `distill` and `finetune`.

    Args:
        path: the folder.
        temporary: a folder to delete together with this object.
    """

    def __init__(self, path: str | Path, temporary: str | None = None) -> None:
        self.path = Path(path)
        self._whole: TrainedModel | None = None
        if temporary is not None:
            weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"TrainedModel({str(self.path)!r})"

    @cached_property
    def classifier(self) -> Any:
        """The model as a callable that takes texts, a `Classifier` or a `TextGenerator`; runs on torch."""
        return (TextGenerator if is_seq2seq_folder(self.path) else Classifier).from_pretrained(self.path)

    @property
    def model(self) -> PreTrainedModel:
        model: PreTrainedModel = self.classifier.model
        return model

    @property
    def tokenizer(self) -> Any:
        return self.classifier.tokenizer

    def __call__(self, texts: Iterable[Text]) -> list[Answer]:
        """One answer per text; see `Classifier`."""
        answers: list[Answer] = self.classifier(texts)
        return answers

    def predict(self, texts: Iterable[Text]) -> Any:
        """The predictions without scores; see `Classifier.predict`."""
        return self.classifier.predict(texts)

    def predict_proba(self, texts: Iterable[Text]) -> np.ndarray:
        """[texts, labels] probabilities; see `Classifier.predict_proba`."""
        chances: np.ndarray = self.classifier.predict_proba(texts)
        return chances

    @property
    def history(self) -> list[dict[str, Any]]:
        """The training log: one row per epoch, with the loss, its terms and the validation score."""
        return read_history(self.path)

    def export(self, out: str | Path, int8: bool = False, **options: Any) -> Path:
        """Export to ONNX; see `export_model`. Returns `out`."""
        export_model(self.path, out, int8, **options)
        return Path(out)

    def evaluate(self, data: Any, teacher: Any = None, split: str | None = None) -> dict[str, Any]:
        """Score the model on a split of `data`; see `evaluate`.

        Args:
            data: as for `load_data`; of a table in memory, such as one split, all rows.
            teacher: a folder, a Hub name or a loaded model; adds retention and agreement.
            split: by default test, or validation if there is no test split.
        """
        if isinstance(self.classifier, TextGenerator):
            pairs = load_pairs(data)
            if split is not None and split not in pairs:
                raise DataError(f"split is {split!r}, expected one of {', '.join(pairs)}.")
            by_name = isinstance(teacher, str | Path | TrainedModel)
            writer = TextGenerator.from_pretrained(os.fspath(teacher)) if by_name else teacher
            return evaluate_written(
                self.classifier, pairs[split or ("test" if "test" in pairs else "validation")], writer
            )
        rows = load_table(data)
        if rows is None:
            data = load_data(data)
            chosen = split or ("test" if "test" in data else "validation")
            if chosen not in data:
                raise DataError(f"split is {chosen!r}, expected one of {', '.join(data)}.")
            rows = data[chosen]
        elif split is not None:
            raise DataError(f"split is {split!r}, but data is one table, all of which is scored. Leave split out.")
        other = (
            Classifier.from_pretrained(os.fspath(teacher))
            if isinstance(teacher, str | Path | TrainedModel)
            else teacher
        )
        return evaluate(self.classifier, rows, other)
