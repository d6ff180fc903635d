"""Is a teacher better than a linear model on words and characters? If not, a student has little to learn from it."""

from typing import Any

import numpy as np
from datasets import Dataset

from eyas.data.datasets import is_labeled, labels_of, texts_of, word_counts_of
from eyas.data.task_data import TaskData
from eyas.evaluation.metrics import task_metrics
from eyas.exam.baselines import fit_baseline
from eyas.exam.bootstrap import compare, doubt, sums
from eyas.exam.entries import written_texts

# Training texts of the linear model: enough to beat a bad teacher, read in seconds.
MOST_TEXTS = 5000


def doubt_about(logits: np.ndarray, data: TaskData) -> str:
    """A sentence if the teacher is not certainly better on the validation texts; empty if it is.

    Args:
        logits: the teacher's on the labeled validation texts, in the data's label order.
    """
    validation, train = data["validation"], labeled(data["train"])
    if len(train) > MOST_TEXTS:
        train = train.select(np.random.default_rng(0).permutation(len(train))[:MOST_TEXTS])
    validation, task = labeled(validation), data.task
    linear = fit_baseline(task, _inputs(train), labels_of(train), None, None).logits(_inputs(validation))
    labels, lengths = labels_of(validation), word_counts_of(validation)
    teacher, other = (sums(task, found, labels, lengths) for found in (logits, linear))
    first, second = (task_metrics(task, found, labels, lengths)[task.metric] for found in (logits, linear))
    return doubt(first, second, compare([teacher], [other], task.metric))


def labeled(dataset: Dataset) -> Dataset:
    return dataset.select(np.flatnonzero(is_labeled(dataset)))


def _inputs(dataset: Dataset) -> list[Any]:
    return texts_of(dataset) if "tokens" in dataset.column_names else written_texts(dataset)
