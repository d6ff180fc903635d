"""augment, label: the texts that the student will learn from, and the teacher's answers."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from eyas.cli.options import (
    Augment,
    Cache,
    Data,
    Label,
    MaxLength,
    MostUnlabelled,
    Quiet,
    RepairTags,
    Seed,
    TaskName,
    TeacherDtype,
    TeacherFolder,
    Text,
    TextPair,
    Unlabelled,
    log_to_stderr,
    read_data,
    read_unlabelled,
    transfer_settings,
    with_default_augment,
)

logger = logging.getLogger("eyas")


def augment(
    teacher: TeacherFolder,
    data: Data,
    out: Annotated[Path, typer.Option(help="File to write, JSON lines.", show_default=False)],
    method: Annotated[str, typer.Option(help="tang, neighbours, masked-lm or doubts.")] = "tang",
    per_text: Annotated[int, typer.Option(min=1, help="Variants of each text.")] = 20,
    source: Annotated[
        str,
        typer.Option(help="masked-lm: its folder; neighbours: a vector file; doubts: a student.", show_default=False),
    ] = "",
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    task: TaskName = None,
    repair_tags: RepairTags = False,
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, for methods without a model.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Make new texts of the training texts, to look at. distill --augment does it by itself."""
    log_to_stderr(quiet)
    from eyas.teachers import Teacher
    from eyas.transfer.augmentation import Augmentation, augment, write_texts

    wanted = Augmentation.parse(f"{method}:{per_text}" + (f":{source}" if source else ""))
    loaded = read_data(data, text, text_pair, label, task, repair_tags)
    write_texts(augment(loaded["train"], wanted, Teacher(teacher), seed, jobs), loaded["train"], out)
    logger.info("The new texts are in %s.", out)


def label(
    teacher: TeacherFolder,
    data: Data,
    unlabelled: Unlabelled = None,
    most_unlabelled: MostUnlabelled = None,
    augment: Augment = None,
    cache: Cache = None,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    task: TaskName = None,
    repair_tags: RepairTags = False,
    max_length: MaxLength = 256,
    dtype: TeacherDtype = None,
    quiet: Quiet = False,
) -> None:
    """Compute the teacher's logits for every training text, once. distill does it by itself."""
    log_to_stderr(quiet)
    from eyas.teachers import Teacher
    from eyas.transfer import transfer_set

    settings = transfer_settings(augment, most=most_unlabelled)
    loaded = read_data(data, text, text_pair, label, task, repair_tags)
    settings = with_default_augment(settings, augment, loaded, bool(unlabelled))
    loaded_teacher = Teacher(teacher, max_length=max_length, dtype=dtype)
    more = read_unlabelled(unlabelled, loaded, text, text_pair)
    cached = loaded_teacher.label(transfer_set(loaded, loaded_teacher, more, settings), cache)
    logger.info("The logits of %s texts are in %s.", f"{cached.fingerprint['rows']:,}", cached.folder)
