"""Make the model of a trial: train it, or take the teacher or a baseline, and export it."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from filelock import FileLock

from eyas.data.datasets import labeled_rows, labels_of, texts_of
from eyas.errors import OutputError
from eyas.exam.baselines import fit_baseline
from eyas.exam.encoder_vectors import export_on_vectors
from eyas.exam.entries import load_entry
from eyas.exam.loaded import Loaded, LoadedPairs, written_texts
from eyas.exam.results import SHIPPED, STUDENT, TOGETHER, TRANSFER, TWIN
from eyas.exam.trials import ON_VECTORS, STATIC, Trial, members_of
from eyas.export.combination import export_combination, ship
from eyas.models.loading import is_part, is_seq2seq_folder, load_classifier, load_seq2seq
from eyas.outputs import RUN_FILE
from eyas.runtime.manifest import MANIFEST, kind_of
from eyas.settings import DistillSettings, TransferSettings
from eyas.teachers import AlignedTeacher, Encoder, align
from eyas.teachers.exported import is_exported
from eyas.training.arguments import FEWEST_VALIDATIONS
from eyas.training.folders import read_history, write_history
from eyas.training.recipes import parse_recipe
from eyas.training.several_tasks import distill_tasks
from eyas.training.starts import with_default_start
from eyas.training.steps import LENGTHS, training_steps
from eyas.training.students import create_student
from eyas.training.teachers import is_fine_tuned

# In an exam, predictions changed by the export are a result; only below this agreement are they an error.
SMALLEST_AGREEMENT = 0.8
# The same of the words of texts that are written: one other word changes those after it.
SMALLEST_OF_WORDS = 0.2
PARITY_TEXTS = 500
# Of a teacher whose parameters are not counted.
UNKNOWN_SIZES: dict[str, int | None] = {"embedding_parameters": None, "other_parameters": None}


def make_model(trial: Trial, loaded: Loaded | LoadedPairs, folder: Path, home: Path) -> dict[str, Any]:
    """Make the model, export it to `folder / SHIPPED` and return its sizes."""
    if trial.kind == "baseline":
        assert isinstance(loaded, Loaded)
        return _make_baseline(trial, loaded, folder / SHIPPED)
    source: str | Path = trial.dataset.teacher[0]
    learned: dict[str, Any] = {"transfer_texts": None, "steps": None, "start": None}
    if asked(trial, loaded) is not None:
        return {**UNKNOWN_SIZES, "size_bytes": None, "export_agreement": None, **learned}
    if trial.added:
        source = trial.added
    elif trial.together:
        whole = _train_together(trial, home / TOGETHER)
        source, texts = whole / trial.dataset.name, loaded.transfer if trial.is_taught else loaded.learnable
        start = json.loads((whole / RUN_FILE).read_text())["settings"]["student"]["init"]
        learned = {"transfer_texts": len(texts), "steps": _steps(read_history(whole)), "start": start}
        (folder / STUDENT).mkdir(parents=True, exist_ok=True)
        write_history(read_history(whole), folder / STUDENT)  # each of its trials has its curves
    elif trial.kind == "student":
        settings = student_settings(trial, loaded)
        alone = trial.without == TRANSFER
        try:
            source = loaded.distill(settings, folder / STUDENT, alone=alone)
        except OutputError:  # of a recipe with other code, or of another version: without a result, it is the trial's
            source = loaded.distill(settings, folder / STUDENT, alone=alone, overwrite=True)
        taught = loaded.data["train"] if alone else loaded.transfer
        texts = len(taught if trial.is_taught else loaded.learnable)
        steps = _steps(read_history(folder / STUDENT))
        learned = {"transfer_texts": texts, "steps": steps, "start": settings.student.init}
    options: dict[str, Any] = {
        "int8": trial.precision == "int8",
        "texts": loaded.sample(PARITY_TEXTS),
        "min_agreement": SMALLEST_OF_WORDS if trial.dataset.writes else SMALLEST_AGREEMENT,
        "overwrite": True,
        "max_length": loaded.max_length if trial.kind in ("teacher", "member") else None,
    }
    if trial.kind == "teacher" and isinstance(loaded, Loaded) and len(trial.dataset.teacher) > 1:
        agreement = export_combination(
            trial.dataset.teacher, loaded.teacher.teacher.combination, folder / SHIPPED, **options
        )
    else:
        agreement = ship(source, folder / SHIPPED, **options)
    return {
        **_parameters(trial, loaded, Path(source)),
        "size_bytes": _size(folder / SHIPPED),
        "export_agreement": agreement,
        **learned,
    }


def _train_together(trial: Trial, out: Path) -> Path:
    """Train a student of several tasks, unless another trial has."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.with_suffix(".lock")):  # another trial may be training it
        if out.is_dir():
            return out
        loaded = {entry.name: cast(Loaded, load_entry(entry)) for entry in trial.datasets}
        own = {
            entry.name: _settings_of(replace(trial, dataset=entry, recipe=recipe)) for entry, recipe in trial.together
        }
        known = (
            {name: one.teacher for name, one in loaded.items()},
            {name: one.data for name, one in loaded.items()},
            out,
            replace(next(iter(own.values())), label_map=None),  # the teachers are aligned
        )
        try:
            return distill_tasks(*known, own=own)
        except OutputError:  # as of a student alone
            return distill_tasks(*known, own=own, overwrite=True)


