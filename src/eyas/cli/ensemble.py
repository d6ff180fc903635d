"""join, prune-ensemble: combine students into an ensemble, or drop members."""

import logging
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from eyas.cli.closing import beside, command
from eyas.cli.expand import with_options
from eyas.cli.options import Data, LabelMap, Out, Overwrite, Quiet, log_to_stderr, read_data
from eyas.settings import Columns

logger = logging.getLogger("eyas")


@with_options
def join(
    *,
    member: Annotated[
        list[Path],
        typer.Option(help="A student with the same frozen word vectors. Repeatable.", show_default=False),
    ],
    out: Out,
    combination: Annotated[
        str, typer.Option(help="How to combine the members: logits, probabilities or weights.")
    ] = "logits",
    data: Annotated[
        str | None, typer.Option(help="Data whose validation texts fit the weights.", show_default=False)
    ] = None,
    columns: Columns,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Combine separately trained students into an ensemble."""
    log_to_stderr(quiet)
    from eyas.training.ensembles import join as run

    rows = read_data(data, columns)["validation"] if data else None
    run(member, out, combination, rows, overwrite)
    logger.info("The ensemble is in %s.", os.path.relpath(out))
    logger.info("Next: %s", _export(out))


@with_options
def prune_ensemble(
    *,
    model: Annotated[str, typer.Option(help="Folder of an ensemble.", show_default=False)],
    data: Data,
    out: Out,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Largest allowed drop in score, such as 0.002.")] = 0.0,
    columns: Columns,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Find the smallest subset of an ensemble that keeps its validation score."""
    log_to_stderr(quiet)
    from eyas.training.ensembles import prune_ensemble as run

    loaded = read_data(data, columns)
    chosen, *others = run(model, loaded["validation"], out, tolerance, overwrite)
    for found in (chosen, *others):
        mark = "*" if found is chosen else " "
        print(f"{mark} {found.score:.4f}  {found.parameters:>9,} parameters  {', '.join(found.members)}")
    logger.info("The ensemble of %s is in %s.", ", ".join(chosen.members), os.path.relpath(out))
    logger.info("Next: %s", _export(out))


def _export(out: Path) -> str:
    return command("export", {"model": out, "out": beside(out, "shipped"), "int8": True})


@with_options
def cascade(
    *,
    student: Annotated[
        list[Path],
        typer.Option(help="Exported student; repeatable, the fastest first.", show_default=False),
    ],
    teacher: Annotated[Path, typer.Option(help="Exported teacher.", show_default=False)],
    data: Data,
    min_retention: Annotated[
        float, typer.Option(help="Share of the teacher's score to keep, with 95 % confidence.")
    ] = 0.995,
    label_map: LabelMap = None,
    out: Out,
    columns: Columns,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Let students answer where they are sure, and the teacher the rest."""
    log_to_stderr(quiet)
    from eyas.data.labels import parse_label_map
    from eyas.exam.cascade import make_cascade, sentence

    given = parse_label_map(label_map) if label_map else None
    found = make_cascade(student, teacher, read_data(data, columns), out, min_retention, overwrite, given)
    names = [folder.resolve().name for folder in (*student, teacher)]
    for scored in found:
        print(sentence(scored, min_retention, names))
    logger.info("The cascade is in %s. Next: eyas serve %s", *[shlex.quote(os.path.relpath(out))] * 2)
