"""Score a classifier on a split, optionally against its teacher."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from datasets import Dataset

from eyas.data.datasets import is_labeled, is_pair, labels_of, task_of, texts_of, word_counts_of
from eyas.data.labels import Named, check_task, match_labels
from eyas.data.targets import with_labels_of
from eyas.evaluation.bootstrap import SUMS, ratio_interval, score_interval, sums
from eyas.evaluation.metrics import agreement, answered, task_metrics
from eyas.runtime.predict import PredictMixin
from eyas.tasks import softmax
from eyas.verbosity import without_bars


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


@without_bars()
def evaluate(
    classifier: Predicts,
    dataset: Dataset,
    teacher: Predicts | None = None,
    label_map: dict[str, str] | None = None,
    abstain_below: float = 0.0,
) -> dict[str, Any]:
    """Score `classifier` on `dataset`.

    Args:
        abstain_below: adds `answered` (the share of decisions with at least this confidence) and `answered_accuracy`.
        teacher: adds `teacher_<metric>` (its score), `retention` (the student's score divided by the teacher's) and
            `agreement` (the share of decisions on which both agree).
        label_map: {model's label name: data's label name}, if they cannot be matched automatically.

    Returns:
        The scores of the task (see `task_metrics`), `rows`, and the 95 % intervals of its metric and of the retention
        (`interval`, `retention_interval`: [low, high], by a bootstrap over texts).

    Raises:
        LabelError: the labels of data and model do not match.
    """
    dataset = with_labels_of(dataset, classifier.label_names, label_map)
    task, labels, lengths = task_of(dataset), labels_of(dataset), word_counts_of(dataset)
    logits = aligned_logits(classifier, dataset, label_map, "model")
    calibrated = classifier.task.calibrated(logits)
    scores: dict[str, Any] = {"rows": len(dataset), **task_metrics(task, calibrated, labels, lengths)}
    own = _sums(dataset, logits)
    if own is not None:
        scores["interval"] = list(score_interval([own], task.metric))
    if abstain_below:
        chances, gold = softmax(task.decisions(calibrated)), task.decided(labels)
        share, right = answered(chances[gold >= 0], gold[gold >= 0], abstain_below)
        scores |= {"answered": share, "answered_accuracy": right}
    if teacher is not None:
        teacher_logits = aligned_logits(teacher, dataset, label_map, "teacher")
        teacher_score = task_metrics(task, teacher_logits, labels, lengths)[task.metric]
        scores[f"teacher_{task.metric}"] = teacher_score
        scores["retention"] = scores[task.metric] / teacher_score if teacher_score else float("nan")
        theirs = _sums(dataset, teacher_logits)
        if own is not None and theirs is not None and (kept := ratio_interval([own], [theirs], task.metric)):
            scores["retention_interval"] = list(kept)
        scores["agreement"] = agreement(task, logits, teacher_logits, labels)
    return scores


def _sums(dataset: Dataset, logits: np.ndarray) -> np.ndarray | None:
    """What each labeled text contributes to the score; None if the score is not one of `SUMS`."""
    task, labels, lengths = task_of(dataset), labels_of(dataset), word_counts_of(dataset)
    if task.kind not in SUMS:
        return None
    labeled = is_labeled(dataset)
    rows = np.repeat(labeled, lengths) if task.is_tagging else labeled
    return sums(task, logits[rows], labels[rows], lengths[labeled])


def aligned_logits(
    classifier: Predicts, dataset: Dataset, label_map: dict[str, str] | None = None, who: str = "model"
) -> np.ndarray:
    """Logits, with columns in the data's label order."""
    logits, order = logits_and_order(classifier, dataset, label_map, who)
    return logits[:, order]


def logits_and_order(
    classifier: Predicts, dataset: Dataset, label_map: dict[str, str] | None = None, who: str = "model"
) -> tuple[np.ndarray, list[int]]:
    """Logits, and for each of the data's labels their column."""
    task = task_of(dataset)
    check_task(task, classifier.task, who)
    logits = predict_dataset(classifier, dataset, who)
    return logits, match_labels(list(task.labels), classifier, lambda: (logits, labels_of(dataset)), label_map, who)
