"""Score a classifier on a split, optionally against its teacher."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from datasets import Dataset

from eyas.data.datasets import is_pair, labels_of, task_of, texts_of, word_counts_of
from eyas.data.labels import Named, check_task, match_labels
from eyas.data.targets import with_labels_of
from eyas.evaluation.metrics import agreement, task_metrics
from eyas.runtime.predict import PredictMixin


class Predicts(Named, Protocol):
    """A model that can be evaluated: `Classifier` (torch) and `Predictor` (ONNX)."""

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray: ...


def predict_dataset(classifier: Predicts, dataset: Dataset, who: str = "model") -> np.ndarray:
    """[rows, labels] float32 logits for `text` (and `text_pair`); for tagging [words of all rows, tags].

    Args:
        who: how messages call the classifier.
    """
    pairs = list(dataset["text_pair"]) if is_pair(dataset) else None
    before = classifier.cut if isinstance(classifier, PredictMixin) else 0
    logits = classifier.logits(texts_of(dataset), pairs)
    if isinstance(classifier, PredictMixin):
        classifier.report_cut(before, who)
    return logits


def evaluate(
    classifier: Predicts,
    dataset: Dataset,
    teacher: Predicts | None = None,
    label_map: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Score `classifier` on `dataset`.

    Args:
        teacher: adds `teacher_<metric>` (its score), `retention` (the student's score divided by the teacher's) and
            `agreement` (the share of decisions on which both agree).
        label_map: {model's label name: data's label name}, if they cannot be matched automatically.

    Returns:
        The scores of the task (see `task_metrics`) and `rows`.

    Raises:
        LabelError: the labels of data and model do not match.
    """
    dataset = with_labels_of(dataset, classifier.label_names, label_map)
    task, labels, lengths = task_of(dataset), labels_of(dataset), word_counts_of(dataset)
    logits = aligned_logits(classifier, dataset, label_map, "model")
    scores: dict[str, Any] = {"rows": len(dataset), **task_metrics(task, logits, labels, lengths)}
    if teacher is not None:
        teacher_logits = aligned_logits(teacher, dataset, label_map, "teacher")
        teacher_score = task_metrics(task, teacher_logits, labels, lengths)[task.metric]
        scores[f"teacher_{task.metric}"] = teacher_score
        scores["retention"] = scores[task.metric] / teacher_score if teacher_score else float("nan")
        scores["agreement"] = agreement(task, logits, teacher_logits, labels)
    return scores


def aligned_logits(
    classifier: Predicts, dataset: Dataset, label_map: dict[str, str] | None = None, who: str = "model"
) -> np.ndarray:
    """Logits, with columns in the data's label order."""
    task = task_of(dataset)
    check_task(task, classifier.task, who)
    logits = predict_dataset(classifier, dataset, who)
    return logits[:, match_labels(list(task.labels), classifier, lambda: (logits, labels_of(dataset)), label_map, who)]
