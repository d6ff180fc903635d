"""Distill a teacher into a student folder."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback

from eyas import processes
from eyas.compression import check_methods, parse_methods
from eyas.data.datasets import data_fingerprint, is_labeled
from eyas.data.labels import are_generic
from eyas.data.task_data import TaskData
from eyas.errors import DataError, ModelError
from eyas.outputs import OutputFolder
from eyas.settings import MIXED, TRANSFORMERS, DistillSettings, is_folder
from eyas.tasks import Task
from eyas.teachers import AlignedTeacher, FileTeacher, align
from eyas.teachers.aligned import AnyTeacher, live
from eyas.teachers.live import fingerprint_of
from eyas.training.arguments import with_known_arguments, with_precision
from eyas.training.checks import StudentKind, check_fields, check_losses, check_recipe
from eyas.training.recipes import Stage, default_recipe, make_stages, recipe_name, recipe_source
from eyas.training.recipes.base import compressed_by
from eyas.training.run import DistillationRun, Start
from eyas.training.starts import start_identity, vectors_identity
from eyas.training.steps import with_length
from eyas.training.student_checks import check_student
from eyas.training.vocabulary import check_mixed
from eyas.transfer import check_transfer, sources_of, transfer_set
from eyas.verbosity import without_bars


@without_bars()
def distill(
    teacher: AnyTeacher,
    data: TaskData,
    out: str | Path,
    settings: DistillSettings | None = None,
    unlabeled: Dataset | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    record: dict[str, Any] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    start: Start | None = None,
    request: dict[str, Any] | None = None,
    examine: Callable[[AlignedTeacher, TaskData], None] | None = None,
) -> Path:
    """Label the texts with the teacher (once), train a student on them, and write it to `out`.

    An interrupted run resumes when called again with the same arguments, and ends with the same weights.

    Args:
        data: as from `load_data`.
        unlabeled: more texts for the transfer set, as from `load_unlabeled`.
        cache: folder for the teacher's logits; by default chosen by fingerprint.
        record: origin of teacher and data, for `eyas.json`.
        callbacks: as in transformers.
        start: a model with its head, and its tokenizer, to train instead of a new student.
        request: as for `OutputFolder`.
        examine: called with the aligned teacher and the data after all checks, before any training.

    Returns:
        `out`, a Hugging Face model folder.

    Raises:
        EyasError: invalid input, raised before any training step.
    """
    settings = with_known_arguments(settings or DistillSettings())
    data = data.with_labels_of(live(teacher).label_names, settings.label_map)
    task, pair = data.task, data.is_pair
    source = recipe_source(settings.recipe)
    settings, stages = _with_defaults(settings, task)
    data.check_validation()
    check_transfer(settings.transfer, task, pair)
    if start is None:
        check_student(settings.student, task)
        if settings.student.embeddings == MIXED:
            check_mixed(live(teacher))
        check_recipe(str(settings.recipe), stages, settings.student, task, pair, live(teacher))
        settings = with_length(settings, stages, live(teacher).max_length)
    else:
        check_losses([loss for stage in stages for loss in stage.losses], StudentKind.of(start[0]), task)
    like = live(teacher).model if start is None else start[0]
    layers = settings.student.size.layers if settings.student.architecture in TRANSFORMERS and start is None else None
    methods = parse_methods([*settings.student.compress, *compressed_by(stages)])
    if start is not None or not is_folder(settings.student.init):
        check_methods(methods, like, layers)
    for stage in stages:
        if stage.needs_teacher:
            check_fields(stage.losses, live(teacher))
    if isinstance(live(teacher), FileTeacher) and any(stage.is_below_head for stage in stages):
        raise ModelError(
            f"{settings.recipe} needs the teacher's answers to the validation texts, but a file of answers cannot give "
            "them. Choose another recipe (--recipe), or pass a model as the teacher."
        )
    if any(not stage.needs_teacher for stage in stages) and not is_labeled(data["train"]).any():
        raise DataError(
            f"The recipe {settings.recipe} learns from labels, but no training text has one. Name their column "
            "(--label), or choose a recipe that learns from the teacher, such as logit-mse (--recipe)."
        )
    aligned = align(teacher, data, settings.label_map)
    dataset = transfer_set(data, aligned, unlabeled, settings.transfer)
    output = OutputFolder(
        out,
        {
            "command": "distill",
            **(record or {}),
            **processes.recorded(),
            **asdict(settings),
            **source,
            "teacher_fingerprint": live(teacher).fingerprint,
            "transfer_set": data_fingerprint(dataset),
            "transfer_sources": sources_of(settings.transfer),
            "init": start_identity(settings.student.init),
            **vectors_identity(settings.student.embeddings),
            "start": None if start is None else fingerprint_of(*start),
            "validation": data.fingerprint("validation"),
            "labels": data.labels,
        },
        overwrite,
        request=request,
    )
    if output.is_finished:
        return output.path
    with output as folder:
        if examine is not None:
            examine(aligned, data)
        run = DistillationRun(aligned, data, settings, stages, dataset, start)
        run.prepare(cache)
        run.train(aligned.label_names if are_generic(data.labels) else data.labels, folder, callbacks)
    return output.path


def _with_defaults(settings: DistillSettings, task: Task) -> tuple[DistillSettings, list[Stage]]:
    """The settings with defaults filled in, and the recipe's stages."""
    recipe = settings.recipe or default_recipe(task, settings.student.crf)
    stages = make_stages(recipe, settings.recipe_options)
    arguments = with_precision(settings.arguments, settings.student.architecture)
    return replace(settings, recipe=recipe_name(recipe), arguments=arguments), stages
