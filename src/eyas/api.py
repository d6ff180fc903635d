"""The Python API: paths or objects in, a trained model out."""

import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, TrainerCallback

from eyas import processes
from eyas.compression import FORMS, parse_methods
from eyas.data.datasets import load_data, load_unlabeled
from eyas.data.task_data import TaskData
from eyas.encoders import find_encoder
from eyas.errors import DataError, ModelError, OutputError
from eyas.exam.linear import examine_teacher
from eyas.generation import run as _generation
from eyas.kinds import GENERATION
from eyas.models import STUDENTS, TAGGERS, is_student
from eyas.models.classifier import Classifier
from eyas.models.inside import RELATIVE
from eyas.models.loading import is_seq2seq_folder, is_student_folder
from eyas.outputs import finished_request
from eyas.settings import (
    FIELD_MODELS,
    GENERAL,
    SENTENCE_LENGTH,
    Columns,
    DistillSettings,
    FinetuneSettings,
    StudentSettings,
    check_architecture,
)
from eyas.teachers import AlignedTeacher, CombinedTeacher, Encoder, Teacher, align
from eyas.teachers.aligned import live
from eyas.teachers.answers import DEFAULT_ENCODER, is_answers
from eyas.teachers.exported import is_exported
from eyas.trained import TrainedModel
from eyas.training import distill as _distill
from eyas.training import finetune as _finetune
from eyas.training import pretrain as _pretrain
from eyas.training import several_tasks as _tasks
from eyas.training.arguments import with_known_arguments
from eyas.training.checks import check_recipe
from eyas.training.domains import check_labels, check_names, join_domains, load_domains
from eyas.training.pretrain import SRA
from eyas.training.recipes import make_stages, recipe_name, recipe_source
from eyas.training.shared_head import finetune_together as _finetune_together
from eyas.training.shared_head import names_of
from eyas.training.starts import start_identity, vectors_identity, with_default_start
from eyas.training.teachers import (
    check_named,
    examined,
    named_fields,
    open_teachers,
    takes,
    with_answers,
    with_recipe_of,
)
from eyas.transfer.augmentation import identity
from eyas.transfer.texts import check_transfer, sources_of, with_default_augment

logger = logging.getLogger("eyas")

Source = Any  # anything `load_data` accepts


