"""Is a teacher better than a linear model on words and characters? If not, a student has little to learn from it."""

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from datasets import Dataset

from eyas.data.datasets import is_labeled, labels_of, texts_of, word_counts_of
from eyas.data.task_data import TaskData
from eyas.evaluation.bootstrap import Comparison, compare, doubt, sums
from eyas.evaluation.metrics import task_metrics
from eyas.exam.baselines import fit_baseline, fit_on
from eyas.exam.loaded import written_texts
from eyas.teachers import AlignedTeacher, Encoder

# Texts to fit and to compare: enough to tell, read in seconds; outputs beyond which the weights need too much memory.
TEACHER, WORDS, VALUES = "the teacher", "words and characters", "the values"
VECTORS = "a linear model on the encoder's own vectors"
MOST_TRAIN, MOST_VALIDATION, MOST_OUTPUTS = 5000, 2000, 200
MOST_VECTORS = 2000


@dataclass(frozen=True)
class Examined:
    """A teacher beside linear models, on validation texts.

    Args:
        scores: of the teacher and the linear models.
        gap: the teacher minus the linear model on `inputs`: words and characters, or the values of rows of fields.
    """

    texts: int
    metric: str
    scores: dict[str, float]
    gap: Comparison
    inputs: str = WORDS

    @property
    def doubt(self) -> str:
        """A sentence if the teacher is not certainly better; else empty."""
        return doubt(self.scores[TEACHER], self.scores[_linear(self.inputs)], self.gap, self.inputs)

    def __str__(self) -> str:
        scores = ", ".join(f"{name} {100 * score:.1f}" for name, score in self.scores.items())
        return f"On {self.texts:,} validation texts: {scores} ({self.metric.replace('_', ' ')}, percent)."


def examine_teacher(teacher: AlignedTeacher, data: TaskData, encoder: Encoder | None = None) -> Examined | None:
    """Compare a teacher with linear models on validation texts; None if they cannot be compared.

    Args:
        encoder: the pretrained encoder that the teacher was made from; adds a linear model on its sentence vectors.
    """
    train, validation, task = _some(data["train"], MOST_TRAIN), _some(data["validation"], MOST_VALIDATION), data.task
    if not len(train) or not len(validation) or len(task.labels) > MOST_OUTPUTS:
        return None
    try:
        model = fit_baseline(task, _inputs(train), labels_of(train), None, None)
    except ValueError:  # from scikit-learn, of texts without words
        return None
    with TemporaryDirectory() as folder:  # the cache is for the texts of the training
        logits = teacher.label(validation, folder).logits_of(validation)
    inputs = VALUES if task.reads_fields else WORDS
    found = {TEACHER: logits, _linear(inputs): model.logits(_inputs(validation))}
    if encoder is not None and not task.is_tagging and not data.is_pair:
        some = train.select(range(min(len(train), MOST_VECTORS)))
        own = fit_on(task, encoder.logits, texts_of(some), labels_of(some))
        found[VECTORS] = own.logits(texts_of(validation))
    labels, lengths = labels_of(validation), word_counts_of(validation)
    scores = {name: task_metrics(task, each, labels, lengths)[task.metric] for name, each in found.items()}
    better, worse = (sums(task, found[name], labels, lengths) for name in (TEACHER, _linear(inputs)))
    return Examined(len(validation), task.metric, scores, compare([better], [worse], task.metric), inputs)


def _linear(inputs: str) -> str:
    return f"a linear model on {inputs}"


def _some(dataset: Dataset, most: int) -> Dataset:
    """At most so many labeled rows, drawn at random."""
    rows = np.flatnonzero(is_labeled(dataset))
    return dataset.select(np.random.default_rng(0).permutation(rows)[:most])


def _inputs(dataset: Dataset) -> list[Any]:
    return texts_of(dataset) if "tokens" in dataset.column_names else written_texts(dataset)
