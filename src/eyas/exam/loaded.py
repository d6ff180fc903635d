"""A data set and its teacher, in memory: what trials train on and are scored by."""

import hashlib
import json
import random
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset, DatasetDict

from eyas.data.datasets import (
    data_fingerprint,
    is_labeled,
    is_pair,
    labeled_rows,
    load_data,
    load_unlabeled,
)
from eyas.data.readers import inputs_of
from eyas.data.task_data import TaskData
from eyas.evaluation.changes import Changed, changed_texts
from eyas.exam.plan_parts import DataPlan
from eyas.generation import TextGenerator, load_pairs
from eyas.generation import distill as distill_writer
from eyas.generation.data import EncodedPairs
from eyas.generation.teachers import cached, fingerprint
from eyas.kinds import GENERATION
from eyas.settings import DistillSettings, TransferSettings
from eyas.tasks import Task
from eyas.teachers import AlignedTeacher, CombinedTeacher
from eyas.training.distill import distill
from eyas.training.teachers import files_of
from eyas.transfer import chosen_texts, transfer_set
from eyas.transfer.texts import counts_of

COST_TEXTS = 1000
# No limit on the tokens of the targets that are scored.
ANY_LENGTH = 10**9


@dataclass(frozen=True)
class DatasetFacts:
    """Facts shared by all trials of a data set.

    Args:
        fingerprint: hash of the texts, their labels and the teacher.
        data_key: equal for data sets that differ only in their transfer set.
        split: the split that is scored.
        rows: number of rows per split, and per source of the transfer set.
        texts: validation texts (lists of words for tagging) for measuring cost.
    """

    fingerprint: str
    data_key: str
    split: str
    rows: dict[str, int]
    texts: list[tuple[Any, ...]]


@dataclass(frozen=True)
class Loaded:
    """A data set, and its teacher aligned with the data's labels."""

    data: TaskData
    teacher: AlignedTeacher
    unlabeled: Dataset | None
    settings: TransferSettings

    @property
    def split(self) -> str:
        return split_of(self.data)

    @property
    def teachers(self) -> list[Any]:
        """Each teacher, not aligned."""
        whole = self.teacher.teacher
        return whole.teachers if isinstance(whole, CombinedTeacher) else [whole]

    @property
    def task(self) -> Task:
        return self.data.task

    @cached_property
    def learnable(self) -> Dataset:
        """The texts that a student learns from without the teacher."""
        return labeled_rows(self.data["train"])

    @cached_property
    def texts(self) -> Dataset:
        """All texts that the teacher labels for training."""
        return transfer_set(self.data, self.teacher, self.unlabeled, self.settings)

    @cached_property
    def changed(self) -> tuple[Changed, Dataset] | None:
        """Changed texts of the split that is scored, and the different ones as rows; None if the task has no such."""
        if self.data.is_pair or self.task.is_tagging or self.task.reads_fields or not self.task.decides:
            return None
        if files_of(self.teachers):  # which answer their own texts alone
            return None
        split = self.data[self.split]
        labeled = labeled_rows(split)
        found = changed_texts(labeled["text"][:])
        return (found, load_unlabeled({"text": found.texts})) if found.texts else None

    @cached_property
    def transfer(self) -> Dataset:
        """The texts that a student is trained on."""
        if not self.settings.select:
            return self.texts
        return chosen_texts(self.texts, self.data, self.teacher.label(self.texts), self.settings)

    def check(self) -> None:
        """Raises DataError if the data cannot be trained on."""
        self.data.check_validation()

    @property
    def max_length(self) -> int:
        """The teacher's maximum number of tokens."""
        return int(self.teacher.teacher.max_length)

    @property
    def models(self) -> list[Any]:
        """The teacher's model, or those of the teachers that answer together."""
        return [one.model for one in self.teachers]

    def distill(
        self, settings: DistillSettings, out: Path, data: Any = None, alone: bool = False, **options: Any
    ) -> Path:
        """Train a student.

        Args:
            data: other splits than all of `self.data`.
            alone: without the unlabeled texts.
        """
        unlabeled = None if alone or data is not None else self.unlabeled
        return distill(self.teacher, data or self.data, out, settings, unlabeled, **options)

    def sample(self, count: int) -> list[tuple[Any, ...]]:
        """Inputs of some validation texts."""
        return sample(self.data["validation"], count)

    def facts(self) -> DatasetFacts:
        """Label every text once and return the facts."""
        data = self.data
        for rows in (self.texts, data["validation"], data[self.split]):
            self.teacher.label(rows)
        if self.changed is not None:
            self.teacher.label(self.changed[1])
        counts = {name: len(rows) for name, rows in data.items()}
        return DatasetFacts(
            fingerprint=_fingerprint(self, self.transfer),
            data_key=_fingerprint(self, data["train"])[:12],
            split=self.split,
            rows={**counts, "unlabeled": 0, **counts_of(self.transfer)},
            texts=self.sample(COST_TEXTS),
        )


