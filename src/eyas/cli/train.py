"""finetune, distill, compress, pretrain-student: train models."""

import logging
import os
from dataclasses import replace
from typing import Annotated, Any

import typer

from eyas.cli.closing import beside, command, say_trained, say_writing
from eyas.cli.expand import with_options
from eyas.cli.options import (
    Cache,
    Data,
    Domains,
    EncoderFolder,
    EncoderFolders,
    LabelMap,
    MaxLength,
    OptionalData,
    Out,
    Overwrite,
    Quiet,
    RecipeOptions,
    Seed,
    TeacherDtype,
    Unlabeled,
    log_to_stderr,
    named_domains,
)
from eyas.cli.several_tasks import parse_tasks, refuse, say_tasks
from eyas.errors import EyasError
from eyas.kinds import GENERATION, KINDS
from eyas.settings import (
    DATA,
    METHOD,
    SENTENCE_LENGTH,
    STUDENT,
    Columns,
    CompressionTrainingOptions,
    DistillSettings,
    FinetuneSettings,
    StudentSettings,
    TeacherTrainingOptions,
    TrainingOptions,
    TransferSettings,
)

logger = logging.getLogger("eyas")


Method = Annotated[
    str | None,
    typer.Option(
        help="Method: `eyas recipes` lists them; your own as package.module:function. hard-labels is the baseline "
        "without a teacher.",
        show_default="dist; logit-mse for binary and multi-label classification, regression and CRF taggers",
        rich_help_panel=METHOD,
    ),
]


