"""Run one trial in its own process: train the model, export it, score the exported model."""

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import Dataset
from filelock import FileLock

from eyas.data.datasets import (
    ids_of,
    is_labeled,
    labels_of,
    task_of,
    texts_of,
    word_counts_of,
)
from eyas.data.labels import check_task, match_labels
from eyas.evaluation.bootstrap import sums
from eyas.evaluation.changes import change_slices
from eyas.evaluation.differences import differences
from eyas.evaluation.evaluate import Predicts, predict_dataset
from eyas.evaluation.metrics import agreement, task_metrics
from eyas.exam.baselines import fit_baseline
from eyas.exam.cost import open_model
from eyas.exam.encoder_vectors import export_on_vectors
from eyas.exam.entries import Loaded, LoadedPairs, known_words, load_entry, written_texts
from eyas.exam.results import (
    DIFFERENCES,
    FORMAT_VERSION,
    PREDICTIONS,
    RESULT,
    SHIPPED,
    STUDENT,
    TIMING,
    TOGETHER,
    TRANSFER,
    TWIN,
    VALIDATION,
)
from eyas.exam.trials import ON_VECTORS, STATIC, Trial, members_of
from eyas.exam.writing import score_texts
from eyas.export.combination import export_combination, ship
from eyas.models.loading import is_part, is_seq2seq_folder, load_classifier, load_seq2seq
from eyas.outputs import RUN_FILE, write_atomically
from eyas.progress import part
from eyas.runtime.cascade import confidences
from eyas.runtime.manifest import MANIFEST, kind_of
from eyas.settings import DistillSettings, TransferSettings
from eyas.tasks import Task
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


def run_trial(trial: Trial, key: str, folder: Path, home: Path | None = None) -> dict[str, Any]:
    """Run one trial and write everything about it to `folder`, its row last.

    Args:
        home: of a student of several tasks, the folder of the trial that has it.

    Returns:
        The row.
    """
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    loaded = load_entry(trial.dataset)
    with part(trial.title):
        about = _make(trial, loaded, folder, home or folder)
    model: Any = _asked(trial, loaded) or open_model(folder / SHIPPED)
    scored = score_texts if isinstance(loaded, LoadedPairs) else _scored
    row = {
        "format_version": FORMAT_VERSION,
        "key": key,
        "status": "done",
        **describe(trial),
        "task": loaded.task.kind,
        "metric": loaded.task.metric,
        "split": loaded.split,
        **scored(trial, cast(Any, loaded), model, folder),
        **about,
    }
    write_atomically(folder / TIMING, json.dumps({"trial_seconds": round(time.perf_counter() - started, 2)}))
    write_atomically(folder / RESULT, json.dumps(row, ensure_ascii=False))
    return row


def _scored(trial: Trial, loaded: Loaded, model: Any, folder: Path) -> dict[str, Any]:
    """The columns of the scores; writes the predictions and the differences from the teacher."""
    split = loaded.data[loaded.split]
    split = split.select(np.flatnonzero(is_labeled(split)))
    task, labels, lengths = loaded.task, labels_of(split), word_counts_of(split)
    order = [] if isinstance(model, AlignedTeacher) else _order(model, split, trial, loaded)
    logits = _predict(model, split, order)
    teacher_logits = loaded.teacher.label(loaded.data[loaded.split]).logits_of(split)
    own = _task(model)
    calibrated = own.calibrated(logits)
    scores = task_metrics(task, calibrated, labels, lengths)
    validation_score = _validate(model, loaded.data["validation"], order, folder / VALIDATION)
    _write_predictions(split, logits, _sure(model, split, logits), folder / PREDICTIONS)
    texts = texts_of(split) if task.is_tagging else written_texts(split)
    teacher = loaded.teacher.teacher.task.calibrated(teacher_logits)
    lost = differences(task, texts, labels, calibrated, teacher, known_words(trial.dataset))
    lost["slices"] += _changes(loaded, model, order, labels)
    write_atomically(folder / DIFFERENCES, json.dumps(lost, ensure_ascii=False))
    return {
        "rows": len(split),
        "score": scores[task.metric],
        "validation_score": validation_score,
        **scores,
        "temperature": own.temperature,
        "uncalibrated_error": task_metrics(task, logits, labels, lengths).get("calibration_error"),
        "agreement": agreement(task, logits, teacher_logits, labels),
    }


def describe(trial: Trial) -> dict[str, Any]:
    """The columns of the results that identify the trial."""
    student = trial.student
    sizes = {name: getattr(student, name, None) for name in ("embedding_size", "hidden_size", "vocab_size")}
    return {
        "dataset": trial.dataset.name,
        "kind": trial.kind,
        "model": trial.model,
        "precision": trial.precision,
        "architecture": student.architecture if student else None,
        **sizes,
        "recipe": trial.recipe,
        "embeddings": trial.embeddings_name,
        "seed": trial.seed,
        "transfer": trial.transfer if student else None,
        "without": trial.without,
    }


