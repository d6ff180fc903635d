"""exam, report, best, demo: find the best student."""

import logging
import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyas.cli.closing import beside, command
from eyas.cli.expand import with_options
from eyas.cli.options import Overwrite, Quiet, Seed, Unlabeled, log_to_stderr
from eyas.errors import EyasError
from eyas.outputs import strict_json
from eyas.settings import DATA, STUDENT_NAMES, Columns, TrainingOptions, TransferSettings

if TYPE_CHECKING:
    from eyas.exam.plan import Plan
    from eyas.exam.results import Requirements

logger = logging.getLogger("eyas")

ExamFolder = Annotated[Path, typer.Argument(help="Folder of an exam.", show_default=False)]
Retention = Annotated[float | None, typer.Option(min=0.0, help="Required share of the teacher's score.")]
LatencyMs = Annotated[float | None, typer.Option(min=0.0, help="Maximum median time per text, ms.")]
SizeMb = Annotated[float | None, typer.Option(min=0.0, help="Maximum size of weights and tokenizer, MB.")]


@with_options
def exam(
    *,
    plan: Annotated[
        Path | None, typer.Argument(help="YAML plan; without one, --teacher and --data.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the exam; an existing one is resumed.")] = Path("exam"),
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="As for distill: a folder or a Hub name, a file of answers, an exported folder. Repeatable: several "
            "answer together.",
            show_default=False,
        ),
    ] = None,
    teachers: Annotated[
        str | None,
        typer.Option(help="How several teachers are combined, as for distill.", show_default="mean"),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="The encoder that the teacher was made from, for a baseline, or from which students of a teacher "
            "without a model take their words; none.",
            show_default="found",
        ),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="For a file of single answers, as for distill.", show_default="0.95")
    ] = None,
    zero_shot: Annotated[
        str | None, typer.Option(help="For a model of entailment, as for distill.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data as for distill: a folder, a file or a Hub name.", show_default=False)
    ] = None,
    student: Annotated[
        list[str] | None,
        typer.Option(help=f"A student to examine: {STUDENT_NAMES}. Repeatable.", show_default="static to cnn-lstm"),
    ] = None,
    recipe: Annotated[
        list[str] | None, typer.Option(help="A recipe to try. Repeatable.", show_default="as in distill")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds.", show_default="3")] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(help="A student made before, a folder, to examine as it is. Repeatable.", show_default=False),
    ] = None,
    unlabeled: Unlabeled = None,
    transfer: TransferSettings,
    training: TrainingOptions,
    columns: Columns,
    tune: Annotated[
        int, typer.Option(min=0, help="Tune each student's settings first, in N trials on validation texts.")
    ] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Parallel trials on this machine.")] = 1,
    ray: Annotated[
        str | None, typer.Option(help="Run the trials on a Ray cluster: auto, or its address.", show_default=False)
    ] = None,
    ray_cpus: Annotated[float, typer.Option(min=0.1, help="CPUs per trial on the cluster.")] = 1.0,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the trials and the time they take, measured on 20 steps, and stop."),
    ] = False,
    min_retention: Retention = 0.97,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    quiet: Quiet = False,
) -> None:
    """Compare many students on one page: score, latency, memory, size."""
    log_to_stderr(quiet)
    from eyas.teachers.zero_shot import parse_hypotheses

    labels = None if zero_shot is None else parse_hypotheses(zero_shot)
    given = {"source": data, **asdict(columns), "unlabeled": unlabeled}
    given |= {"encoder": encoder, "confidence": confidence, "zero_shot": labels}
    usual = asdict(TransferSettings())
    chosen = {name: value for name, value in asdict(transfer).items() if value != usual[name]}
    entry = {**{name: value for name, value in given.items() if value or isinstance(value, float)}, **chosen}
    if entry and not data and plan is None:
        raise EyasError(f"--{next(iter(entry)).replace('_', '-')} describes --data, which is missing.")
    made = _plan(
        plan,
        data=[entry] if entry else None,
        teacher=teacher or None,
        teachers=teachers,
        students=student or None,
        recipes=recipe or None,
        seeds=list(range(seeds)) if seeds else None,
        arguments=training.arguments or None,
        tune=tune or None,
        add=add or None,
    )
    if dry_run:
        from eyas.exam.estimate import estimate
        from eyas.exam.run import planned_trials

        trials = planned_trials(made)
        for trial in trials:
            print(trial.title)
        print(f"{len(trials)} trials: {estimate(trials, jobs, made.tune)}.")
        return
    from eyas.exam.results import Requirements
    from eyas.exam.run import run_exam

    folder = run_exam(made, out, jobs, ray, ray_cpus)
    _draw(folder, Requirements(min_retention), show)
    if not quiet:
        _say(folder, Requirements(min_retention))
    if _all_failed(folder):
        raise typer.Exit(1)


