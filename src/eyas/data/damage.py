"""Damaged training labels: fewer, unequally many, or wrong ones, to study what a student bears."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from datasets import Dataset, Features, concatenate_datasets

from eyas.data.rows import UNLABELED
from eyas.data.splits import labels_of
from eyas.data.targets import task_of
from eyas.errors import DataError
from eyas.tasks import softmax

CONFUSION = "confusion"
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is done to the training labels, in this order and seeded; validation and test texts stay as they are.

    Args:
        imbalance: the largest class has so many times the rows of the smallest; sizes fall off exponentially between
            them (Cui et al. 2019, section 5.1). Rows are removed, of the largest class too if another is too small.
        label_fraction: share of each class that keeps its label; the other texts stay, unlabeled.
        label_noise: share of the labels that are replaced by another one: 0.2, or "confusion:0.2" for one that the
            teacher takes for it.
    """

    imbalance: float = 1.0
    label_fraction: float = 1.0
    label_noise: float | str = 0.0

    def __post_init__(self) -> None:
        if not self.imbalance >= 1:
            raise DataError(f"imbalance is {self.imbalance:g}, expected at least 1 (as many rows in each class).")
        if not 0 < self.label_fraction <= 1:
            raise DataError(f"label_fraction is {self.label_fraction:g}, expected above 0, at most 1.")
        if not 0 <= self.noise < 1:
            raise DataError(f"label_noise is {self.label_noise}, expected a share from 0 to below 1, or confusion:0.2.")

    @property
    def noise(self) -> float:
        """The share of wrong labels; not a number if it cannot be read."""
        try:
            return float(str(self.label_noise).removeprefix(f"{CONFUSION}:"))
        except ValueError:
            return float("nan")

    @property
    def is_confused(self) -> bool:
        return str(self.label_noise).startswith(CONFUSION)

    def describe(self) -> str:
        """In words; empty for none."""
        parts = [
            f"imbalance {self.imbalance:g}" if self.imbalance > 1 else "",
            f"{self.label_fraction:.0%} labeled" if self.label_fraction < 1 else "",
            f"{self.noise:.0%} wrong labels{' by confusion' if self.is_confused else ''}" if self.noise else "",
        ]
        return ", ".join(filter(None, parts))


def damaged(train: Dataset, damage: Damage, logits: Callable[[Dataset], np.ndarray]) -> Dataset:
    """The training rows with damaged labels.

    Args:
        logits: the teacher's, [rows, labels], for noise by confusion.

    Raises:
        DataError: another task than classification, or one label only.
    """
    task = task_of(train)
    if task.is_classification and len(np.unique(labels_of(train)[labels_of(train) >= 0])) < 2:
        raise DataError("imbalance, label_fraction and label_noise need training texts of two labels at least.")
    if not task.is_classification:
        raise DataError(f"imbalance, label_fraction and label_noise are for classification; this is {task.describe()}.")
    random = np.random.default_rng(SEED)
    if damage.imbalance > 1:
        train = train.select(_imbalanced(labels_of(train), damage.imbalance, random))
    labels = labels_of(train).copy()
    if damage.label_fraction < 1:
        labels[_forgotten(labels, damage.label_fraction, random)] = UNLABELED
    wrong = random.permutation(np.flatnonzero(labels >= 0))
    wrong = wrong[: round(damage.noise * len(wrong))]
    others = _confusions(labels_of(train), logits(train)) if damage.is_confused else 1 - np.eye(len(task.labels))
    others[:, ~np.isin(np.arange(len(task.labels)), labels_of(train))] = 0  # labels that the teacher alone knows
    chances = others[labels[wrong]] / others[labels[wrong]].sum(1, keepdims=True)
    labels[wrong] = (chances.cumsum(1) > random.random((len(wrong), 1))).argmax(1)
    column = Dataset.from_dict({"label": labels}, features=Features({"label": train.features["label"]}))
    return concatenate_datasets([train.remove_columns("label"), column], axis=1)


def _imbalanced(labels: np.ndarray, ratio: float, random: np.random.Generator) -> np.ndarray:
    """The rows that stay, in order; the frequent classes stay the frequent ones. Unlabeled rows stay."""
    counts = np.bincount(labels[labels >= 0])
    present = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    shares = ratio ** -(np.arange(len(present)) / max(len(present) - 1, 1))
    most = (counts[present] / shares).min()  # no class has fewer rows than its share
    kept = [np.flatnonzero(labels < 0)]
    for label, share in zip(present, shares, strict=True):
        rows = random.permutation(np.flatnonzero(labels == label))
        kept.append(rows[: max(round(most * share), 1)])
    return np.sort(np.concatenate(kept))


def _forgotten(labels: np.ndarray, fraction: float, random: np.random.Generator) -> np.ndarray:
    """The rows that lose their labels; each class keeps at least one."""
    lost = []
    for label in np.unique(labels[labels >= 0]):
        rows = random.permutation(np.flatnonzero(labels == label))
        lost.append(rows[max(round(fraction * len(rows)), 1) :])
    return np.concatenate(lost)


def _confusions(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """[labels, labels] the teacher's mean probability of each other label; equal ones for a label without rows."""
    chances = softmax(logits.astype(np.float64))
    count = logits.shape[1]
    known = [chances[labels == label] for label in range(count)]
    found = np.stack([rows.mean(0) if len(rows) else np.ones(count) for rows in known])
    np.fill_diagonal(found, 0)
    return found + (1 - np.eye(count)) * 1e-12