def _make(trial: Trial, loaded: Loaded | LoadedPairs, folder: Path, home: Path) -> dict[str, Any]:
    """Make the model, export it to `folder / SHIPPED` and return its sizes."""
    if trial.kind == "baseline":
        assert isinstance(loaded, Loaded)
        return _make_baseline(trial, loaded, folder / SHIPPED)
    source: str | Path = trial.dataset.teacher[0]
    learned: dict[str, Any] = {"transfer_texts": None, "steps": None, "start": None}
    if _asked(trial, loaded) is not None:
        return {**UNKNOWN_SIZES, "size_bytes": None, "export_agreement": None, **learned}
    if trial.added:
        source = trial.added
    elif trial.together:
        whole = _train_together(trial, home / TOGETHER)
        source, texts = whole / trial.dataset.name, loaded.transfer if trial.is_taught else loaded.data["train"]
        start = json.loads((whole / RUN_FILE).read_text())["settings"]["student"]["init"]
        learned = {"transfer_texts": len(texts), "steps": _steps(read_history(whole)), "start": start}
        (folder / STUDENT).mkdir(parents=True, exist_ok=True)
        write_history(read_history(whole), folder / STUDENT)  # each of its trials has its curves
    elif trial.kind == "student":
        settings, train = student_settings(trial, loaded), len(loaded.data["train"])
        alone = trial.without == TRANSFER
        source = loaded.distill(settings, folder / STUDENT, alone=alone)
        texts = len(loaded.transfer) if trial.is_taught and not alone else train
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
        return distill_tasks(
            {name: one.teacher for name, one in loaded.items()},
            {name: one.data for name, one in loaded.items()},
            out,
            replace(next(iter(own.values())), label_map=None),  # the teachers are aligned
            own=own,
        )


def _asked(trial: Trial, loaded: Loaded | LoadedPairs) -> AlignedTeacher | None:
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
    if not fewer or (len(loaded.transfer) == len(loaded.data["train"]) and not is_longer):
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
        some = train.select(np.flatnonzero(is_labeled(train)))
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


def _order(model: Predicts, dataset: Dataset, trial: Trial, loaded: Loaded) -> list[int]:
    """The columns of the model's logits in the data's label order."""
    if trial.kind == "teacher":
        return loaded.teacher.order
    task = task_of(dataset)
    check_task(task, model.task, "model")
    return match_labels(
        list(task.labels), model, lambda: (predict_dataset(model, dataset), labels_of(dataset)), None, "model"
    )


def _predict(model: Predicts | AlignedTeacher, dataset: Dataset, order: list[int]) -> np.ndarray:
    """Logits, [rows, labels] in the data's label order, for tagging [words, tags]."""
    if isinstance(model, AlignedTeacher):
        return model.logits_of(dataset)
    return predict_dataset(model, dataset)[:, order]


def _task(model: Predicts | AlignedTeacher) -> Task:
    """The model's task, with its temperature."""
    found: Task = model.teacher.task if isinstance(model, AlignedTeacher) else model.task
    return found


def _validate(model: Predicts | AlignedTeacher, dataset: Dataset, order: list[int], path: Path) -> float:
    """The score on validation texts; writes what a cascade needs of them."""
    labeled = dataset.select(np.flatnonzero(is_labeled(dataset)))
    logits, task = _predict(model, labeled, order), task_of(labeled)
    labels, lengths = labels_of(labeled), word_counts_of(labeled)
    added = sums(task, logits, labels, lengths).astype(np.float64)
    columns = {"sums": list(added), "confidence": _sure(model, labeled, logits)}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return task_metrics(task, logits, labels, lengths)[task.metric]


def _changes(loaded: Loaded, model: Any, order: list[int], labels: np.ndarray) -> list[dict[str, Any]]:
    """What small changes of the texts do to the model's answers."""
    if loaded.changed is None:
        return []
    changed, texts = loaded.changed
    rows = {text: row for row, text in enumerate(texts["text"])}
    places = [rows[text] for text in changed.texts]
    own, theirs = _predict(model, texts, order), loaded.teacher.label(texts).logits_of(texts)
    return change_slices(loaded.task, changed, labels, own[places], theirs[places])


def _sure(model: Predicts | AlignedTeacher, dataset: Dataset, logits: np.ndarray) -> np.ndarray:
    """[texts] the model's confidence in its answer; 0 for numbers."""
    task, calibrated = task_of(dataset), _task(model).calibrated(logits)
    counts = word_counts_of(dataset) if task.is_tagging else np.ones(len(dataset), dtype=np.int64)
    return confidences(task, calibrated, counts.tolist()) if task.decides else np.zeros(len(dataset))


def _write_predictions(dataset: Dataset, logits: np.ndarray, sure: np.ndarray, path: Path) -> None:
    """Write each text's contribution to the score and confidence, except for tagging its logits, and its label."""
    task, labels = task_of(dataset), labels_of(dataset)
    added = sums(task, logits, labels, word_counts_of(dataset))
    columns = {
        "example_id": ids_of(dataset),
        "sums": pyarrow.FixedSizeListArray.from_arrays(added.astype(np.float64).ravel(), added.shape[1]),
        "confidence": sure,
    }
    if not task.is_tagging:
        columns["logits"] = pyarrow.FixedSizeListArray.from_arrays(logits.ravel(), logits.shape[1])
        if labels.ndim == 1:
            columns["label"] = labels
            columns["prediction"] = logits.argmax(1) if task.decides else logits.reshape(-1)
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    write_atomically(path, buffer.getvalue().to_pybytes())


def _size(folder: Path) -> int:
    """Bytes of weights and tokenizer."""
    kept = {MANIFEST, "README.md", "eyas.json"}
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name not in kept)
