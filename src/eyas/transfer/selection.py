"""Selects new texts to train on, by the predictions of teacher and student."""

import logging
from dataclasses import dataclass

import numpy as np
from datasets import Dataset, DatasetDict

from eyas.data.datasets import task_of, word_counts_of
from eyas.data.labels import match_by_name
from eyas.errors import DataError
from eyas.evaluation.evaluate import aligned_logits
from eyas.models.classifier import Classifier
from eyas.models.loading import task_of_folder
from eyas.tasks import Task, softmax
from eyas.teachers import AlignedTeacher
from eyas.transfer.learned import LearnedSelector

logger = logging.getLogger("eyas")

SAME_LABEL = "same-label"
RULES = {
    "confident": "those with the highest confidence of the teacher",
    "uncertain": "those with the lowest confidence of the teacher",
    "disagreement": "those on which a student differs most from the teacher",
    "learned": "those chosen by a learned policy, rewarded by the student's gain (classification)",
    SAME_LABEL: "variants to which the teacher gives the label of their source",
}


@dataclass(frozen=True)
class Selection:
    """A rule, and the share of the new texts it keeps.

    Args:
        rule: a key of `RULES`.
        share: of the new texts, above 0 and up to 1.
        student: a folder; required by `disagreement` and `learned`.
    """

    rule: str
    share: float = 0.5
    student: str = ""

    @classmethod
    def parse(cls, text: str) -> "Selection":
        """`RULE`, `RULE:SHARE` or `RULE:SHARE:STUDENT`.

        Raises:
            DataError: an unknown rule, an invalid share, or a missing student.
        """
        rule, share, student = [*text.split(":", 2), "", ""][:3]
        if rule not in RULES:
            raise DataError(f"select (--select) {text}: no rule {rule!r}. Expected one of {', '.join(RULES)}.")
        if rule == SAME_LABEL and share:
            raise DataError(f"select (--select) {text}: same-label takes no share; it keeps every unchanged label.")
        try:
            number = float(share or 0.5)
        except ValueError:
            number = 0.0
        if not 0 < number <= 1:
            raise DataError(f"select (--select) {text}: the share is {share!r}, expected a number above 0 and up to 1.")
        if rule in ("disagreement", "learned") and not student:
            raise DataError(f"select (--select) {text}: needs a student: {rule}:{number:g}:FOLDER.")
        return cls(rule, number, student)

    def check(self, task: Task) -> None:
        """Raise EyasError if the rule does not apply to the task, or its student does not exist."""
        known = {
            "confident": task.decides,
            "uncertain": task.decides,
            "learned": task.is_classification,
            SAME_LABEL: task.decides and not task.is_tagging,
        }
        if not known.get(self.rule, True):
            raise DataError(f"select (--select) {self.rule} does not apply to {task.describe()}.")
        if self.student:
            task_of_folder(self.student)


def select(dataset: Dataset, data: DatasetDict, labeled: AlignedTeacher, selection: Selection) -> Dataset:
    """The training texts in `dataset`, and the other texts that the rule keeps.

    Args:
        dataset: the transfer set; the training texts come first.
        data: the splits; `learned` gets its reward from validation.
        labeled: the teacher's logits for all texts.

    Raises:
        DataError: there are no new texts.
    """
    train = np.arange(len(data["train"]))
    task, new = task_of(dataset), np.arange(len(train), len(dataset))
    if not len(new):
        raise DataError(
            f"select (--select) {selection.rule} needs new texts: set unlabeled (--unlabeled) or augment (--augment)."
        )
    rows = dataset.select(new)
    teacher_logits = labeled.logits_of(rows)
    if selection.rule == SAME_LABEL:
        kept = _has_label_of_source(task, rows, teacher_logits, labeled)
    else:
        scores = _scores(selection, task, rows, teacher_logits, data["validation"])
        count = max(round(selection.share * len(new)), 1)
        kept = np.zeros(len(new), dtype=bool)
        kept[np.argsort(-scores, kind="stable")[:count]] = True
    logger.info("--select %s keeps %s of %s new texts.", selection.rule, f"{int(kept.sum()):,}", f"{len(new):,}")
    return dataset.select(np.concatenate([train, new[kept]]))


def _scores(
    selection: Selection, task: Task, dataset: Dataset, teacher_logits: np.ndarray, validation: Dataset
) -> np.ndarray:
    """[rows] scores; the texts with the highest scores are kept."""
    lengths = word_counts_of(dataset)
    if selection.rule == "learned":
        return _learned(Classifier.from_pretrained(selection.student), task, dataset, teacher_logits, validation)
    if selection.rule == "disagreement":
        student_logits = aligned_logits(Classifier.from_pretrained(selection.student), dataset)
        return _mean_of_rows(
            np.abs(task.probabilities(student_logits) - task.probabilities(teacher_logits)).sum(1), lengths
        )
    sureness = _mean_of_rows(softmax(task.decisions(teacher_logits)).max(1), lengths * len(task.groups))
    return sureness if selection.rule == "confident" else -sureness


def _learned(
    student: Classifier, task: Task, dataset: Dataset, teacher_logits: np.ndarray, validation: Dataset
) -> np.ndarray:
    own = match_by_name(list(task.labels), student.data_labels)
    if own != list(range(len(task.labels))):
        raise DataError(
            f"select (--select) learned: the student's labels are {student.data_labels}, the data's {task.labels}."
        )
    return LearnedSelector().scores(dataset, teacher_logits, student, validation)


def _mean_of_rows(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    starts = np.cumsum(lengths) - lengths
    return np.asarray(np.add.reduceat(values, starts) / lengths)


def _has_label_of_source(
    task: Task, dataset: Dataset, teacher_logits: np.ndarray, labeled: AlignedTeacher
) -> np.ndarray:
    """[rows] bool: whether the teacher decides as for the source text; true for unlabeled texts."""
    sources = labeled.logits_of(Dataset.from_dict({"example_id": dataset["source_id"]}))
    same = task.decisions(teacher_logits).argmax(1) == task.decisions(sources).argmax(1)
    return np.asarray(same.reshape(len(dataset), -1).all(1))
