"""A data set of an exam and its teacher: loaded and labeled once, kept in memory between trials."""

import hashlib
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset, DatasetDict

from eyas.data.damage import damaged
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
from eyas.encoders import CONFIG, find_encoder, in_hub_cache
from eyas.errors import DataError, ModelError
from eyas.evaluation.changes import WORD, Changed, changed_texts
from eyas.evaluation.written import metrics
from eyas.exam.plan_parts import NONE, DataPlan
from eyas.generation import TextGenerator, load_pairs
from eyas.generation import distill as distill_writer
from eyas.generation.data import EncodedPairs
from eyas.generation.teachers import cached, fingerprint
from eyas.kinds import GENERATION
from eyas.models.loading import is_student_folder
from eyas.outputs import RUN_FILE
from eyas.settings import MAX_LENGTH, Columns, DistillSettings, FinetuneSettings, TransferSettings
from eyas.tasks import Task
from eyas.teachers import AlignedTeacher, CombinedTeacher, Encoder, align
from eyas.teachers.answers import is_answers
from eyas.teachers.encoder import pooling_of
from eyas.teachers.exported import is_exported
from eyas.training.distill import distill
from eyas.training.domains import check_labels, join_domains, load_domains
from eyas.training.finetune import finetune
from eyas.training.teachers import files_of, named_fields, open_teachers, with_answers
from eyas.transfer import check_transfer, chosen_texts, transfer_set
from eyas.transfer.augmentation import identity
from eyas.transfer.texts import counts_of, default_augment

logger = logging.getLogger("eyas")

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


def inspect(entry: DataPlan) -> tuple[int, Task, dict[str, Any]]:
    """Load a data set and its teacher; returns (texts per row, task, defaults of the data set's plan).

    Raises:
        EyasError: the data or the teacher cannot be used.
    """
    loaded = load_entry(entry)
    loaded.check()
    return outline(entry, loaded.data)


def read(entry: DataPlan) -> Any:
    """The data set of a plan, without its teacher."""
    return (load_pairs if entry.writes else load_data)(entry.source, entry.columns)


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


def _finetuned(teacher: str) -> dict[str, Any]:
    """The settings of the `finetune` that made a teacher; empty for others."""
    try:
        settings = json.loads((Path(teacher) / RUN_FILE).read_text())["settings"]
        return dict(settings) if settings["command"] == "finetune" else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


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


def meta_teacher(entry: DataPlan, folder: Path) -> Path:
    """The teacher, an encoder, fine-tuned on the domains of its data set; in `folder`, once for the same domains.

    Raises:
        LabelError: the data set has other labels than the domains.
    """
    assert entry.domains is not None
    domains = load_domains(entry.domains, entry.columns)
    joined = join_domains(domains)
    check_labels(read(entry), joined)
    about: dict[str, Any] = {
        name: [data.fingerprint(split) for split in ("train", "validation")] for name, data in domains.items()
    }
    about["encoder"] = [entry.teacher[0], identity(find_encoder(entry.teacher[0]))]
    if (entry.max_length or MAX_LENGTH) > MAX_LENGTH:
        about["max_length"] = entry.max_length
    out = folder / hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]
    settings = FinetuneSettings(max_length=entry.max_length or MAX_LENGTH)
    return finetune(entry.teacher[0], joined, out, settings, domains=domains)


def prepare(entry: DataPlan) -> DatasetFacts:
    """Let the teacher answer every text once, and return the facts."""
    return load_entry(entry).facts()


def _fingerprint(loaded: Loaded, dataset: Dataset) -> str:
    """Hash of the teacher, the labels, the training texts, and the validation and scored splits."""
    about = {"teacher": loaded.teacher.teacher.fingerprint, "labels": loaded.data.labels}
    content = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for rows in (dataset, loaded.data["validation"], loaded.data[loaded.split]):
        content.update(data_fingerprint(rows).encode())
    return content.hexdigest()


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
        if _finetuned(name).get("data", [""])[0] == train:
            logger.warning(
                "%s: the teacher %s learned from the labels as they were before the damage (%s), so its students do "
                "too. Compare them with the labels alone only if you ask what a teacher of clean labels brings.",
                plan.name, name, plan.damage.describe(),
            )  # fmt: skip


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
    texts = loaded.transfer["source"] if isinstance(loaded, LoadedPairs) else written_texts(loaded.transfer)
    return frozenset(word for text in texts for word in WORD.findall(text.lower()))


def known_words(entry: DataPlan) -> frozenset[str]:
    return _known_words(_text(entry))


def sample(dataset: Dataset, count: int) -> list[tuple[Any, ...]]:
    chosen = dataset.select(sorted(random.Random(0).sample(range(len(dataset)), min(count, len(dataset)))))
    return [inputs_of(row) for row in chosen]


def written_texts(dataset: Dataset) -> list[str]:
    if not is_pair(dataset):
        return list(dataset["text"])
    return [f"{a} | {b}" for a, b in zip(dataset["text"], dataset["text_pair"], strict=True)]
