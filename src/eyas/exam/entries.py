"""The data sets of a plan: read, checked, loaded with their teachers once and kept in memory between trials."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from eyas.data.damage import damaged
from eyas.data.datasets import (
    load_unlabeled,
)
from eyas.data.task_data import TaskData
from eyas.encoders import find_encoder, in_hub_cache
from eyas.errors import DataError
from eyas.evaluation.changes import WORD
from eyas.evaluation.written import metrics
from eyas.exam.loaded import DatasetFacts, Loaded, LoadedPairs, read, split_of, written_texts
from eyas.exam.origins import encoder_of, finetuned
from eyas.exam.plan_parts import NONE, DataPlan
from eyas.generation import TextGenerator
from eyas.settings import MAX_LENGTH, Columns, DistillSettings
from eyas.tasks import Task
from eyas.teachers import CombinedTeacher, Encoder, align
from eyas.teachers.answers import is_answers
from eyas.teachers.exported import is_exported
from eyas.training.teachers import files_of, named_fields, open_teachers, with_answers
from eyas.transfer.texts import check_transfer, check_unlabeled, default_augment

logger = logging.getLogger("eyas")


def inspect(entry: DataPlan) -> tuple[int, Task, dict[str, Any]]:
    """Load a data set and its teacher; returns (texts per row, task, defaults of the data set's plan).

    Raises:
        EyasError: the data or the teacher cannot be used.
    """
    loaded = load_entry(entry)
    loaded.check()
    return outline(entry, loaded.data)


def check_data(entry: DataPlan) -> None:
    """Raises DataError unless the data set can be read."""
    read(entry)


def outline(entry: DataPlan, data: Any) -> tuple[int, Task, dict[str, Any]]:
    """As `inspect`, of data that were read."""
    if entry.writes:
        return 1, LoadedPairs.task, {"augment": (), "encoder": NONE}
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


def prepare(entry: DataPlan) -> DatasetFacts:
    """Let the teacher answer every text once, and return the facts."""
    return load_entry(entry).facts()


def load_entry(entry: DataPlan) -> Loaded | LoadedPairs:
    """Load a data set and its teacher; they stay in memory between trials."""
    return _load(_text(entry))


def _text(entry: DataPlan) -> str:
    return json.dumps(asdict(entry), sort_keys=True)


@lru_cache(maxsize=4)
def _load(entry: str) -> Loaded | LoadedPairs:
    plan = DataPlan(**json.loads(entry))
    data = read(plan)
    if plan.writes:
        metrics()  # fail now if a library is missing
        return LoadedPairs(data, TextGenerator.from_pretrained(plan.teacher[0]), plan.teacher[0])
    clean = data.fingerprint("train") if plan.damage.describe() else ""
    asked = any(is_answers(name) or is_exported(name) for name in plan.teacher)
    encoder = plan.encoder if asked and plan.encoder != NONE else None
    given = (("encoder", encoder), ("confidence", plan.confidence), ("zero_shot", plan.zero_shot))
    named = {name: value for name, value in given if value is not None}
    each = open_teachers(plan.teacher, data, plan.columns, plan.max_length or MAX_LENGTH, None, named)
    teacher: Any = CombinedTeacher(each, plan.teachers) if len(each) > 1 else each[0]
    data = data.with_labels_of(teacher.label_names, plan.label_map)
    check_transfer(plan.transfer, data.task, data.is_pair)
    unlabeled = None
    if plan.unlabeled:
        columns = named_fields(Columns(plan.text, plan.text_pair), data)
        unlabeled = load_unlabeled(plan.unlabeled, columns, teacher.task.is_tagging)
    settings, data, unlabeled = with_answers(each, DistillSettings(transfer=plan.transfer), data, unlabeled)
    check_unlabeled(settings.transfer, unlabeled is not None)
    _check_answers(each, data)
    aligned = align(teacher, data, plan.label_map)
    if plan.damage.describe():
        _warn_of_clean_teacher(plan, clean)
        train = damaged(data["train"], plan.damage, lambda rows: aligned.label(rows).logits_of(rows))
        data = TaskData({**data, "train": train})
    return Loaded(data, aligned, unlabeled, settings.transfer)


def _warn_of_clean_teacher(plan: DataPlan, train: str) -> None:
    """Warn of a teacher that was fine-tuned on the training labels before they were damaged: its answers tell them."""
    for name in plan.teacher:
        if finetuned(name).get("data", [""])[0] == train:
            logger.warning(
                "%s: the teacher %s learned from the labels as they were before the damage (%s), so its students do "
                "too. Compare them with the labels alone only if you ask what a teacher of clean labels brings.",
                plan.name, name, plan.damage.describe(),
            )  # fmt: skip


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
    texts = loaded.transfer["source"] if isinstance(loaded, LoadedPairs) else written_texts(loaded.transfer)
    return frozenset(word for text in texts for word in WORD.findall(text.lower()))


def known_words(entry: DataPlan) -> frozenset[str]:
    return _known_words(_text(entry))
