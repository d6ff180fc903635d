"""Is a teacher better than a linear model on words and characters? If not, a student has little to learn from it."""

from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from datasets import Dataset

from eyas.data.datasets import is_labeled, labels_of, texts_of, word_counts_of
from eyas.data.task_data import TaskData
from eyas.evaluation.bootstrap import compare, doubt, sums
from eyas.evaluation.metrics import task_metrics
from eyas.exam.baselines import fit_baseline
from eyas.exam.entries import written_texts
from eyas.teachers import AlignedTeacher

# Texts to fit and to compare: enough to tell, read in seconds; outputs beyond which the weights need too much memory.
MOST_TRAIN, MOST_VALIDATION, MOST_OUTPUTS = 5000, 2000, 200


def doubt_about(teacher: AlignedTeacher, data: TaskData) -> str:
    """A sentence if the teacher is not certainly better on validation texts; empty if it is, or cannot be compared."""
    train, validation, task = _some(data["train"], MOST_TRAIN), _some(data["validation"], MOST_VALIDATION), data.task
    if not len(train) or not len(validation) or len(task.labels) > MOST_OUTPUTS:
        return ""
    try:
        model = fit_baseline(task, _inputs(train), labels_of(train), None, None)
    except ValueError:  # from scikit-learn, of texts without words
        return ""
    with TemporaryDirectory() as folder:  # the cache is for the texts of the training
        logits = teacher.label(validation, folder).logits_of(validation)
    linear, labels, lengths = model.logits(_inputs(validation)), labels_of(validation), word_counts_of(validation)
    better, worse = (sums(task, found, labels, lengths) for found in (logits, linear))
    first, second = (task_metrics(task, found, labels, lengths)[task.metric] for found in (logits, linear))
    return doubt(first, second, compare([better], [worse], task.metric))


def _some(dataset: Dataset, most: int) -> Dataset:
    """At most so many labeled rows, drawn at random."""
    rows = np.flatnonzero(is_labeled(dataset))
    return dataset.select(np.random.default_rng(0).permutation(rows)[:most])


def _inputs(dataset: Dataset) -> list[Any]:
    return texts_of(dataset) if "tokens" in dataset.column_names else written_texts(dataset)
