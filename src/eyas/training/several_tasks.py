"""Distill one student for several tasks, each with its own teacher and data."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from torch import nn
from transformers import TrainerCallback, set_seed

from eyas import processes
from eyas.data.datasets import data_fingerprint, is_pair, labeled_rows
from eyas.data.labels import are_generic
from eyas.data.targets import unlabeled
from eyas.data.task_data import TaskData
from eyas.errors import DataError, ModelError
from eyas.evaluation.calibration import calibration
from eyas.models import STUDENTS, TAGGERS, TasksConfig, TasksForSequenceClassification
from eyas.models.classifier import Classifier
from eyas.models.loading import PROBLEMS
from eyas.models.transformer import copy_head
from eyas.outputs import OutputFolder
from eyas.settings import NO_START, TRANSFORMERS, DistillSettings, is_folder
from eyas.tasks import CALIBRATION
from eyas.teachers import AlignedTeacher, align
from eyas.teachers.aligned import AnyTeacher, live
from eyas.training.arguments import with_known_arguments, with_precision
from eyas.training.callbacks import early_stopping
from eyas.training.checks import check_recipe
from eyas.training.folders import WORK, write_part, write_result
from eyas.training.recipes import Stage, default_recipe, make_stages, recipe_name, recipe_source
from eyas.training.starts import read_start, start_identity, vectors_identity, with_default_start
from eyas.training.steps import LENGTHS, stage_arguments
from eyas.training.student_checks import check_student
from eyas.training.students import create_student, head_order
from eyas.training.teachers import with_answers
from eyas.training.trainer import DistillationTrainer
from eyas.transfer import check_transfer, sources_of, transfer_set
from eyas.transfer.texts import with_default_augment
from eyas.verbosity import without_bars

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class Subject:
    """One of the tasks: what is taught, by whom, on which texts.

    Args:
        teacher: live, not aligned.
        data: train and validation.
        settings: of the whole training; without a recipe, the default of the task.
    """

    def __init__(self, name: str, teacher: AnyTeacher, data: TaskData, settings: DistillSettings) -> None:
        self.name = name
        self.data = data.with_labels_of(live(teacher).label_names)
        task, pair = self.data.task, self.data.is_pair
        self.data.check_validation()
        check_transfer(settings.transfer, task, pair)
        student = replace(settings.student, crf=settings.student.crf and task.is_tagging)
        check_student(student, task)
        self.recipe, self.options = str(settings.recipe or default_recipe(task, student.crf)), settings.recipe_options
        self.stage = _only_stage(replace(settings, recipe=self.recipe))
        check_recipe(self.recipe, [self.stage], student, task, pair, live(teacher))
        more: Dataset | None = None
        if self.stage.needs_teacher:
            settings, self.data, more = with_answers([live(teacher)], settings, self.data, None)
        self.transfer = with_default_augment(settings, self.data, more is not None, self.stage.needs_teacher).transfer
        self.teacher = align(teacher, self.data)
        taught = self.stage.needs_teacher
        self.dataset = (
            transfer_set(self.data, self.teacher, more, self.transfer) if taught else labeled_rows(self.data["train"])
        )

    @property
    def label_names(self) -> list[str]:
        return self.teacher.label_names if are_generic(self.data.labels) else self.data.labels

    def asked(self, cache: str | Path | None, live_teacher: bool) -> AlignedTeacher | None:
        """The teacher of the training: none, its cached logits, or itself."""
        if not self.stage.needs_teacher:
            return None
        own = None if cache is None else Path(cache) / self.name
        return self.teacher if live_teacher else self.teacher.label(self.dataset, own)


@without_bars()
def distill_tasks(
    teachers: Mapping[str, AnyTeacher],
    data: Mapping[str, TaskData],
    out: str | Path,
    settings: DistillSettings | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    record: dict[str, Any] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    own: Mapping[str, DistillSettings] | None = None,
) -> Path:
    """Train one student on several tasks at once, after MKD (Liu et al. 2019), and write it to `out`.

    Each batch has texts of one task; the objective is that task's.

    Args:
        teachers: of each task.
        data: of each task, as from `load_data`.
        cache: a folder, in which each task's logits get one; by default found by fingerprint.
        record: origin of teachers and data, for `eyas.json`.
        callbacks: as in transformers.
        own: of each task, the settings whose recipe and transfer set replace those of `settings`.

    Returns:
        `out`, a Hugging Face model folder, with a folder for each task.

    Raises:
        EyasError: invalid input, raised before any training step.
    """
    settings = with_known_arguments(settings or DistillSettings())
    arguments = with_precision(settings.arguments, settings.student.architecture)
    source = recipe_source(settings.recipe)
    settings = replace(settings, recipe=recipe_name(settings.recipe or ""), arguments=arguments)
    check_tasks(teachers, data)
    subjects = []
    for name, teacher in teachers.items():
        named = (own or {}).get(name, settings)
        named = replace(settings, recipe=named.recipe, recipe_options=named.recipe_options, transfer=named.transfer)
        check_settings(named)
        subjects.append(Subject(name, teacher, data[name], named))
    first = next((one for one in subjects if one.data.task.is_tagging), subjects[0])
    settings = with_default_start(settings, first.data, live(first.teacher).tokenizer)
    output = OutputFolder(
        out,
        {
            "command": "distill",
            **(record or {}),
            **processes.recorded(),
            **asdict(settings),
            **source,
            "transfer_sources": sources_of(settings.transfer),
            "init": start_identity(settings.student.init),
            **vectors_identity(settings.student.embeddings),
            "tasks": {
                one.name: {
                    "teacher": live(one.teacher).fingerprint,
                    "recipe": one.recipe,
                    "recipe_options": one.options,
                    "transfer_set": data_fingerprint(one.dataset),
                    "validation": one.data.fingerprint("validation"),
                    "labels": one.data.labels,
                }
                for one in subjects
            },
        },
        overwrite,
    )
    if output.is_finished:
        return output.path
    with output as folder:
        _train(subjects, first, settings, folder, cache, callbacks)
    return output.path


def check_tasks(teachers: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Raises DataError unless there are several tasks with good names, each with a teacher and data."""
    wrong = next((name for name in (*data, *teachers) if not NAME.fullmatch(name)), None)
    if wrong is not None:
        raise DataError(f"A task is called {wrong!r}, expected letters, digits, - and _, such as intent (--task).")
    taken = next((name for name in data if hasattr(nn.ModuleDict(), name)), None)
    if taken is not None:
        raise DataError(f"A task cannot be called {taken!r}, which torch uses. Choose another name (--task).")
    for name in (*data, *teachers):
        if name not in teachers or name not in data:
            what, other = ("teacher", "data") if name in data else ("data", "teacher")
            raise DataError(
                f"The task {name!r} has no {what}, only {other}. Give both: --task {name}=DATA --teacher "
                f"{name}=TEACHER."
            )
    if len(data) < 2:
        raise DataError(f"Expected several tasks, got {', '.join(data) or 'none'}. For one, use --data and --teacher.")


