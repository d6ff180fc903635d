"""Scores of a model on a task, and how it compares with its teacher."""

from collections.abc import Callable
from typing import Any

import numpy as np

from eyas.errors import DataError
from eyas.kinds import Kind
from eyas.spans import spans_of
from eyas.tasks import Task, has_spans, softmax

ECE_BINS = 15


def task_metrics(
    task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray | None = None
) -> dict[str, float]:
    """The scores of `task`; `task.metric` is the one that compares models.

    Args:
        logits: [rows, outputs]; for tagging a row is a word.
        labels: as from `labels_of`; unlabeled rows are left out.
        lengths: [sentences] words per sentence, for tagging.

    Returns:
        classification: accuracy, macro_f1, matthews, calibration_error; tagging: the same by word, and span_f1 and
        span_macro_f1; aspects: accuracy, macro_f1 (the mean over aspects), calibration_error; multi-label: micro_f1,
        macro_f1, accuracy of its decisions, calibration_error; regression: pearson, spearman, mean_squared_error;
        fields: auc, log_loss, calibration_error; vectors: cosine, its mean.

    Raises:
        DataError: no row is labeled.
    """
    return METRICS[task.kind](task, logits, labels, lengths)


def classification_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, macro-F1, Matthews correlation and expected calibration error.

    Args:
        logits: [rows, labels].
        labels: [rows] int; rows of -1 or -100 (unlabeled) are left out.

    Raises:
        DataError: no row is labeled.
    """
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    logits, labels = _labeled(logits, labels, labels >= 0)
    predictions = logits.argmax(1)
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "macro_f1": float(f1_score(labels, predictions, average="macro", zero_division=0)),
        "matthews": float(matthews_corrcoef(labels, predictions)),
        "calibration_error": expected_calibration_error(softmax(logits), labels),
    }


def regression_metrics(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Pearson's and Spearman's correlation (0 where one side is constant) and the mean squared error; [rows] each."""
    from scipy.stats import pearsonr, spearmanr

    predictions, labels = _labeled(predictions, labels, np.isfinite(labels))
    constant = len(labels) < 2 or predictions.std() < 1e-9 or labels.std() < 1e-9
    return {
        "pearson": 0.0 if constant else float(pearsonr(predictions, labels).statistic),
        "spearman": 0.0 if constant else float(spearmanr(predictions, labels).statistic),
        "mean_squared_error": float(((predictions - labels) ** 2).mean()),
    }


def span_metrics(tags: list[list[str]], predictions: list[list[str]]) -> dict[str, float]:
    """F1 of typed spans over all sentences, as in conlleval and seqeval's default mode: micro, and macro over types.

    Args:
        tags, predictions: tags of each sentence.
    """
    truth = {(row, *span) for row, sentence in enumerate(tags) for span in spans_of(sentence)}
    found = {(row, *span) for row, sentence in enumerate(predictions) for span in spans_of(sentence)}
    kinds = sorted({span[1] for span in truth | found})
    each = [
        _f1({span for span in truth if span[1] == kind}, {span for span in found if span[1] == kind}) for kind in kinds
    ]
    return {"span_f1": _f1(truth, found), "span_macro_f1": float(np.mean(each)) if each else 0.0}


def tag_sequences(
    task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray
) -> tuple[list[list[str]], list[list[str]]]:
    """(gold, predicted) tags of each sentence; words without a label are left out."""
    known = labels >= 0
    rows = np.repeat(np.arange(len(lengths)), lengths)[known]
    cuts = np.cumsum(np.bincount(rows, minlength=len(lengths)))[:-1]
    names = np.array(task.labels)
    gold, predicted = names[labels[known]], names[logits[known].argmax(1)]
    return [part.tolist() for part in np.split(gold, cuts)], [part.tolist() for part in np.split(predicted, cuts)]


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over 15 bins of equal width (Guo et al. 2017, eq. 3)."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    counts = np.bincount(bins, minlength=ECE_BINS)
    gaps = np.bincount(bins, confidence - right, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / counts.sum())


def answered(probabilities: np.ndarray, labels: np.ndarray, least: float) -> tuple[float, float | None]:
    """The share of decisions with a confidence of at least `least`, and the accuracy on them; None if there are none.

    Args:
        probabilities: [decisions, choices].
        labels: [decisions] int.
    """
    kept = probabilities.max(1) >= least
    right = probabilities.argmax(1) == labels
    return float(kept.mean()), float(right[kept].mean()) if kept.any() else None