@with_options
def finetune(
    *,
    model: EncoderFolders,
    shared_head: Annotated[
        bool,
        typer.Option(
            "--shared-head",
            help="Train several encoders (--model, repeated) at once under one head, as teachers of one student.",
            rich_help_panel=DATA,
        ),
    ] = False,
    data: OptionalData = None,
    domain: Domains = None,
    columns: Columns,
    max_length: MaxLength = 256,
    training: TeacherTrainingOptions,
    seed: Seed = 0,
    out: Out,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Make a teacher: fine-tune a pretrained encoder on labeled data."""
    log_to_stderr(quiet)
    from eyas.api import finetune as run
    from eyas.api import finetune_together

    settings = FinetuneSettings(arguments=training.arguments, seed=seed, max_length=max_length)
    domains = named_domains(domain) if domain else None
    if shared_head:
        if data is None or domains or columns.task == GENERATION:
            raise EyasError("--shared-head needs --data, and does not take --domain or --task generation.")
        made = finetune_together(model, data, out, settings=settings, columns=columns, overwrite=overwrite)
        options: dict[str, Any] = {"teacher": [one.path for one in made.values()], "recipe": "mt-bert", "data": data}
        following = command("distill", {**options, "out": beside(out, "student")}, columns)
        for number, (name, one) in enumerate(made.items(), 1):
            say_trained(f"teacher {name}", one.path, data, columns, following if number == len(made) else None)
        return
    if len(model) > 1:
        raise EyasError("Several encoders (--model) are trained at once with --shared-head. Pass it, or name one.")
    run(model[0], data, out, domains=domains, settings=settings, columns=columns, overwrite=overwrite)
    say = say_writing if columns.task == GENERATION else say_trained
    for name, source in (domains or {"": str(data)}).items():
        options = {"teacher": out, "data": source, "out": beside(out, f"student-{name}" if name else "student")}
        recipe = {"recipe": "meta-kd", "student": "bert", "layers": 3} if name else {}
        what = f"teacher of {name}" if name else "teacher"
        say(what, out, source, columns, command("distill", {**options, **recipe}, columns))


@with_options
def distill(
    *,
    teacher: Annotated[
        list[str],
        typer.Option(
            help="Fine-tuned classifier or tagger: a folder or a Hub name; or a file of answers or an exported folder "
            "(docs/teachers.md). "
            "Repeatable.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ],
    data: OptionalData = None,
    unlabeled: Unlabeled = None,
    transfer: TransferSettings,
    columns: Columns,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Task: {', '.join(KINDS)}; {GENERATION}. Or, instead of --data, one of several tasks of one student, "
            "NAME=DATA[:COLUMN OF LABELS], with --teacher NAME=TEACHER (docs/several-tasks.md). Repeatable.",
            show_default="inferred from the columns",
            rich_help_panel=DATA,
        ),
    ] = None,
    domain: Domains = None,
    label_map: LabelMap = None,
    student: StudentSettings,
    recipe: Method = None,
    option: RecipeOptions = None,
    dtype: TeacherDtype = None,
    teachers: Annotated[
        str | None,
        typer.Option(
            help="How several teachers are combined: mean (of logits), probabilities, confidence, joined, sampled, "
            "sampled:2,1, label-loss, reinforced.",
            show_default="mean",
            rich_help_panel=METHOD,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="For a file of answers or an exported teacher: the encoder from which the student takes its words.",
            show_default="that of eyas[demo]",
            rich_help_panel=METHOD,
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="For a file of single answers: their probability.", show_default="0.95", rich_help_panel=METHOD
        ),
    ] = None,
    zero_shot: Annotated[
        str | None,
        typer.Option(
            help="For a model of entailment: LABEL,LABEL or LABEL=HYPOTHESIS,LABEL=HYPOTHESIS.",
            show_default=False,
            rich_help_panel=METHOD,
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Run the teacher in every step (slow).", rich_help_panel=METHOD)
    ] = False,
    training: TrainingOptions,
    seed: Seed = 0,
    out: Out,
    cache: Cache = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a student on a teacher's predictions."""
    log_to_stderr(quiet)
    import eyas.api
    from eyas.api import distill as run
    from eyas.data.labels import parse_label_map
    from eyas.models.loading import is_seq2seq_folder
    from eyas.teachers.answers import is_answers
    from eyas.teachers.exported import is_exported
    from eyas.teachers.zero_shot import parse_hypotheses
    from eyas.training.recipes import parse_recipe

    _, options = parse_recipe(" ".join([recipe or "default", *(option or ())]))
    settings = DistillSettings(
        student=student,
        recipe=recipe or "",
        recipe_options=options,
        transfer=transfer,
        arguments=training.arguments,
        seed=seed,
        live=live,
        label_map=parse_label_map(label_map) if label_map else None,
    )
    if task and (len(task) > 1 or "=" in task[0]):
        one = {"data": data, "domain": domain, "unlabeled": unlabeled, "teachers": teachers}
        refuse({**one, "zero-shot": zero_shot})
        tasks = parse_tasks(task, teacher, columns)
        more: Any = {"columns": tasks.columns, "teacher_dtype": dtype, "cache": cache, "overwrite": overwrite}
        more |= {"encoder": encoder, "confidence": confidence}
        eyas.api.distill_tasks(tasks.teachers, tasks.data, out, settings=settings, **more)
        say_tasks(out, tasks)
        return
    if data is None:
        raise EyasError("Expected --data; or several tasks, --task NAME=DATA --teacher NAME=TEACHER for each.")
    columns = replace(columns, task=task[0]) if task else columns
    run(
        teacher[0] if len(teacher) == 1 else teacher,
        data,
        out,
        settings=settings,
        unlabeled=unlabeled or None,
        columns=columns,
        domains=named_domains(domain) if domain else None,
        teacher_dtype=dtype,
        teachers=teachers,
        encoder=encoder,
        zero_shot=None if zero_shot is None else parse_hypotheses(zero_shot),
        confidence=confidence,
        cache=cache,
        overwrite=overwrite,
    )
    export = command("export", {"model": out, "out": beside(out, "shipped"), "int8": True})
    if is_seq2seq_folder(out):
        say_writing("student", out, data, columns, export, teacher[0])
        return
    special = zero_shot is not None or is_answers(teacher[0]) or is_exported(teacher[0])
    alone = None if special or len(teacher) > 1 else f"{out}-teacher" if domain else teacher[0]
    say_trained("student", out, data, columns, export, alone, settings.label_map)


@with_options
def compress(
    *,
    model: Annotated[str, typer.Option(help="Folder of a teacher or a student.", rich_help_panel=STUDENT)],
    method: Annotated[
        list[str],
        typer.Option(
            help="low-rank:SHARE, low-rank:budget:SHARE and low-rank:energy:SHARE keep that share; layers:SHARE, "
            "heads:SHARE, units:SHARE and prune:SHARE remove it; shared, ternary (ternary:layer, ternary:loss-aware), "
            "int4, int8. Repeatable: one after the other.",
            show_default=False,
            rich_help_panel=METHOD,
        ),
    ],
    data: Data,
    unlabeled: Unlabeled = None,
    transfer: TransferSettings,
    columns: Columns,
    label_map: LabelMap = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="How the model teaches its smaller self: `eyas recipes` lists them.",
            show_default="same-layers; for our own students that of distill",
            rich_help_panel=METHOD,
        ),
    ] = None,
    option: RecipeOptions = None,
    training: CompressionTrainingOptions,
    seed: Seed = 0,
    out: Out,
    cache: Cache = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Make a trained model smaller, with itself as the teacher: low rank, pruning, shared layers, few bits."""
    log_to_stderr(quiet)
    from eyas.api import compress as run
    from eyas.data.labels import parse_label_map
    from eyas.training.recipes import parse_recipe

    _, options = parse_recipe(" ".join([recipe or "default", *(option or ())]))
    settings = DistillSettings(
        recipe=recipe or "",
        recipe_options=options,
        transfer=transfer,
        arguments=training.arguments,
        seed=seed,
        label_map=parse_label_map(label_map) if label_map else None,
    )
    run(
        model,
        method,
        data,
        out,
        recipe=recipe,
        settings=settings,
        unlabeled=unlabeled or None,
        columns=columns,
        cache=cache,
        overwrite=overwrite,
    )
    export = command("export", {"model": out, "out": beside(out, "shipped"), "int8": True})
    say_trained("compressed model", out, data, columns, export, model)


@with_options
def pretrain_student(
    *,
    teacher: EncoderFolder,
    text_files: Annotated[
        list[str],
        typer.Option(
            "--text",
            help="Files of lines, JSONL, Parquet, folders, patterns, Hub data sets. Repeatable.",
            rich_help_panel=DATA,
        ),
    ],
    student: StudentSettings = StudentSettings(max_length=SENTENCE_LENGTH),  # noqa: B008 (frozen)
    recipe: Annotated[
        str,
        typer.Option(
            help="sra: vectors of sentences and tokens; for transformers also tinybert, minilm, minilmv2.",
            rich_help_panel=METHOD,
        ),
    ] = "sra",
    option: RecipeOptions = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="The teacher's vector: mean or cls.", show_default="from its folder, else mean", rich_help_panel=METHOD
        ),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Text column.", show_default="found", rich_help_panel=DATA)] = None,
    dtype: TeacherDtype = None,
    training: TrainingOptions,
    seed: Seed = 0,
    out: Out,
    cache: Cache = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train students on an encoder's vectors of sentences and tokens, before any task, to start others from."""
    log_to_stderr(quiet)
    from eyas.api import pretrain_student as run
    from eyas.training.recipes import parse_recipe

    _, options = parse_recipe(" ".join([recipe, *(option or ())]))
    settings = DistillSettings(
        student=student, recipe=recipe, recipe_options=options, arguments=training.arguments, seed=seed
    )
    run(
        teacher,
        text_files,
        out,
        settings=settings,
        columns=Columns(text=column),
        pooling=pooling,
        teacher_dtype=dtype,
        cache=cache,
        overwrite=overwrite,
    )
    place = os.path.relpath(out)
    options = {"model": out, "data": "DATA", "out": beside(out, "tuned")}
    logger.info("The student is in %s.", place)
    logger.info("Next: %s, or with a teacher: eyas distill --init %s ...", command("finetune", options), place)