def asked(trial: Trial, loaded: Loaded | LoadedPairs) -> AlignedTeacher | None:
    """The teacher of a trial if it is not exported: a file, a model of entailment, an ONNX classifier of another tool.

    Its answers are those of the cache, and its cost is not measured.
    """
    sources, zero_shot = _teachers_of(trial), trial.dataset.zero_shot is not None
    if all(is_fine_tuned(source, zero_shot) or _is_shipped(Path(source)) for source in sources):
        return None
    assert isinstance(loaded, Loaded)
    if trial.kind == "teacher":
        return loaded.teacher
    return align(_member(trial, loaded), loaded.data, trial.dataset.label_map)


def _member(trial: Trial, loaded: Loaded) -> Any:
    """The teacher of a member's trial, not aligned."""
    return loaded.teachers[list(members_of(trial.dataset)).index(trial.model)]


def _is_shipped(source: Path) -> bool:
    """Whether `source` is an exported folder that stands alone."""
    return (source / MANIFEST).is_file() and kind_of(source) != "task"


def _teachers_of(trial: Trial) -> tuple[str, ...]:
    """The sources of a teacher's or a member's trial; none of others."""
    return {"teacher": trial.dataset.teacher, "member": (trial.added,)}.get(trial.kind, ())


def _settings_of(trial: Trial) -> DistillSettings:
    assert trial.student is not None
    name, options = parse_recipe(trial.recipe)
    return DistillSettings(
        student=trial.student.settings(trial.embeddings),
        recipe=name,
        recipe_options={**options, **trial.recipe_options},
        transfer=trial.dataset.transfer,
        arguments=trial.arguments,
        seed=trial.seed,
        label_map=trial.dataset.label_map,
    )