def report(
    folder: ExamFolder,
    min_retention: Retention = 0.97,
    max_latency_ms: LatencyMs = None,
    max_size_mb: SizeMb = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    quiet: Quiet = False,
) -> None:
    """Redraw an exam's page, with a verdict for your requirements."""
    log_to_stderr(quiet)
    _draw(folder, _requirements(min_retention, max_latency_ms, max_size_mb), show)


def best(
    folder: ExamFolder,
    min_retention: Retention = 0.97,
    max_latency_ms: LatencyMs = None,
    max_size_mb: SizeMb = None,
    dataset: Annotated[
        str | None, typer.Option(help="Which data set, if there are several.", show_default=False)
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Copy the exported student to this folder.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Print the cheapest student that meets the requirements, chosen by validation scores."""
    log_to_stderr(quiet)
    from eyas.exam.best import find_best

    found = find_best(folder, _requirements(min_retention, max_latency_ms, max_size_mb), dataset)
    if export is not None:
        from eyas.report import ship

        ship(folder, found, export, overwrite)
        logger.info("The student is in %s. Next: eyas serve %s", *[shlex.quote(os.path.relpath(export))] * 2)
    if as_json:
        print(strict_json(found))
        return
    print(found["title"])
    for name in ("score", "retention", "agreement", "validation_retention"):
        print(f"  {name.replace('_', ' '):<22}{found[name]:.1%}")
    faster = found["times_faster"]
    speed = "" if faster is None else f", {faster:,.0f} times the teacher's speed"
    print(f"  {'latency':<22}{found['latency_ms']:.3f} ms{speed}")
    print(f"  {'size':<22}{found['size_bytes'] / 1e6:.2f} MB")


def demo(
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("demo"),
    data: Annotated[
        str | None,
        typer.Option(help="Your own data, as for distill.", show_default="400 built-in reviews", rich_help_panel=DATA),
    ] = None,
    unlabeled: Unlabeled = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Pretrained encoder: a folder or a Hub name.", show_default="all-MiniLM-L6-v2", rich_help_panel=DATA
        ),
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Everything in one command, on built-in data or yours: teacher, students, exam, page, best student exported."""
    log_to_stderr(quiet)
    if unlabeled and not data:
        raise EyasError("--unlabeled comes with --data, which is missing.")
    from eyas.demo import run

    run(out, data, unlabeled or (), model, seed, overwrite)


def _plan(path: Path | None, **fields: Any) -> "Plan":
    from eyas.exam.plan_file import make_plan, read_plan

    given = {name: value for name, value in fields.items() if value is not None}
    if path is None:
        for name in ("teacher", "data"):
            if name not in given:
                raise EyasError(f"Pass a plan, or --teacher and --data; --{name} is missing.")
        return make_plan(**given)
    if given:
        options = ", ".join(sorted(given))
        raise EyasError(
            f"The plan {path.name} cannot be combined with options, got {options}. Write them into the plan, or leave "
            "them out."
        )
    return read_plan(path)


def _requirements(retention: float | None, latency_ms: float | None, size_mb: float | None) -> "Requirements":
    from eyas.exam.results import Requirements

    return Requirements(retention, latency_ms, None if size_mb is None else size_mb * 1e6)


def _all_failed(folder: Path) -> bool:
    """Whether all students of a data set failed."""
    from eyas.exam.results import load_exam

    rows = load_exam(folder)
    students = rows[rows["kind"] == "student"]
    return bool(((students["status"] != "done").groupby(students["dataset"]).all()).any())


def _say(folder: Path, requirements: "Requirements") -> None:
    """Print the table and the verdict of each data set, and the command that ships its student."""
    from eyas.report.terminal import print_table, reachable, verdicts

    found = list(verdicts(folder, requirements))
    for name, table, verdict in found:
        print_table(table)
        print(f"{name}: {verdict}" if len(found) > 1 else verdict)
        if not (table["kind"] == "student").any() or table["validation_retention"].isna().all():
            continue
        options = {"min_retention": reachable(table, requirements).retention, "export": beside(folder, "shipped")}
        chosen = {"dataset": name} if len(found) > 1 else {}
        print(f"Next: {command('best', {**chosen, **options}, argument=folder)}\n")


def _draw(folder: Path, requirements: "Requirements", show: bool) -> None:
    from eyas.report import write_page

    path = write_page(folder, requirements)
    logger.info("The page is %s.", os.path.relpath(path))
    if show:
        typer.launch(path.as_uri())
