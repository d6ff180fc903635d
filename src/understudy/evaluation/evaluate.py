"""Score a classifier on a split, beside its teacher where there is one."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from datasets import Dataset

from understudy.data.datasets import is_pair, labels_of
from understudy.data.labels import are_generic, match_by_name, match_by_proof, refuse
from understudy.evaluation.metrics import agreement, classification_metrics


class Named(Protocol):
    """Names of a classifier's outputs, and what the data it was trained on called them."""

    label_names: list[str]
    data_labels: list[str]


class Predicts(Named, Protocol):
    """What can be evaluated: `Classifier` (torch) and `Predictor` (ONNX)."""

    def logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray: ...


def predict_dataset(classifier: Predicts, dataset: Dataset) -> np.ndarray:
    """[rows, labels] float32 logits for `text` (and `text_pair`)."""
    pairs = list(dataset["text_pair"]) if is_pair(dataset) else None
    return classifier.logits(list(dataset["text"]), pairs)


def evaluate(
    classifier: Predicts,
    dataset: Dataset,
    teacher: Predicts | None = None,
    label_map: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Score `classifier` on `dataset`.

    Args:
        teacher: adds its accuracy, the student's `retention` (accuracy / teacher's accuracy) and `agreement`
            (share of rows where both predict the same).
        label_map: {model's label name: data's label name}, where they differ and can't be proved.

    Returns:
        Scores between 0 and 1 (see `classification_metrics`) and `rows`.

    Raises:
        LabelError: the labels of data and model do not fit.
    """
    logits, labels = _aligned(classifier, dataset, label_map, "model")
    scores: dict[str, Any] = {"rows": len(dataset), **classification_metrics(logits, labels)}
    if teacher is not None:
        teacher_logits, _ = _aligned(teacher, dataset, label_map, "teacher")
        theirs = classification_metrics(teacher_logits, labels)["accuracy"]
        scores["teacher_accuracy"] = theirs
        scores["retention"] = scores["accuracy"] / theirs if theirs else float("nan")
        scores["agreement"] = agreement(logits, teacher_logits)
    return scores


def _aligned(
    classifier: Predicts, dataset: Dataset, label_map: dict[str, str] | None, who: str
) -> tuple[np.ndarray, np.ndarray]:
    """Logits with columns in the data's label order, and the labels."""
    logits, labels = predict_dataset(classifier, dataset), labels_of(dataset)
    names = list(dataset.features["label"].names)
    order = match_labels(names, classifier, lambda: (logits, labels), label_map, who)
    return logits[:, order], labels


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
    if label_map:
        order = match_by_name(data_names, [label_map.get(name, name) for name in model_names])
    else:
        order = match_by_name(data_names, model_names) or match_by_name(data_names, classifier.data_labels)
        if order is None and (are_generic(data_names) or are_generic(model_names)):
            logits, labels = evidence()
            labelled = labels >= 0
            order = match_by_proof(data_names, model_names, labels[labelled], logits[labelled].argmax(1))
    if order is None:
        raise refuse(data_names, model_names, who)
    return order
