"""finetune, pretrain-student, distill: what trains; recipes: how."""

import logging
from typing import Annotated, Any

import typer

from eyas.cli.options import (
    STUDENTS,
    Augment,
    BatchSize,
    Cache,
    Combination,
    Data,
    Embeddings,
    EmbeddingSize,
    Epochs,
    FeedForward,
    Heads,
    HiddenSize,
    Init,
    Label,
    LabelMap,
    Layers,
    LearningRate,
    MaxLength,
    MostUnlabelled,
    Out,
    Overwrite,
    Quiet,
    Recipe,
    RecipeOptions,
    RepairTags,
    Seed,
    Select,
    TaskName,
    TeacherDtype,
    TeacherFolder,
    Text,
    TextPair,
    Unlabelled,
    VocabSize,
    log_to_stderr,
    noted,
    read_data,
    read_unlabelled,
    training_arguments,
    transfer_settings,
    with_default_augment,
)

logger = logging.getLogger("eyas")


def finetune(
    model: Annotated[str, typer.Option(help="Pretrained encoder: a folder or a Hub name.", show_default=False)],
    data: Data,
    out: Out,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    task: TaskName = None,
    repair_tags: RepairTags = False,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    max_length: MaxLength = 256,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Make a teacher: fine-tune a pretrained encoder on labelled data."""
    log_to_stderr(quiet)
    from eyas.training.finetune import FinetuneSettings
    from eyas.training.finetune import finetune as run

    loaded = read_data(data, text, text_pair, label, task, repair_tags)
    arguments = training_arguments(epochs, batch_size, learning_rate)
    settings = FinetuneSettings(arguments=arguments, seed=seed, max_length=max_length)
    run(model, loaded, out, settings, overwrite, record=noted(source=data, model=model))
    logger.info("The teacher is in %s.", out)


def pretrain_student(
    teacher: Annotated[str, typer.Option(help="Pretrained encoder: a folder or a Hub name.", show_default=False)],
    text_files: Annotated[
        list[str],
        typer.Option("--text", help="Files of lines, JSONL, Parquet, folders, patterns, Hub sets. Repeatable."),
    ],
    out: Out,
    student: Annotated[str, typer.Option(help=STUDENTS)] = "bilstm",
    recipe: Annotated[
        Recipe,
        typer.Option(metavar="<name>", help="sra: sentence vectors; for transformers also tinybert, minilm, minilmv2."),
    ] = Recipe.SRA,
    option: RecipeOptions = None,
    pooling: Annotated[
        str | None,
        typer.Option(help="The teacher's vector: mean or cls.", show_default="its folder's, else mean"),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Column of the texts.", show_default="found")] = None,
    embeddings: Embeddings = "teacher",
    embedding_size: EmbeddingSize = None,
    hidden_size: HiddenSize = None,
    vocab_size: VocabSize = None,
    layers: Layers = None,
    heads: Heads = None,
    ffn: FeedForward = None,
    init: Init = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    max_length: MaxLength = 128,
    cache: Cache = None,
    dtype: TeacherDtype = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Teach a student a pretrained encoder's sentence vectors, before any task: finetune it, or start from it."""
    log_to_stderr(quiet)
    from eyas.data.datasets import load_unlabelled
    from eyas.data.sources import Columns
    from eyas.teachers import Encoder
    from eyas.training.distill import DistillSettings
    from eyas.training.pretrain import pretrain_student as run
    from eyas.training.recipes import make_stages, parse_recipe
    from eyas.training.student_settings import StudentSettings, check_architecture

    check_architecture(student)
    _, options = parse_recipe(" ".join([recipe, *(option or ())]))
    make_stages(recipe, options)
    settings = DistillSettings(
        student=StudentSettings(
            architecture=student,
            embeddings=embeddings,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            vocab_size=vocab_size,
            max_length=max_length,
            layers=layers,
            heads=heads,
            feed_forward=ffn,
            init=init,
        ),
        recipe=recipe,
        recipe_options=options,
        arguments=training_arguments(epochs, batch_size, learning_rate),
        seed=seed,
    )
    texts = load_unlabelled(text_files, Columns(text=column))
    encoder = Encoder(teacher, pooling=pooling, max_length=max_length, dtype=dtype)  # type: ignore[arg-type]
    run(encoder, texts, out, settings, cache, overwrite, record=noted(teacher=teacher, source=text_files))
    logger.info("The student is in %s.", out)


def distill(
    teacher: TeacherFolder,
    data: Data,
    out: Out,
    student: Annotated[str, typer.Option(help=STUDENTS)] = "bilstm",
    recipe: Annotated[
        Recipe | None,
        typer.Option(
            help="Method; hard-labels is the baseline without a teacher. eyas recipes lists them.",
            show_default="dist, or logit-mse for two classes, for numbers and with --crf",
        ),
    ] = None,
    option: RecipeOptions = None,
    unlabelled: Unlabelled = None,
    most_unlabelled: MostUnlabelled = None,
    augment: Augment = None,
    select: Select = None,
    mixup: Annotated[
        float, typer.Option(min=0.0, help="Mix the word vectors of two texts, shares from Beta(MIXUP, MIXUP); 0 = no.")
    ] = 0.0,
    smoothing: Annotated[
        str, typer.Option(help="Smooth texts by this masked language model (slow).", show_default=False)
    ] = "",
    embeddings: Embeddings = "teacher",
    embedding_size: EmbeddingSize = None,
    hidden_size: HiddenSize = None,
    vocab_size: VocabSize = None,
    char_embedding_size: Annotated[
        int, typer.Option(min=0, help="Taggers: dimension of a convolution over characters; 0 = none.")
    ] = 0,
    crf: Annotated[bool, typer.Option("--crf", help="Taggers: choose tags as a sequence.")] = False,
    layers: Layers = None,
    heads: Heads = None,
    ffn: FeedForward = None,
    init: Init = None,
    combination: Combination = "logits",
    freeze_embeddings: Annotated[bool, typer.Option("--freeze-embeddings", help="Do not train word vectors.")] = False,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    max_length: MaxLength = 256,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    task: TaskName = None,
    repair_tags: RepairTags = False,
    label_map: LabelMap = None,
    cache: Cache = None,
    dtype: TeacherDtype = None,
    live: Annotated[bool, typer.Option("--live", help="Ask the teacher in every step (slow).")] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a student on a teacher's answers."""
    log_to_stderr(quiet)
    from eyas.data.labels import parse_label_map
    from eyas.teachers import Teacher
    from eyas.training.distill import DistillSettings
    from eyas.training.distill import distill as run
    from eyas.training.recipes import make_stages, parse_recipe
    from eyas.training.student_settings import StudentSettings, check_architecture

    check_architecture(student)
    _, options = parse_recipe(" ".join([recipe or "default", *(option or ())]))
    if recipe:
        make_stages(recipe, options)
    transfer = transfer_settings(augment, select, most_unlabelled, mixup, smoothing)
    loaded = read_data(data, text, text_pair, label, task, repair_tags)
    transfer = with_default_augment(transfer, augment, loaded, bool(unlabelled), recipe or "")
    settings = DistillSettings(
        student=StudentSettings(
            architecture=student,
            embeddings=embeddings,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            vocab_size=vocab_size,
            freeze_embeddings=freeze_embeddings,
            max_length=max_length,
            char_embedding_size=char_embedding_size,
            crf=crf,
            layers=layers,
            heads=heads,
            feed_forward=ffn,
            init=init,
            combination=combination,
        ),
        recipe=recipe or "",
        recipe_options=options,
        transfer=transfer,
        arguments=training_arguments(epochs, batch_size, learning_rate),
        seed=seed,
        live=live,
        label_map=parse_label_map(label_map) if label_map else None,
    )
    run(
        Teacher(teacher, max_length=max_length, dtype=dtype),
        loaded,
        out,
        settings,
        unlabelled=read_unlabelled(unlabelled, loaded, text, text_pair),
        cache=cache,
        overwrite=overwrite,
        record=noted(
            teacher=teacher,
            source=data,
            unlabelled=unlabelled,
            text=text,
            text_pair=text_pair,
            label=label,
            task=task and str(task),
            repair_tags=repair_tags,
            teacher_dtype=dtype and str(dtype),
        ),
    )
    logger.info("The student is in %s.", out)


def recipes(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the recipes: what each does, its paper, what it reads of the teacher, for which students, at what cost, and
    its options."""
    import json
    from inspect import signature

    from eyas.training.recipes import CHOICES, COMMON, RECIPES, measured_costs

    rows: dict[str, Any] = {}
    costs = measured_costs()
    for name, recipe in RECIPES.items():
        stages = recipe()
        fields = sorted(frozenset().union(*(stage.teacher_fields for stage in stages)))
        about = (recipe.__doc__ or "").strip().splitlines()[0]
        needs = {loss.needs for stage in stages for loss in stage.losses} - {""}
        if any(stage.replacing for stage in stages):
            fields, needs = ["layers"], {"as wide as the teacher"}
        students = "transformers" if any(stage.is_for_transformers for stage in stages) else "all"
        rows[name] = {"about": about, "stages": len(stages), "reads": fields, "students": students}
        rows[name]["needs"] = " ".join(needs)
        rows[name]["cost_per_step"] = costs.get(name)
        rows[name]["options"] = {option: known.default for option, known in signature(recipe).parameters.items()}
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    width = max(map(len, rows)) + 2
    for name, row in rows.items():
        print(f"{name:<{width}}{row['about']}")
        known = {option: "(its own)" if value is None else value for option, value in row["options"].items()}
        options = ", ".join(f"{option}={value}" for option, value in known.items())
        cost = f"; a step costs {row['cost_per_step']} of hard-labels'" if row["cost_per_step"] else ""
        print(
            f"{'':<{width}}  reads {', '.join(row['reads']) or 'nothing'} of the teacher; "
            f"students: {' '.join(filter(None, (row['students'], row['needs'])))}{cost}"
        )
        if options:
            print(f"{'':<{width}}  options: {options}")
    print(f"\nOptions of all: {', '.join(f'{option}={value}' for option, value in COMMON.items())}. What they may be:")
    for name, choices in CHOICES.items():
        more = ", or pairs of layers: 1-3,2-6" if name == "mapping" else ""
        print(f"  {name}: {', '.join(choices)}{more}")
    print("  temperatures and weights: a number, or linear:8:1, cosine:8:1, steps:8:4:1, annealing:7")