def agreement(task: Task, logits: np.ndarray, teacher_logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of decisions (texts, words, aspects, labels) on which student and teacher agree; for numeric outputs, the
    task's metric with the teacher's outputs as labels; for rows of fields the correlation of the probabilities, because
    of rare clicks all decisions are alike.

    Args:
        labels: as from `labels_of`; words without a tag, such as those of a question, do not count.
    """
    if not task.decides:
        return task_metrics(task, logits, teacher_logits)[task.metric]
    if task.reads_fields:
        own, theirs = (task.probabilities(part)[:, 1] for part in (logits, teacher_logits))
        return regression_metrics(own, theirs)["pearson"]
    if task.is_tagging and (labels >= 0).any():
        logits, teacher_logits = logits[labels >= 0], teacher_logits[labels >= 0]
    return float((task.decisions(logits).argmax(1) == task.decisions(teacher_logits).argmax(1)).mean())


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[rows] cosine of corresponding rows of two [rows, dimensions] arrays; 0 for a zero vector."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(1) / np.maximum(lengths, 1e-12))


def _labeled(logits: np.ndarray, labels: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not known.any():
        raise DataError("Nothing to score: no row has a label. Choose a labeled split (--split).")
    return logits[known], labels[known]


def _f1(truth: set[Any], found: set[Any]) -> float:
    right = len(truth & found)
    if not right:
        return 0.0
    precision, recall = right / len(found), right / len(truth)
    return 2 * precision * recall / (precision + recall)


def _decisions(task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray | None) -> dict[str, float]:
    return classification_metrics(task.decisions(logits), task.decided(labels))


def _tags(task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray | None) -> dict[str, float]:
    scores = _decisions(task, logits, labels, lengths)
    if has_spans(task.labels):
        assert lengths is not None
        scores |= span_metrics(*tag_sequences(task, logits, labels, lengths))
    return scores


def _multi_label(task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray | None) -> dict[str, float]:
    from sklearn.metrics import f1_score

    scores = _decisions(task, logits, labels, lengths)
    del scores["matthews"]
    known = (labels >= 0).all(1)
    gold, found = labels[known] > 0, logits[known] > 0
    total = int(gold.sum() + found.sum())
    each = [f1_score(gold[:, column], found[:, column], zero_division=0) for column in range(gold.shape[1])]
    return {**scores, "micro_f1": 2 * int((gold & found).sum()) / max(total, 1), "macro_f1": float(np.mean(each))}


def _aspects(task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray | None) -> dict[str, float]:
    """Macro-F1 is computed per aspect, over its values, and then averaged over aspects."""
    from sklearn.metrics import f1_score

    scores = _decisions(task, logits, labels, lengths)
    del scores["matthews"]
    each = []
    for number, columns in enumerate(task.groups):
        known = labels[:, number] >= 0
        predicted = logits[known][:, columns].argmax(1)
        gold = labels[known, number] - columns[0]
        each.append(f1_score(gold, predicted, average="macro", zero_division=0))
    return {**scores, "macro_f1": float(np.mean(each))}


def _clicks(task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray | None) -> dict[str, float]:
    """The area under the ROC curve (0.5 if all labels are equal) and the cross-entropy."""
    from sklearn.metrics import log_loss, roc_auc_score

    logits, labels = _labeled(logits, labels, labels >= 0)
    chances = softmax(logits.astype(np.float64))
    return {
        "auc": float(roc_auc_score(labels, chances[:, 1])) if len(np.unique(labels)) == 2 else 0.5,
        "log_loss": float(log_loss(labels, chances[:, 1], labels=[0, 1])),
        "calibration_error": expected_calibration_error(chances, labels),
    }


# (task, logits, labels, words per sentence) -> scores, including `Task.metric`.
METRICS: dict[Kind, Callable[[Task, np.ndarray, np.ndarray, np.ndarray | None], dict[str, float]]] = {
    "classification": _decisions,
    "tagging": _tags,
    "regression": lambda task, logits, labels, _: regression_metrics(logits.reshape(-1), labels.reshape(-1)),
    "multi-label": _multi_label,
    "aspects": _aspects,
    "fields": _clicks,
    "vectors": lambda task, logits, labels, _: {"cosine": float(cosines(logits, labels).mean())},
}