def check_settings(settings: DistillSettings) -> None:
    """Raises ModelError for what a student of several tasks does not take."""
    student, transfer = settings.student, settings.transfer
    if student.architecture not in (*STUDENTS, *TRANSFORMERS):
        raise ModelError(
            f"A student of several tasks is one of {', '.join((*STUDENTS, *TRANSFORMERS))}, got {student.architecture} "
            "(--student)."
        )
    for wanted, what in (
        (bool(student.char_embedding_size), "char_embedding_size (--char-embedding-size)"),
        (bool(student.compress), "compress (--compress)"),
        (bool(transfer.select), "select (--select)"),
        (bool(transfer.mixup or transfer.smoothing), "mixup and smoothing (--mixup, --smoothing)"),
        (bool(settings.label_map), "label_map (--label-map)"),
    ):
        if wanted:
            raise ModelError(f"A student of several tasks does not take {what}. Leave it out.")
    if settings.recipe:
        _only_stage(settings)


def _only_stage(settings: DistillSettings) -> Stage:
    stages = make_stages(settings.recipe, settings.recipe_options)
    if len(stages) > 1 or stages[0].needs_layers or stages[0].before or stages[0].replacing:
        raise ModelError(
            f"A student of several tasks learns from logits, in one stage: {settings.recipe} (--recipe) does not fit. "
            "Choose logit-mse, soft-targets, dist or hard-labels."
        )
    return stages[0]


