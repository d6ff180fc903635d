"""The scores of a trial whose model classifies, tags or gives numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import Dataset

from eyas.data.datasets import ids_of, labeled_rows, labels_of, task_of, texts_of, word_counts_of
from eyas.data.labels import check_task, match_labels
from eyas.evaluation.bootstrap import sums
from eyas.evaluation.changes import change_slices
from eyas.evaluation.differences import differences
from eyas.evaluation.evaluate import Predicts, predict_dataset
from eyas.evaluation.metrics import agreement, task_metrics
from eyas.exam.entries import known_words
from eyas.exam.loaded import Loaded, written_texts
from eyas.exam.results import DIFFERENCES, PREDICTIONS, VALIDATION
from eyas.exam.trials import Trial
from eyas.outputs import write_atomically
from eyas.runtime.cascade import confidences
from eyas.tasks import Task
from eyas.teachers import AlignedTeacher


def score_answers(trial: Trial, loaded: Loaded, model: Any, folder: Path) -> dict[str, Any]:
    """The columns of the scores; writes the predictions and the differences from the teacher."""
    split = loaded.data[loaded.split]
    split = labeled_rows(split)
    task, labels, lengths = loaded.task, labels_of(split), word_counts_of(split)
    order = [] if isinstance(model, AlignedTeacher) else _order(model, split, trial, loaded)
    logits = _predict(model, split, order)
    teacher_logits = loaded.teacher.label(loaded.data[loaded.split]).logits_of(split)
    own = _task(model)
    calibrated = own.calibrated(logits)
    scores = task_metrics(task, calibrated, labels, lengths)
    validation_score = _validate(model, loaded.data["validation"], order, folder / VALIDATION)
    _write_predictions(split, logits, _sure(model, split, logits), folder / PREDICTIONS)
    texts = texts_of(split) if task.is_tagging else written_texts(split)
    teacher = loaded.teacher.teacher.task.calibrated(teacher_logits)
    lost = differences(task, texts, labels, calibrated, teacher, known_words(trial.dataset))
    lost["slices"] += _changes(loaded, model, order, labels)
    write_atomically(folder / DIFFERENCES, json.dumps(lost, ensure_ascii=False))
    return {
        "rows": len(split),
        "score": scores[task.metric],
        "validation_score": validation_score,
        **scores,
        "temperature": own.temperature,
        "uncalibrated_error": task_metrics(task, logits, labels, lengths).get("calibration_error"),
        "agreement": agreement(task, logits, teacher_logits, labels),
    }


def _order(model: Predicts, dataset: Dataset, trial: Trial, loaded: Loaded) -> list[int]:
    """The columns of the model's logits in the data's label order."""
    if trial.kind == "teacher":
        return loaded.teacher.order
    task = task_of(dataset)
    check_task(task, model.task, "model")
    return match_labels(
        list(task.labels), model, lambda: (predict_dataset(model, dataset), labels_of(dataset)), None, "model"
    )


def _predict(model: Predicts | AlignedTeacher, dataset: Dataset, order: list[int]) -> np.ndarray:
    """Logits, [rows, labels] in the data's label order, for tagging [words, tags]."""
    if isinstance(model, AlignedTeacher):
        return model.logits_of(dataset)
    return predict_dataset(model, dataset)[:, order]


def _task(model: Predicts | AlignedTeacher) -> Task:
    """The model's task, with its temperature."""
    found: Task = model.teacher.task if isinstance(model, AlignedTeacher) else model.task
    return found


def _validate(model: Predicts | AlignedTeacher, dataset: Dataset, order: list[int], path: Path) -> float:
    """The score on validation texts; writes what a cascade needs of them."""
    labeled = labeled_rows(dataset)
    logits, task = _predict(model, labeled, order), task_of(labeled)
    labels, lengths = labels_of(labeled), word_counts_of(labeled)
    added = sums(task, logits, labels, lengths).astype(np.float64)
    columns = {"sums": list(added), "confidence": _sure(model, labeled, logits)}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return task_metrics(task, logits, labels, lengths)[task.metric]


def _changes(loaded: Loaded, model: Any, order: list[int], labels: np.ndarray) -> list[dict[str, Any]]:
    """What small changes of the texts do to the model's answers."""
    if loaded.changed is None:
        return []
    changed, texts = loaded.changed
    rows = {text: row for row, text in enumerate(texts["text"])}
    places = [rows[text] for text in changed.texts]
    own, theirs = _predict(model, texts, order), loaded.teacher.label(texts).logits_of(texts)
    return change_slices(loaded.task, changed, labels, own[places], theirs[places])


def _sure(model: Predicts | AlignedTeacher, dataset: Dataset, logits: np.ndarray) -> np.ndarray:
    """[texts] the model's confidence in its answer; 0 for numbers."""
    task, calibrated = task_of(dataset), _task(model).calibrated(logits)
    counts = word_counts_of(dataset) if task.is_tagging else np.ones(len(dataset), dtype=np.int64)
    return confidences(task, calibrated, counts.tolist()) if task.decides else np.zeros(len(dataset))


def _write_predictions(dataset: Dataset, logits: np.ndarray, sure: np.ndarray, path: Path) -> None:
    """Write each text's contribution to the score and confidence, except for tagging its logits, and its label."""
    task, labels = task_of(dataset), labels_of(dataset)
    added = sums(task, logits, labels, word_counts_of(dataset))
    columns = {
        "example_id": ids_of(dataset),
        "sums": pyarrow.FixedSizeListArray.from_arrays(added.astype(np.float64).ravel(), added.shape[1]),
        "confidence": sure,
    }
    if not task.is_tagging:
        columns["logits"] = pyarrow.FixedSizeListArray.from_arrays(logits.ravel(), logits.shape[1])
        if labels.ndim == 1:
            columns["label"] = labels
            columns["prediction"] = logits.argmax(1) if task.decides else logits.reshape(-1)
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    write_atomically(path, buffer.getvalue().to_pybytes())
