"""A data set of an exam and its teacher: loaded and labeled once, kept in memory between trials."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from eyas.data.damage import damaged
from eyas.data.datasets import (
    data_fingerprint,
    is_labeled,
    is_pair,
    load_data,
    load_unlabeled,
)
from eyas.data.readers import inputs_of
from eyas.data.task_data import TaskData
from eyas.encoders import CONFIG, find_encoder, in_hub_cache
from eyas.errors import DataError, ModelError
from eyas.evaluation.changes import WORD, Changed, changed_texts
from eyas.exam.plan import NONE, DataPlan
from eyas.models.loading import is_student_folder
from eyas.outputs import RUN_FILE
from eyas.settings import MAX_LENGTH, Columns, DistillSettings, TransferSettings
from eyas.tasks import Task
from eyas.teachers import AlignedTeacher, CombinedTeacher, Encoder, align
from eyas.teachers.answers import is_answers
from eyas.teachers.encoder import pooling_of
from eyas.teachers.exported import is_exported
from eyas.training.teachers import files_of, open_teachers, with_answers
from eyas.transfer import check_transfer, chosen_texts, transfer_set
from eyas.transfer.texts import counts_of, default_augment

COST_TEXTS = 1000


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
        labeled = split.select(np.flatnonzero(is_labeled(split)))
        found = changed_texts(labeled["text"][:])
        return (found, load_unlabeled({"text": found.texts})) if found.texts else None

    @cached_property
    def transfer(self) -> Dataset:
        """The texts that a student is trained on."""
        if not self.settings.select:
            return self.texts
        return chosen_texts(self.texts, self.data, self.teacher.label(self.texts), self.settings)


def inspect(entry: DataPlan) -> tuple[int, Task, dict[str, Any]]:
    """Load a data set and its teacher; returns (texts per row, task, defaults of the data set's plan).

    Raises:
        EyasError: the data or the teacher cannot be used.
    """
    data = load_entry(entry).data
    data.check_validation()
    return 2 if data.is_pair else 1, data.task, defaults_of(entry, data)


def defaults_of(entry: DataPlan, data: TaskData) -> dict[str, Any]:
    """What a plan leaves open: the augmentation, as in `distill`, and the encoder that the teacher was made from."""
    augment, encoder = entry.augment, entry.encoder
    if augment is None and any(map(is_answers, entry.teacher)):
        augment = ()
    if augment is None:
        augment = default_augment(data, entry.transfer, bool(entry.unlabeled))
    if encoder is None:
        encoder = encoder_of(entry.teacher[0])
    elif encoder != NONE:
        Encoder(encoder)  # refuses here what it cannot read
        encoder = in_hub_cache(encoder) or find_encoder(encoder)
    return {"augment": augment, "encoder": encoder}


def encoder_of(teacher: str) -> str | None:
    """The encoder that `finetune` made a teacher from; None if it is not on this machine or has no sentence vectors."""
    try:
        settings = json.loads((Path(teacher) / RUN_FILE).read_text())["settings"]
        if settings["command"] != "finetune":
            return None
        files = [Path(row[0]) for row in settings["model_files"]]  # none for a name on the Hub
        folders = sorted((file.parent for file in files if file.name == CONFIG), key=lambda folder: len(folder.parts))
        encoder = str(folders[0]) if folders else in_hub_cache(settings["model"])
        if encoder is None or not Path(encoder, CONFIG).is_file() or is_student_folder(encoder):
            return None
        pooling_of(encoder)
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None
    return encoder


def prepare(entry: DataPlan) -> DatasetFacts:
    """Label every text once and return the facts."""
    loaded = load_entry(entry)
    data, teacher = loaded.data, loaded.teacher
    for rows in (loaded.texts, data["validation"], data[loaded.split]):
        teacher.label(rows)
    if loaded.changed is not None:
        teacher.label(loaded.changed[1])
    counts = {name: len(rows) for name, rows in data.items()}
    return DatasetFacts(
        fingerprint=_fingerprint(loaded, loaded.transfer),
        data_key=_fingerprint(loaded, data["train"])[:12],
        split=loaded.split,
        rows={**counts, "unlabeled": 0, **counts_of(loaded.transfer)},
        texts=sample(data["validation"], COST_TEXTS),
    )


def _fingerprint(loaded: Loaded, dataset: Dataset) -> str:
    """Hash of the teacher, the labels, the training texts, and the validation and scored splits."""
    about = {"teacher": loaded.teacher.teacher.fingerprint, "labels": loaded.data.labels}
    content = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for rows in (dataset, loaded.data["validation"], loaded.data[loaded.split]):
        content.update(data_fingerprint(rows).encode())
    return content.hexdigest()


def load_entry(entry: DataPlan) -> Loaded:
    """Load a data set and its teacher; they stay in memory between trials."""
    return _load(_text(entry))


def _text(entry: DataPlan) -> str:
    return json.dumps(asdict(entry), sort_keys=True)


@lru_cache(maxsize=4)
def _load(entry: str) -> Loaded:
    plan = DataPlan(**json.loads(entry))
    data = load_data(plan.source, plan.columns)
    asked = any(is_answers(name) or is_exported(name) for name in plan.teacher)
    encoder = plan.encoder if asked and plan.encoder != NONE else None
    given = (("encoder", encoder), ("confidence", plan.confidence), ("zero_shot", plan.zero_shot))
    named = {name: value for name, value in given if value is not None}
    each = open_teachers(plan.teacher, data, plan.columns, MAX_LENGTH, None, named)
    teacher: Any = CombinedTeacher(each, plan.teachers) if len(each) > 1 else each[0]
    data = data.with_labels_of(teacher.label_names, plan.label_map)
    check_transfer(plan.transfer, data.task, data.is_pair)
    unlabeled = None
    if plan.unlabeled:
        unlabeled = load_unlabeled(plan.unlabeled, Columns(plan.text, plan.text_pair), teacher.task.is_tagging)
    settings, data, unlabeled = with_answers(each, DistillSettings(transfer=plan.transfer), data, unlabeled)
    _check_answers(each, data)
    aligned = align(teacher, data, plan.label_map)
    if plan.damage.describe():
        train = damaged(data["train"], plan.damage, lambda rows: aligned.label(rows).logits_of(rows))
        data = TaskData({**data, "train": train})
    return Loaded(data, aligned, unlabeled, settings.transfer)


def split_of(data: TaskData) -> str:
    """The split that is scored."""
    return "test" if "test" in data and is_labeled(data["test"]).any() else "validation"


def _check_answers(teachers: Sequence[Any], data: TaskData) -> None:
    """Raises DataError unless files of answers have one for each text that students are compared on."""
    for file in files_of(teachers):
        for split in dict.fromkeys(("validation", split_of(data))):
            missing = int((~file.knows(data[split])).sum())
            if missing:
                raise DataError(
                    f"{file.path} has no answer for {missing:,} of {len(data[split]):,} {split} texts, on which an "
                    "exam compares the students with their teacher. Answer these too; or distill from the file "
                    "(eyas distill), and examine the student beside another teacher (--add)."
                )


@lru_cache(maxsize=4)
def _known_words(entry: str) -> frozenset[str]:
    loaded = _load(entry)
    return frozenset(word for text in written_texts(loaded.transfer) for word in WORD.findall(text.lower()))


def known_words(entry: DataPlan) -> frozenset[str]:
    return _known_words(_text(entry))


def sample(dataset: Dataset, count: int) -> list[tuple[Any, ...]]:
    chosen = dataset.select(sorted(random.Random(0).sample(range(len(dataset)), min(count, len(dataset)))))
    return [inputs_of(row) for row in chosen]


def written_texts(dataset: Dataset) -> list[str]:
    if not is_pair(dataset):
        return list(dataset["text"])
    return [f"{a} | {b}" for a, b in zip(dataset["text"], dataset["text_pair"], strict=True)]