def distill(
    teacher: Any,
    data: Source,
    out: str | Path | None = None,
    student: str | StudentSettings | tuple[PreTrainedModel, Any] | None = None,
    *,
    recipe: str | Callable[..., Any] | None = None,
    settings: DistillSettings | None = None,
    unlabeled: Any = None,
    columns: Columns | None = None,
    domains: Mapping[str, Source] | None = None,
    teacher_dtype: str | None = None,
    teachers: str | None = None,
    encoder: str | Path | None = None,
    confidence: float | None = None,
    zero_shot: Sequence[str] | Mapping[str, str] | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainedModel:
    """Distill a teacher into a student: label the texts once, train, keep the best checkpoint.

    An interrupted call resumes when repeated with the same arguments; the result is bit-identical.

    Args:
        teacher: a fine-tuned classifier or tagger: a folder, a Hub name or a loaded `Teacher`; a file of answers (see
            `FileTeacher`); an exported folder; a `FunctionTeacher` or `ZeroShotTeacher`; or a list of these, combined
            by the rule `teachers`; or an encoder-decoder, for a student that writes texts (docs/generation.md).
        data: anything `load_data` accepts.
        out: output folder, written atomically; by default a temporary one, deleted with the result.
        student: an architecture, `StudentSettings`, or (model, tokenizer) to start from a model with its head;
            overrides `settings`.
        recipe: the distillation method; overrides `settings`.
        settings: all other settings; see `DistillSettings`.
        unlabeled: more texts for the teacher to label: anything `load_unlabeled` accepts.
        columns: column names and task, if they do not follow the conventions.
        domains: the data of several domains, on which `teacher`, an encoder's folder or Hub name, is fine-tuned first;
            see `finetune`. The result is written to `out` with "-teacher" appended.
        teacher_dtype: "float32" or "bfloat16"; by default the fastest on this machine.
        teachers: how several teachers are combined: mean (of logits), probabilities, confidence, joined, sampled,
            label-loss or reinforced; see docs/teachers.md.
        encoder: for teachers without a model, the encoder from which the student takes its words.
        confidence: for files of single answers, their probability.
        zero_shot: the labels, or {label: hypothesis}, for which a model of entailment is asked; see `ZeroShotTeacher`.
        cache: folder of the teacher's logits; by default found by fingerprint.
        overwrite: replace a run with other settings in `out`.
        callbacks: as in transformers.

    Raises:
        EyasError: invalid input, raised before any training step.
    """
    settings, start = _merge_settings(settings or DistillSettings(), student, recipe)
    settings = with_recipe_of(teachers, settings)
    check_architecture(settings.student.architecture)
    if _is_generation(teacher, columns):
        refused: dict[str, Any] = {"student": start, "unlabeled": unlabeled, "teachers": teachers, "encoder": encoder}
        refused |= {"confidence": confidence, "zero_shot": zero_shot}
        _refuse_for_generation(refused, teacher)
        result, record = _result(out), _origins(teacher=teacher, source=data)
        written = (os.fspath(teacher), data, result.path, settings, columns, teacher_dtype, cache, overwrite)
        _generation.distill(*written, record, callbacks)
        return result
    stages = make_stages(settings.recipe, settings.recipe_options) if settings.recipe else []
    check_transfer(settings.transfer)
    result = _result(out)
    if domains is not None:
        if stages:
            check_recipe(recipe_name(settings.recipe), stages, settings.student)
        teacher = _meta_teacher(teacher, domains, load_data(data, columns), result.path, columns, settings, overwrite)
    record = {
        **_origins(teacher=teacher, source=data, unlabeled=unlabeled),
        **_named(columns),
        **({"teacher_dtype": str(teacher_dtype)} if teacher_dtype else {}),
        **{k: v for k, v in (("teachers", teachers), ("encoder", _name(encoder)), ("confidence", confidence)) if v},
        **({"zero_shot": dict(zero_shot) if isinstance(zero_shot, Mapping) else list(zero_shot)} if zero_shot else {}),
    }
    sources = {"teacher": teacher, "source": data, "unlabeled": unlabeled}
    listed = teacher if isinstance(teacher, list | tuple) else [teacher]
    if any(map(is_answers, listed)) or any(map(is_exported, listed)):
        sources["encoder"] = find_encoder(_name(encoder) or DEFAULT_ENCODER)
    request = _request(record, sources, settings)
    if not overwrite and start is None and finished_request(result.path, request):
        return result
    data = load_data(data, columns)
    more = None if unlabeled is None else _unlabeled(unlabeled, named_fields(columns, data), data.task.is_tagging)
    taught = not stages or any(stage.needs_teacher for stage in stages)
    given = (("encoder", _name(encoder)), ("confidence", confidence), ("zero_shot", zero_shot))
    named = {k: v for k, v in given if v is not None}
    opened = open_teachers(teacher, data, columns, settings.student.max_length, teacher_dtype, named)
    teacher = opened[0] if len(opened) == 1 and teachers is None else CombinedTeacher(opened, teachers or "mean")
    if taught:
        settings, data, more = with_answers(opened, settings, data, more)
    elif more is not None or settings.transfer.augment or settings.transfer.smoothing:
        logger.warning(
            "The recipe %s learns from the labeled training texts alone: of the texts of unlabeled (--unlabeled) and "
            "augment (--augment), it takes only the words; smoothing (--smoothing) is left out.",
            recipe_name(settings.recipe),
        )
    settings = with_default_augment(settings, data, more is not None, taught)
    settings = with_default_start(settings, data, live(teacher).tokenizer) if start is None else settings
    known = (teacher, data, result.path, settings, more, cache, overwrite, record, callbacks, start, request)
    _distill.distill(*known, (lambda aligned, own: _examine(aligned, examined(opened, own))) if taught else None)
    return result


def distill_tasks(
    teachers: Mapping[str, Any],
    data: Mapping[str, Source],
    out: str | Path | None = None,
    student: str | StudentSettings | None = None,
    *,
    recipe: str | None = None,
    settings: DistillSettings | None = None,
    columns: Mapping[str, Columns] | None = None,
    teacher_dtype: str | None = None,
    encoder: str | Path | None = None,
    confidence: float | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, TrainedModel]:
    """Distill one student for several tasks, such as a sentence's intent and its slots, after MKD (Liu et al. 2019).

    Its word vectors and, where both read texts or words, its encoder are the same for all tasks. Interrupted calls
    resume, as with `distill`.

    Args:
        teachers: the teacher of each task, by the task's name: any that `distill` takes, but one for each.
        data: the data of each task: anything `load_data` accepts.
        out: as for `distill`.
        student: an architecture, but no ensemble, or `StudentSettings`; overrides `settings`.
        recipe: of all tasks; by default that which `distill` has for each; overrides `settings`.
        settings: all other settings; see `DistillSettings`.
        columns: of each task that needs it.
        teacher_dtype: as for `distill`.
        encoder: as for `distill`.
        confidence: as for `distill`.
        cache: a folder, in which each task's logits get one; by default found by fingerprint.
        overwrite: as for `distill`.
        callbacks: as in transformers.

    Returns:
        The student of each task. Its folder is one in `out`, `out/intent`, and works with every command.

    Raises:
        EyasError: invalid input, raised before any training step.
    """
    settings, start = _merge_settings(settings or DistillSettings(), student, recipe)
    if start is not None:
        raise ModelError("distill_tasks makes a new student: expected an architecture or StudentSettings.")
    _tasks.check_tasks(teachers, data)
    result = _result(out)
    named = {name: (columns or {}).get(name) for name in data}
    record = {name: _origins(teacher=teachers[name], source=data[name]) for name in data}
    given = {k: v for k, v in (("encoder", _name(encoder)), ("confidence", confidence)) if v is not None}
    check_named(given, list(teachers.values()))
    loaded = {name: load_data(source, named[name]) for name, source in data.items()}
    opened = {}
    for name, teacher in teachers.items():
        own, length = {k: v for k, v in given.items() if takes(teacher, k)}, settings.student.max_length
        opened[name] = open_teachers(teacher, loaded[name], named[name], length, teacher_dtype, own)[0]
    _tasks.distill_tasks(opened, loaded, result.path, settings, cache, overwrite, {"origins": record}, callbacks)
    return _parts(result, {name: result.path / name for name in data})


def compress(
    model: str | Path | TrainedModel,
    methods: str | Sequence[str],
    data: Source,
    out: str | Path | None = None,
    *,
    recipe: str | Callable[..., Any] | None = None,
    settings: DistillSettings | None = None,
    unlabeled: Any = None,
    columns: Columns | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainedModel:
    """Make a trained model smaller, and train it in its compressed form with itself as the teacher.

    What is written is an ordinary model of the same class; `export` stores and runs it as what it is: products of thin
    matrices, fewer heads, 2 bits a weight.

    Args:
        model: the folder of a teacher or a student.
        methods: one after the other: "low-rank:0.25" (share of the parameters that are kept; "low-rank:budget:0.25"
            spreads it over the layers, "low-rank:energy:0.9" keeps that share of each matrix's energy), "layers:0.5",
            "heads:0.3", "units:0.5" and "prune:0.5" (shares that are removed), "shared" (half of the layers, run
            twice), "ternary", "int4" or "int8" (weights of few bits).
        data: anything `load_data` accepts.
        out: as for `distill`.
        recipe: by default same-layers for a transformer; for our own students that of `distill`.
        settings: all other settings; the sizes of its student are ignored, because they are the model's. By default
            a transformer trains on the training texts alone.
        unlabeled: as for `distill`.
        columns: as for `distill`.
        cache: as for `distill`.
        overwrite: as for `distill`.
        callbacks: as in transformers.

    Raises:
        EyasError: invalid input, raised before any training step.
    """
    methods = (methods,) if isinstance(methods, str) else tuple(methods)
    if not methods:
        raise ModelError(f"compress got no methods (--method), expected some of {FORMS}.")
    parse_methods(methods)
    settings, folder = settings or DistillSettings(), os.fspath(model)
    more: Any = {"unlabeled": unlabeled, "columns": columns, "cache": cache}
    more |= {"overwrite": overwrite, "callbacks": callbacks}
    classifier = Classifier.from_pretrained(folder)
    if is_student_folder(folder):
        named = _like(classifier.model, StudentSettings(settings.student.architecture, compress=methods))
        student = (classifier.model, classifier.tokenizer)
        return distill(folder, data, out, student, recipe=recipe, settings=replace(settings, student=named), **more)
    dropout, length = settings.student.dropout, classifier.max_length
    named = StudentSettings("bert", compress=methods, max_length=length, dropout=dropout)
    settings, recipe = replace(settings, student=named), recipe or settings.recipe
    if settings.transfer.augment is None:  # it knows its training texts already, and each costs a pass of two models
        settings = replace(settings, transfer=replace(settings.transfer, augment=()))
    if not recipe:
        recipe = "same-layers"
        if classifier.model.config.model_type in RELATIVE:  # its scores of attention cannot be compared
            settings = replace(settings, recipe_options={"attention_weight": 0, **settings.recipe_options})
    return distill(folder, data, out, recipe=recipe, settings=settings, **more)


def finetune(
    model: str | Path,
    data: Source | None = None,
    out: str | Path | None = None,
    *,
    domains: Mapping[str, Source] | None = None,
    settings: FinetuneSettings | None = None,
    columns: Columns | None = None,
    overwrite: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainedModel:
    """Fine-tune a pretrained encoder as a teacher: AdamW, linear warm-up and decay, best checkpoint.

    Interrupted calls resume, as with `distill`.

    Args:
        model: a pretrained encoder: a folder or a Hub name; the head is newly initialized. For rows of fields the name
            of a new model, such as cin. For the task generation, an encoder-decoder, or a new one: "marian", or with
            sizes "marian:layers=3,hidden_size=256"; see docs/generation.md.
        data: anything `load_data` accepts.
        out: as for `distill`.
        domains: instead of `data`, the data of each of several domains with the same labels, for a meta-teacher; see
            docs/domains.md.
        settings: see `FinetuneSettings`.
        columns: as for `distill`.
        overwrite: as for `distill`.
        callbacks: as in transformers.

    Raises:
        EyasError: invalid input, raised before any training step.
    """
    settings, model = with_known_arguments(settings or FinetuneSettings()), os.fspath(model)
    if (data is None) == (domains is None):
        raise DataError("Expected either data (--data) or domains (--domain NAME=DATA for each).")
    if domains is not None:
        check_names(domains)
    result = _result(out)
    sources = {"source": data} if domains is None else {f"domain {name}": part for name, part in domains.items()}
    record = _origins(**sources)
    if columns is not None and columns.task == GENERATION:
        if domains is not None:
            raise ModelError("domains (--domain) are for classifiers, and the task is generation. Leave one out.")
        _generation.finetune(model, data, result.path, settings, columns, overwrite, record, callbacks)
        return result
    encoder = None if model in FIELD_MODELS else find_encoder(model)
    request = _request({**record, **_named(columns), "model": model}, {"model": encoder, **sources}, settings)
    if not overwrite and finished_request(result.path, request):
        return result
    parts = None if domains is None else load_domains(domains, columns)
    data = load_data(data, columns) if parts is None else join_domains(parts)
    _finetune.finetune(model, data, result.path, settings, overwrite, record, callbacks, request, parts)
    single = not (data.is_pair or data.task.is_tagging or model in FIELD_MODELS or is_student_folder(model))
    if processes.is_first():
        teacher = Teacher(result.path, max_length=settings.max_length)
        _examine(align(teacher, data), data, _encoder(model, settings.max_length) if single else None)
    return result


def finetune_together(
    models: Sequence[str | Path],
    data: Source,
    out: str | Path | None = None,
    *,
    settings: FinetuneSettings | None = None,
    columns: Columns | None = None,
    overwrite: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, TrainedModel]:
    """Fine-tune several encoders under one pooling and output layer, as teachers of one student.

    After MT-BERT (Wu et al. 2021): their hidden states then mean the same, so that the recipe `mt-bert` with
    `hidden_weight` can compare them with a student's.

    Args:
        models: pretrained encoders of one family and hidden size: folders or Hub names.
        data: anything `load_data` accepts.
        out: as for `distill`; gets a folder for each.
        settings: see `FinetuneSettings`.
        columns: as for `distill`.
        overwrite: as for `distill`.
        callbacks: as in transformers.

    Returns:
        The teachers, by the names of their folders.

    Raises:
        EyasError: invalid input, raised before any training step.
    """
    models = [os.fspath(model) for model in models]
    names_of(models)
    result, record = _result(out), {**_origins(source=data), "model": models}
    loaded = load_data(data, columns)
    folders = _finetune_together(models, loaded, result.path, settings, overwrite, record, callbacks)
    return _parts(result, folders)


def _parts(whole: TrainedModel, folders: Mapping[str, Path]) -> dict[str, TrainedModel]:
    """The models in the folder of several."""
    parts = {name: TrainedModel(folder) for name, folder in folders.items()}
    for part in parts.values():
        part._whole = whole  # a temporary folder lives as long as any of them
    return parts


def _meta_teacher(
    encoder: Any,
    domains: Mapping[str, Source],
    data: TaskData,
    out: Path,
    columns: Columns | None,
    settings: DistillSettings,
    overwrite: bool,
) -> TrainedModel:
    """The encoder fine-tuned on the domains, beside the student in `out`.

    Raises:
        ModelError: the encoder is none, or several.
        LabelError: the student's data have other labels than the domains.
    """
    if not isinstance(encoder, str | os.PathLike) or is_answers(encoder) or is_exported(encoder):
        raise ModelError("domains (--domain) fine-tune one encoder: expected its folder or Hub name (--teacher).")
    check_names(domains)
    loaded = load_domains(domains, columns)
    check_labels(data, join_domains(loaded))
    own = FinetuneSettings(seed=settings.seed, max_length=settings.student.max_length)
    place = out.with_name(f"{out.name}-teacher")
    return finetune(os.fspath(encoder), out=place, domains=loaded, settings=own, overwrite=overwrite)


def _refuse_for_generation(given: Mapping[str, Any], teacher: Any) -> None:
    """Raise ModelError for arguments of `distill` that are not for students that write."""
    wrong = next((name for name, value in given.items() if value is not None), None)
    if wrong is not None:
        raise ModelError(
            f"{wrong} is given, but students that write do not take it (docs/generation.md). Leave it out."
        )
    if not isinstance(teacher, str | os.PathLike):
        raise ModelError("A student that writes has one teacher: expected its folder or its name on the Hub.")


def _is_generation(teacher: Any, columns: Columns | None) -> bool:
    """Whether the task is generation: named, or that of the teacher's folder."""
    if columns is not None and columns.task is not None:
        return columns.task == GENERATION
    return isinstance(teacher, str | os.PathLike) and is_seq2seq_folder(os.fspath(teacher))


def _encoder(model: str, length: int) -> Encoder | None:
    """The pretrained encoder; None if it has no sentence vectors of a kind that eyas knows."""
    try:
        return Encoder(model, max_length=length)
    except ModelError:
        return None


def pretrain_student(
    teacher: str | Path | Encoder,
    texts: Any,
    out: str | Path | None = None,
    student: str | StudentSettings | None = None,
    *,
    recipe: str | None = None,
    settings: DistillSettings | None = None,
    columns: Columns | None = None,
    pooling: Any = None,
    teacher_dtype: str | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainedModel:
    """Train students to reproduce a pretrained encoder's sentence vectors and states of tokens, before any task.

    Args:
        teacher: a pretrained encoder: a folder, a Hub name or a loaded `Encoder`.
        texts: anything `load_unlabeled` accepts; single texts only.
        out: as for `distill`.
        student: an architecture or `StudentSettings`; overrides `settings`. Without either it reads 128 tokens.
        recipe: by default sra; other recipes contribute only their stages that compare layers.
        settings: all other settings; see `DistillSettings`.
        columns: the text column.
        pooling: of the teacher's tokens, "mean" or "cls"; by default as its folder specifies, otherwise mean.
        teacher_dtype: as for `distill`.
        cache: folder of the teacher's vectors; by default found by fingerprint.
        overwrite: as for `distill`.
        callbacks: as in transformers.

    Raises:
        EyasError: invalid input, raised before any training step.
    """
    usual = DistillSettings(StudentSettings(max_length=SENTENCE_LENGTH))
    settings, _ = _merge_settings(settings or usual, student, recipe)
    check_architecture(settings.student.architecture)
    make_stages(settings.recipe or SRA, settings.recipe_options)
    result = _result(out)
    record = _origins(teacher=teacher, source=texts)
    rows = _unlabeled(texts, columns, tagging=False)
    if not isinstance(teacher, Encoder):
        teacher = Encoder(teacher, pooling=pooling, max_length=settings.student.max_length, dtype=teacher_dtype)
    _pretrain.pretrain_student(teacher, rows, result.path, settings, cache, overwrite, record, callbacks)
    return result


def _examine(teacher: AlignedTeacher, data: TaskData | None, encoder: Encoder | None = None) -> None:
    """Log the scores of a teacher and of linear models; warn of a teacher that is not certainly better."""
    found = None if data is None else examine_teacher(teacher, data, encoder)
    if found is not None:
        logger.info("%s", found)
        if found.doubt:
            logger.warning("%s", found.doubt)


def _merge_settings(
    settings: DistillSettings, student: Any, recipe: str | Callable[..., Any] | None
) -> tuple[DistillSettings, tuple[PreTrainedModel, Any] | None]:
    """The settings, overridden by `student` and `recipe`, and the model to start from, if any.

    They say which architecture that model has, because defaults depend on it.
    """
    settings = with_known_arguments(settings)
    if recipe is not None:
        settings = replace(settings, recipe=recipe)
    if isinstance(student, str):
        student = replace(settings.student, architecture=student)
    if isinstance(student, StudentSettings):
        return replace(settings, student=student), None
    if student is not None:
        settings = replace(settings, student=_like(student[0], settings.student))
    return settings, student


def _like(model: PreTrainedModel, settings: StudentSettings) -> StudentSettings:
    """The settings with the architecture of `model`."""
    if not is_student(model):
        return replace(settings, architecture="bert")
    own: dict[Any, str] = {kind: name for name, kind in (*STUDENTS.items(), *TAGGERS.items())}
    crf = bool(getattr(model.config, "crf", False))
    return replace(settings, architecture=own.get(type(model), settings.architecture), crf=crf)


def _result(out: str | Path | None) -> TrainedModel:
    """The model to be written to `out`, or to a temporary folder."""
    if out is not None:
        return TrainedModel(out)
    if processes.count() > 1:
        raise OutputError("Several processes write one result: expected out (--out), a folder that all of them see.")
    temporary = tempfile.mkdtemp(prefix="eyas-")
    return TrainedModel(Path(temporary) / "model", temporary)


def _unlabeled(source: Any, columns: Columns | None, tagging: bool) -> Dataset:
    if isinstance(source, Dataset) and "example_id" in source.column_names:
        return source
    named = replace(columns, label=None) if columns else None
    return load_unlabeled([source] if isinstance(source, str | Path) else source, named, tagging)


def _named(columns: Columns | None) -> dict[str, Any]:
    """The columns that are given."""
    return {name: value for name, value in asdict(columns or Columns()).items() if value}


def _name(encoder: str | Path | None) -> str | None:
    return None if encoder is None else os.fspath(encoder)


def _origins(**sources: Any) -> dict[str, Any]:
    """The origins of teacher and data for `eyas.json`: absolute paths or Hub names; objects are left out."""

    def place(value: Any) -> Any:
        if isinstance(value, list | tuple) and all(isinstance(part, str | os.PathLike) for part in value):
            return [place(part) for part in value]
        if not isinstance(value, str | os.PathLike):
            return None
        path = Path(os.fspath(value))
        return str(path.resolve()) if path.exists() else os.fspath(value)

    found = {name: place(value) for name, value in sources.items()}
    return {name: value for name, value in found.items() if value}


def _request(record: Mapping[str, Any], sources: Mapping[str, Any], settings: Any) -> dict[str, Any] | None:
    """The request with the sizes and times of all files; None if a source has no files, such as an object."""
    files: dict[str, Any] = {}
    for name, value in sources.items():
        for source in value if isinstance(value, list | tuple) else [value]:
            found = identity(os.fspath(source)) if isinstance(source, str | os.PathLike) else []
            if value is not None and not found:
                return None
            files[f"{name} {os.fspath(source) if isinstance(source, os.PathLike) else source}"] = found
    about = asdict(settings)
    if callable(about.get("recipe")):
        about["recipe"] = recipe_name(about["recipe"])
    if isinstance(settings, DistillSettings):
        student = settings.student
        about |= {"init": start_identity(student.init or GENERAL), **vectors_identity(student.embeddings)}
        about |= {"transfer_sources": sources_of(settings.transfer), **recipe_source(settings.recipe)}
    return {**record, **about, "files": files}
