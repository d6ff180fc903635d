"""augment, label: the transfer set, and the teacher's logits."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from eyas.cli.expand import with_options
from eyas.cli.options import (
    Cache,
    Data,
    MaxLength,
    Quiet,
    Seed,
    TeacherDtype,
    TeacherFolder,
    Unlabeled,
    log_to_stderr,
    read_data,
)
from eyas.errors import EyasError
from eyas.outputs import refuse_inputs
from eyas.settings import Columns, DistillSettings, TransferSettings

logger = logging.getLogger("eyas")


@with_options
def augment(
    *,
    teacher: TeacherFolder,
    data: Data,
    out: Annotated[Path, typer.Option(help="Output file, JSON lines.", show_default=False)],
    columns: Columns,
    method: Annotated[str, typer.Option(help="tang, neighbors, masked-lm or doubts.")] = "tang",
    per_text: Annotated[int, typer.Option(min=1, help="Variants of each text.")] = 20,
    source: Annotated[
        str,
        typer.Option(
            help="masked-lm: a model folder; neighbors: a vector file; doubts: a student.", show_default=False
        ),
    ] = "",
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, for methods without a model.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Write the texts that distill --augment would generate, for inspection."""
    log_to_stderr(quiet)
    from eyas.teachers import Teacher
    from eyas.transfer.augmentation import Augmentation, augment, write_texts

    if out.is_dir():
        raise EyasError(f"{out} is a folder, expected a file (--out), such as {out / 'new.jsonl'}.")
    read = [Path(part) for part in (data, source, teacher) if part]
    refuse_inputs(out.absolute(), [*read, *(file for folder in read if folder.is_dir() for file in folder.iterdir())])
    out.parent.mkdir(parents=True, exist_ok=True)
    wanted = Augmentation.parse(f"{method}:{per_text}" + (f":{source}" if source else ""))
    loaded = read_data(data, columns)
    write_texts(augment(loaded["train"], wanted, Teacher(teacher), seed, jobs), loaded["train"], out)
    logger.info("The new texts are in %s.", out)


@with_options
def label(
    *,
    teacher: TeacherFolder,
    data: Data,
    columns: Columns,
    transfer: TransferSettings,
    unlabeled: Unlabeled = None,
    cache: Cache = None,
    max_length: MaxLength = 256,
    dtype: TeacherDtype = None,
    ray: Annotated[
        str | None, typer.Option(help="Label on a Ray cluster: auto, or its address.", show_default=False)
    ] = None,
    ray_cpus: Annotated[float, typer.Option(min=0.1, help="CPUs per copy of the teacher on the cluster.")] = 1.0,
    quiet: Quiet = False,
) -> None:
    """Compute and cache the teacher's logits for every text that distill would use."""
    log_to_stderr(quiet)
    from eyas.data.datasets import load_unlabeled
    from eyas.teachers import Teacher
    from eyas.training.teachers import named_fields
    from eyas.transfer.texts import check_transfer, transfer_set, with_default_augment

    check_transfer(transfer)
    loaded = read_data(data, columns)
    check_transfer(transfer, loaded.task, loaded.is_pair)
    named = named_fields(Columns(text=columns.text, text_pair=columns.text_pair), loaded)
    more = load_unlabeled(unlabeled, named, loaded.task.is_tagging) if unlabeled else None
    settings = with_default_augment(DistillSettings(transfer=transfer), loaded, more is not None).transfer
    loaded_teacher = Teacher(teacher, max_length=max_length, dtype=dtype)
    texts = transfer_set(loaded, loaded_teacher, more, replace(settings, select=()))
    cached = loaded_teacher.label(texts, cache, ray, ray_cpus)
    logger.info("The logits of %s texts are in %s.", f"{cached.fingerprint['rows']:,}", cached.folder)
