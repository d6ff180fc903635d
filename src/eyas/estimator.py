"""Distillation as a scikit-learn estimator."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from eyas.api import distill
from eyas.data.datasets import ids_of, load_table, with_validation
from eyas.data.task_data import TaskData
from eyas.errors import DataError, ModelError
from eyas.models.classifier import Classifier
from eyas.settings import Columns, DistillSettings, StudentSettings
from eyas.teachers import Teacher
from eyas.trained import TrainedModel


class DistilledClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """A student for single texts that fits, predicts, clones and pickles like any scikit-learn classifier.

    It reads texts, not numbers, so scikit-learn's `check_estimator` does not apply. A tenth of the texts is held out to
    choose the best epoch. After `fit`, `classes_` has the sorted labels and `classifier_` the `Classifier`.

    Args:
        teacher: a fine-tuned classifier: a folder, a Hub name or a loaded `Teacher`.
        student: an architecture or `StudentSettings`.
        recipe: the distillation method; for the default see `DistillSettings`.
        epochs: by default about 4,000 steps.
        seed: for the split, weights, order and dropout.
        label_map: {teacher's label name: label in `y`}, if they cannot be matched automatically.
        out: the student's folder; by default the student stays in memory only. Omit it in a hyperparameter search:
            all fits would write to it.
    """

    def __init__(
        self,
        teacher: str | Path | TrainedModel | Teacher,
        student: str | StudentSettings = "cnn",
        recipe: str | None = None,
        epochs: float | None = None,
        seed: int = 0,
        label_map: dict[str, Any] | None = None,
        out: str | Path | None = None,
    ) -> None:
        self.teacher, self.student, self.recipe = teacher, student, recipe
        self.epochs, self.seed, self.label_map, self.out = epochs, seed, label_map, out

    def fit(self, texts: Sequence[str] | np.ndarray, y: Any = None) -> Self:
        """Distill the teacher into a student.

        Args:
            texts: [texts] strings.
            y: [texts] labels; by default the teacher's predictions.

        Raises:
            EyasError: invalid input, raised before any training step.
        """
        given = _texts(texts)
        arguments = {} if self.epochs is None else {"num_train_epochs": self.epochs}
        label_map = {name: str(label) for name, label in (self.label_map or {}).items()}
        settings = DistillSettings(arguments=arguments, seed=self.seed, label_map=label_map or None)
        teacher = self.teacher if isinstance(self.teacher, Teacher) else Teacher(os.fspath(self.teacher))
        if not teacher.task.is_classification or teacher.task.reads_fields:
            raise ModelError(f"The teacher does {teacher.task.describe()}, expected classification. Use eyas.distill.")
        labels = teacher.predict(given) if y is None else _labels(y, len(given))
        rows = load_table((given, labels.astype(str).tolist()), Columns(task="classification"))
        assert rows is not None
        splits = with_validation({"train": rows, "test": rows.select([])}, ids_of, self.seed, "fit")
        data = TaskData.of({name: splits[name] for name in ("train", "validation")})
        trained = distill(teacher, data, self.out, self.student, recipe=self.recipe, settings=settings)
        self.classifier_: Classifier = trained.classifier
        known = [*(self.label_map or {}).values(), *np.unique(labels)]
        as_given = {str(label): label for label in known}
        names = np.array([as_given.get(name, name) for name in self.classifier_.data_labels])
        self._order = np.argsort(names)
        self.classes_ = names[self._order]
        return self

    def predict(self, texts: Iterable[str]) -> np.ndarray:
        """[texts] predicted labels, of the type in `y`."""
        best = self.predict_proba(texts).argmax(1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, texts: Iterable[str]) -> np.ndarray:
        """[texts, labels] probabilities, columns in the order of `classes_`."""
        check_is_fitted(self)
        return self.classifier_.predict_proba(texts)[:, self._order]


def _texts(texts: Sequence[str] | np.ndarray) -> list[str]:
    """Raises DataError for what is no text."""
    if isinstance(texts, str):
        raise DataError("texts is one string, expected a sequence of them.")
    given = list(texts)
    for place, text in enumerate(given):
        if not isinstance(text, str):
            raise DataError(f"Text {place} is {type(text).__name__}, expected str.")
    return given


def _labels(labels: Any, texts: int) -> np.ndarray:
    """Raises DataError unless each text has one label."""
    given = np.asarray(labels)
    if given.shape != (texts,):
        raise DataError(f"The labels have shape {given.shape}, expected one for each of {texts:,} texts: ({texts},).")
    for place, label in enumerate(given.tolist()):
        if pandas.isna(label):
            raise DataError(f"Text {place} has no label. Leave it out, or leave y out for the teacher's predictions.")
    return given