@dataclass(frozen=True)
class LoadedPairs:
    """A data set of pairs, and a teacher that writes: what `Loaded` is for teachers with labels.

    Args:
        name: the teacher's folder or Hub name.
    """

    data: DatasetDict
    teacher: TextGenerator
    name: str

    task: ClassVar[Task] = Task(GENERATION, ())

    @property
    def split(self) -> str:
        return "test" if "test" in self.data else "validation"

    @property
    def transfer(self) -> Dataset:
        return self.data["train"]

    learnable = transfer

    def check(self) -> None:
        for name in ("train", "validation"):
            EncodedPairs(self.data[name], self.teacher.tokenizer, self.max_length, self.max_length)

    @property
    def max_length(self) -> int:
        return self.teacher.max_length

    @property
    def models(self) -> list[Any]:
        return [self.teacher.model]

    @cached_property
    def written(self) -> list[str]:
        """What the teacher writes for the split that is scored."""
        pairs = EncodedPairs(self.data[self.split], self.teacher.tokenizer, self.max_length, ANY_LENGTH)
        beams = int(self.teacher.model.generation_config.num_beams or 1)
        ids = cached(self.teacher, pairs, {"beams": beams}, "float32", None).texts(pairs.ids)
        return list(self.teacher.tokenizer.batch_decode(ids, skip_special_tokens=True))

    def distill(
        self, settings: DistillSettings, out: Path, data: Any = None, alone: bool = False, **options: Any
    ) -> Path:
        longest = min(settings.student.max_length, self.max_length)
        settings = replace(settings, student=replace(settings.student, max_length=longest))
        return distill_writer(self.name, data or self.data, out, settings, **options)

    def sample(self, count: int) -> list[tuple[Any, ...]]:
        return sample(self.data["validation"].rename_column("source", "text"), count)

    def facts(self) -> DatasetFacts:
        _ = self.written
        about = json.dumps(fingerprint(self.teacher, "float32"), sort_keys=True)
        ids = [np.asarray(self.data[name]["example_id"]).tobytes() for name in ("train", "validation", self.split)]
        name = hashlib.sha256(b"".join([about.encode(), *ids])).hexdigest()
        counts = {split: len(rows) for split, rows in self.data.items()}
        return DatasetFacts(name, name[:12], self.split, counts, self.sample(COST_TEXTS))


def read(entry: DataPlan) -> Any:
    """The data set of a plan, without its teacher."""
    return (load_pairs if entry.writes else load_data)(entry.source, entry.columns)


def split_of(data: TaskData) -> str:
    """The split that is scored."""
    return "test" if "test" in data and is_labeled(data["test"]).any() else "validation"


def _fingerprint(loaded: Loaded, dataset: Dataset) -> str:
    """Hash of the teacher, the labels, the training texts, and the validation and scored splits."""
    about = {"teacher": loaded.teacher.teacher.fingerprint, "labels": loaded.data.labels}
    content = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for rows in (dataset, loaded.data["validation"], loaded.data[loaded.split]):
        content.update(data_fingerprint(rows).encode())
    return content.hexdigest()


def sample(dataset: Dataset, count: int) -> list[tuple[Any, ...]]:
    chosen = dataset.select(sorted(random.Random(0).sample(range(len(dataset)), min(count, len(dataset)))))
    return [inputs_of(row) for row in chosen]


def written_texts(dataset: Dataset) -> list[str]:
    if not is_pair(dataset):
        return list(dataset["text"])
    return [f"{a} | {b}" for a, b in zip(dataset["text"], dataset["text_pair"], strict=True)]
