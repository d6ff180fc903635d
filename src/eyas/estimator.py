"""Distillation as a scikit-learn estimator."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils.validation import check_is_fitted

from eyas.api import distill
from eyas.data.datasets import load_data
from eyas.errors import ModelError
from eyas.models.classifier import Classifier
from eyas.settings import Columns, DistillSettings, StudentSettings
from eyas.teachers import Teacher
from eyas.trained import TrainedModel

VALIDATION_SHARE = 0.1


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
        given = np.asarray(texts)
        teacher = self.teacher if isinstance(self.teacher, Teacher) else Teacher(os.fspath(self.teacher))
        if not teacher.task.is_classification or teacher.task.reads_fields:
            raise ModelError(f"The teacher does {teacher.task.describe()}, expected classification. Use eyas.distill.")
        labels = teacher.predict(given) if y is None else np.asarray(y)
        splitter = GroupShuffleSplit(1, test_size=VALIDATION_SHARE, random_state=self.seed)
        train, validation = next(splitter.split(given, groups=given))
        rows = {"train": train, "validation": validation}
        data = load_data(
            {name: (given[part].tolist(), labels[part].astype(str).tolist()) for name, part in rows.items()},
            Columns(task="classification"),
        )
        arguments = {"num_train_epochs": self.epochs} if self.epochs else {}
        label_map = {name: str(label) for name, label in (self.label_map or {}).items()}
        settings = DistillSettings(arguments=arguments, seed=self.seed, label_map=label_map or None)
        trained = distill(teacher, data, self.out, self.student, recipe=self.recipe, settings=settings)
        self.classifier_: Classifier = trained.classifier
        as_given = {str(label): label for label in np.unique(labels)}
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