def student_settings(trial: Trial, loaded: Loaded | LoadedPairs) -> DistillSettings:
    settings = _settings_of(trial)
    if isinstance(loaded, LoadedPairs):
        return settings
    if trial.together and not loaded.task.is_tagging:
        settings = replace(settings, student=replace(settings.student, crf=False))
    settings = with_default_start(settings, loaded.data, loaded.teacher.teacher.tokenizer)
    if trial.without == TRANSFER:
        settings = replace(settings, transfer=TransferSettings(augment=()))
    is_longer = trial.length > 1 and LENGTHS.isdisjoint(trial.arguments)
    fewer = trial.recipe == TWIN or trial.without == TRANSFER
    own = loaded.learnable if trial.recipe == TWIN else loaded.data["train"]
    if not fewer or (len(loaded.transfer) == len(own) and not is_longer):
        return settings
    # As many steps and checkpoints as with all texts and the teacher, whose recipe may have more stages.
    rows = len(loaded.transfer)
    between = max(training_steps(replace(settings, arguments={**trial.arguments, "num_train_epochs": 1}), rows), 1)
    often = {"eval_strategy": "steps", "eval_steps": between, "save_strategy": "steps", "save_steps": between}
    steps = training_steps(settings, rows)
    if LENGTHS & trial.arguments.keys():
        return replace(settings, arguments={**often, **trial.arguments, "max_steps": steps})
    steps = round(steps * trial.length)
    patience = max(FEWEST_VALIDATIONS, math.ceil(steps / between / 3))
    return replace(settings, arguments={**often, **trial.arguments, "max_steps": steps}, patience=patience)


def _steps(history: list[dict[str, Any]]) -> int:
    """The steps of all stages, of which some may have stopped early."""
    last = {row["stage"]: row["step"] for row in history}
    return sum(last.values())


def _make_baseline(trial: Trial, loaded: Loaded, folder: Path) -> dict[str, Any]:
    train = loaded.data["train"]
    shutil.rmtree(folder, ignore_errors=True)
    if trial.model == ON_VECTORS:
        folder.mkdir(parents=True)
        encoder = Encoder(trial.encoder, max_length=loaded.teacher.teacher.max_length, dtype="float32")
        some = labeled_rows(train)
        sizes = export_on_vectors(encoder, loaded.task, texts_of(some), labels_of(some), folder)
        return {**sizes, "size_bytes": _size(folder), "export_agreement": None, "steps": None}
    table, tokenizer = None, None
    if trial.model == STATIC:
        student, wrapped = create_student("static", loaded.teacher, loaded.transfer, loaded.data.labels)
        table = cast(Any, student).embeddings.weight.detach().numpy()
        tokenizer = wrapped.backend_tokenizer
    texts = texts_of(train) if loaded.task.is_tagging else written_texts(train)
    model = fit_baseline(loaded.task, texts, labels_of(train), table, tokenizer)
    model.save(folder)
    embedding, rest = model.parameters
    return {
        "embedding_parameters": embedding,
        "other_parameters": rest,
        "size_bytes": _size(folder),
        "export_agreement": None,
        "steps": None,
    }


def _parameters(trial: Trial, loaded: Loaded | LoadedPairs, made: Path) -> dict[str, int | None]:
    if any(is_exported(source) for source in _teachers_of(trial)):
        return UNKNOWN_SIZES
    if trial.kind == "teacher":
        return _parameters_of(loaded.models)
    if trial.kind == "member":
        assert isinstance(loaded, Loaded)
        return _parameters_of([_member(trial, loaded).model])
    from safetensors import safe_open

    counts = {}
    if is_part(made) or is_seq2seq_folder(made):
        return _parameters_of([(load_seq2seq if trial.dataset.writes else load_classifier)(made)[0]])
    with safe_open(made / "model.safetensors", framework="np") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            counts[name] = int(np.prod(file.get_slice(name).get_shape()))
    embedding = max(count for name, count in counts.items() if name.endswith("embeddings.weight"))
    return {"embedding_parameters": embedding, "other_parameters": sum(counts.values()) - embedding}


def _parameters_of(models: Sequence[Any]) -> dict[str, int | None]:
    embedding = sum(model.get_input_embeddings().weight.numel() for model in models)
    total = sum(model.num_parameters() for model in models)
    return {"embedding_parameters": embedding, "other_parameters": total - embedding}


def _size(folder: Path) -> int:
    """Bytes of weights and tokenizer."""
    kept = {MANIFEST, "README.md", "eyas.json"}
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name not in kept)
