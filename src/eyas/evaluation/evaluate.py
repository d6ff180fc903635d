"""Score a classifier on a split, beside its teacher where there is one."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from datasets import Dataset

from eyas.data.datasets import is_pair, labels_of, task_of, texts_of, word_counts_of
from eyas.data.labels import are_generic, match_by_name, match_by_proof, refuse
from eyas.data.targets import with_labels_of
from eyas.errors import LabelError
from eyas.evaluation.metrics import agreement, task_metrics
from eyas.tasks import Task


class Named(Protocol):
    """What a classifier does, names of its outputs, and what the data it was trained on called them."""

    task: Task
    label_names: list[str]
    data_labels: list[str]


class Predicts(Named, Protocol):
    """What can be evaluated: `Classifier` (torch) and `Predictor` (ONNX)."""

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray: ...


def predict_dataset(classifier: Predicts, dataset: Dataset) -> np.ndarray:
    """[rows, labels] float32 logits for `text` (and `text_pair`); for tagging [words of all rows, tags]."""
    pairs = list(dataset["text_pair"]) if is_pair(dataset) else None
    return classifier.logits(texts_of(dataset), pairs)


def evaluate(
    classifier: Predicts,
    dataset: Dataset,
    teacher: Predicts | None = None,
    label_map: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Score `classifier` on `dataset`.

    Args:
        teacher: adds its score as `teacher_` and the metric's name, the student's `retention` (its share of that)
            and `agreement` (share of decisions that both make alike).
        label_map: {model's label name: data's label name}, where they differ and can't be proved.

    Returns:
        The scores of the task (see `task_metrics`) and `rows`.

    Raises:
        LabelError: the labels of data and model do not fit.
    """
    dataset = with_labels_of(dataset, classifier.label_names, label_map)
    task, labels, lengths = task_of(dataset), labels_of(dataset), word_counts_of(dataset)
    logits = aligned_logits(classifier, dataset, label_map, "model")
    scores: dict[str, Any] = {"rows": len(dataset), **task_metrics(task, logits, labels, lengths)}
    if teacher is not None:
        teacher_logits = aligned_logits(teacher, dataset, label_map, "teacher")
        theirs = task_metrics(task, teacher_logits, labels, lengths)[task.metric]
        scores[f"teacher_{task.metric}"] = theirs
        scores["retention"] = scores[task.metric] / theirs if theirs else float("nan")
        scores["agreement"] = agreement(task, logits, teacher_logits, labels)
    return scores


def aligned_logits(
    classifier: Predicts, dataset: Dataset, label_map: dict[str, str] | None = None, who: str = "model"
) -> np.ndarray:
    """Logits with columns in the data's label order."""
    task = task_of(dataset)
    check_task(task, classifier.task, who)
    logits = predict_dataset(classifier, dataset)
    return logits[:, match_labels(list(task.labels), classifier, lambda: (logits, labels_of(dataset)), label_map, who)]


def check_task(data: Task, model: Task, who: str) -> None:
    """Refuse a model of another task than the data's."""
    if data.kind != model.kind:
        raise LabelError(
            f"The data is {data.describe()}, the {who} does {model.describe()}. Name the data's task with --task, "
            f"or take another {who}."
        )


def match_labels(
    data_names: list[str],
    classifier: Named,
    evidence: Callable[[], tuple[np.ndarray, np.ndarray]],
    label_map: dict[str, str] | None,
    who: str,
) -> list[int]:
    """For each data label, the output of `classifier` for it.

    By name (the classifier's, or those of the data it was trained on), else by `label_map`, else, where one side
    has names that say nothing (`0`, `LABEL_0`), by what predictions prove.

    Args:
        evidence: gives the classifier's logits [rows, labels] for rows of the data and their labels [rows],
            -1 = unlabelled; called only where names do not decide.

    Raises:
        LabelError: showing both maps.
    """
    model_names = classifier.label_names
    if classifier.task.kind == "regression":
        return [0]
    if label_map:
        order = match_by_name(data_names, [label_map.get(name, name) for name in model_names])
    else:
        order = match_by_name(data_names, model_names) or match_by_name(data_names, classifier.data_labels)
        provable = classifier.task.is_single_label
        if order is None and provable and (are_generic(data_names) or are_generic(model_names)):
            logits, labels = evidence()
            labelled = labels >= 0
            order = match_by_proof(data_names, model_names, labels[labelled], logits[labelled].argmax(1))
    if order is None:
        raise refuse(data_names, model_names, who)
    return order