def create_tasks_student(
    subjects: Sequence[Subject], first: Subject, settings: DistillSettings
) -> tuple[TasksForSequenceClassification, Any]:
    """A student with the words of all tasks, and an output layer for each.

    Args:
        first: whose teacher provides the tokenizer and the word vectors.
    """
    base: Any
    base, tokenizer = create_student(settings.student, first.teacher, _texts(subjects, first), first.label_names)
    common = {name: value for name, value in base.config.to_dict().items() if name not in ("id2label", "label2id")}
    architecture, tasks = settings.student.architecture, {}
    for one in subjects:
        names, task = one.label_names, one.data.task
        tasks[one.name] = {
            **common,
            "id2label": dict(enumerate(names)),
            "label2id": {name: number for number, name in enumerate(names)},
            "data_labels": one.data.labels,
            "eyas_task": task.kind,
            "problem_type": PROBLEMS.get(task.kind),
            "pair": one.data.is_pair,
            "crf": settings.student.crf and task.is_tagging,
        }
        if architecture in STUDENTS:
            kind: Any = (TAGGERS if task.is_tagging else STUDENTS)[architecture]
            tasks[one.name]["model_type"] = kind.config_class.model_type
    shared = ("vocab_size", "embedding_size", "pad_token_id", "hidden_size", "dropout")
    sizes = {name: common[name] for name in shared if name in common}
    config = TasksConfig(architecture=architecture, tasks=tasks, max_length=settings.student.max_length, **sizes)
    model = TasksForSequenceClassification(config)
    if architecture in TRANSFORMERS:
        width = live(first.teacher).model.config.hidden_size
        copied = settings.student.copies_layers(width) and not is_folder(settings.student.init)
        for one in subjects if copied else ():
            if (order := head_order(one.teacher, one.label_names)) is not None:
                copy_head(model.student(one.name), live(one.teacher).model, order)
        model.student(first.name).load_state_dict(base.state_dict(), strict=False)  # it may have a pooler, base none
    for one in subjects if architecture in STUDENTS else ():
        student: Any = model.student(one.name)
        if type(student.encoder) is type(base.encoder):
            student.encoder.load_state_dict(base.encoder.state_dict())
        elif settings.student.init not in (None, NO_START):
            read_start(settings.student, one.dataset, one.data.task).load(student)
        if one.data.task.is_tagging:
            student.continues.copy_(base.continues)
    model.embeddings.load_state_dict(base.get_input_embeddings().state_dict())
    model.embeddings.weight.requires_grad_(not settings.student.freeze_embeddings)
    pair = any(one.data.is_pair for one in subjects)
    if pair:
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return model, tokenizer


def _texts(subjects: Sequence[Subject], first: Subject) -> Dataset:
    """The texts of all tasks as unlabeled rows of the task of `first`."""
    tagging = first.data.task.is_tagging
    parts = []
    for one in subjects:
        columns = ("text", "text_pair") if is_pair(one.dataset) else ("text",)
        for column in columns:
            texts = list(one.dataset[column])
            words = one.dataset["tokens"] if "tokens" in one.dataset.column_names else [text.split() for text in texts]
            rows = Dataset.from_dict(
                {"example_id": range(len(texts)), "text": texts, **({"tokens": list(words)} if tagging else {})}
            )
            labels = unlabeled(len(texts), first.data.task, np.array([len(row) for row in words]))
            parts.append(concatenate_datasets([rows, labels], axis=1))
    return concatenate_datasets(parts)


def _train(
    subjects: Sequence[Subject],
    first: Subject,
    settings: DistillSettings,
    folder: Path,
    cache: str | Path | None,
    callbacks: Sequence[TrainerCallback],
) -> None:
    teachers = {one.name: one.asked(cache, settings.live) for one in subjects}
    set_seed(settings.seed)
    student, tokenizer = create_tasks_student(subjects, first, settings)
    stage, rows = first.stage, sum(len(one.dataset) for one in subjects)
    # As many epochs as a task of their mean size has alone, so that each has about as many steps. In turns, an epoch
    # ends with the smallest task.
    in_turns = settings.arguments.get("multi_dataset_batches") == "round-robin"
    rows_of_one = min(len(one.dataset) for one in subjects) if in_turns else math.ceil(rows / len(subjects))
    width = getattr(live(first.teacher).model.config, "hidden_size", 0)
    arguments = stage_arguments(stage, settings, rows_of_one, folder / WORK / "stage-0", width)
    may_stop = not any(one.stage.is_scheduled for one in subjects) and not LENGTHS & {
        *stage.arguments,
        *settings.arguments,
    }
    trainer = DistillationTrainer(
        student,
        arguments,
        train_dataset={one.name: one.dataset for one in subjects},
        eval_dataset={one.name: one.data["validation"] for one in subjects},
        processing_class=tokenizer,
        losses={one.name: one.stage.losses for one in subjects},
        teacher=teachers,
        callbacks=[*callbacks, *early_stopping(arguments, rows_of_one * len(subjects), settings.patience, may_stop)],
    )
    trainer.train(resume_from_checkpoint=True)
    configs = student.config.tasks or {}
    for one in subjects:
        own, validation = student.student(one.name), one.data["validation"]
        setattr(own.config, CALIBRATION, calibration(Classifier(own, tokenizer), validation))
        configs[one.name] = own.config.to_dict()
        if processes.is_first():
            write_part(own, tokenizer, validation, folder / one.name, one.name)
    history = [{"stage": 0, **entry} for entry in trainer.state.log_history]
    write_result(student, tokenizer, None, history, folder)
