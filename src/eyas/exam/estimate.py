"""How long an exam will take: the teacher measured on some texts, each training on some steps."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import TrainerCallback

from eyas.data.task_data import TaskData
from eyas.exam.entries import Loaded, load_entry
from eyas.exam.trial_run import student_settings
from eyas.exam.trials import Trial
from eyas.settings import TransferSettings
from eyas.training.arguments import DistillationArguments
from eyas.training.distill import distill
from eyas.training.steps import LENGTHS, training_steps

logger = logging.getLogger("eyas")

STEPS, TEXTS = 20, 64
ALONE: dict[str, Any] = {
    "max_steps": STEPS,
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "logging_strategy": "no",
}


def estimate(trials: Sequence[Trial], jobs: int = 1, tries: int = 0) -> str:
    """How long labeling and training take on this machine, in words. Trains each student for 20 steps.

    Args:
        jobs: parallel trials.
        tries: of a search of each student's settings.
    """
    entries = {trial.dataset.name: trial.dataset for trial in trials}
    labels = sum(_labeling(load_entry(entry)) for entry in entries.values())
    paces: dict[tuple[str, ...], float] = {}
    searched: set[tuple[str, ...]] = set()
    total, threads, level = 0.0, torch.get_num_threads(), logger.level
    torch.set_num_threads(max(threads // jobs, 1))
    logger.setLevel(logging.WARNING)  # each trial would say what it starts from
    try:
        for trial in trials:
            if trial.student is None:
                continue
            loaded = load_entry(trial.dataset)
            form = (trial.dataset.name, trial.model, trial.recipe, trial.embeddings)
            if form not in paces:
                paces[form] = _pace(trial, loaded)
            steps = training_steps(student_settings(trial, loaded), len(loaded.texts), len(loaded.data["train"]))
            runs = 1 if (trial.dataset.name, trial.model, trial.embeddings) in searched else 1 + tries
            searched.add((trial.dataset.name, trial.model, trial.embeddings))
            total += runs * steps * paces[form]
    finally:
        torch.set_num_threads(threads)
        logger.setLevel(level)
    return (
        f"about {duration(labels)} of labeling and {duration(total / jobs)} of training on this machine, less where it "
        "stops early; validation, export and timing come on top"
    )


def duration(seconds: float) -> str:
    """A length of time in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _labeling(loaded: Loaded) -> float:
    """The seconds that the teacher takes for all texts."""
    rows = loaded.texts.select(range(min(TEXTS, len(loaded.texts))))
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        loaded.teacher.label(rows, folder)
    spent = time.perf_counter() - started
    every = len(loaded.texts) + len(loaded.data["validation"]) + len(loaded.data[loaded.split])
    return spent / len(rows) * every


class _Clock(TrainerCallback):
    """The seconds that all stages train."""

    seconds = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds += time.perf_counter() - self.started


def _pace(trial: Trial, loaded: Loaded) -> float:
    """Seconds per step of a student."""
    settings = student_settings(trial, loaded)
    kept = {name: value for name, value in settings.arguments.items() if name not in LENGTHS}
    settings = replace(settings, arguments={**kept, **ALONE}, transfer=TransferSettings(augment=()))
    rows = STEPS * DistillationArguments(**kept).per_device_train_batch_size
    data = TaskData(
        {"train": _first(loaded.data["train"], rows), "validation": _first(loaded.data["validation"], TEXTS)}
    )
    clock = _Clock()
    with TemporaryDirectory() as folder:
        place = Path(folder)
        distill(loaded.teacher, data, place / "student", settings, cache=place / "cache", callbacks=[clock])
    return clock.seconds / STEPS


def _first(dataset: Any, rows: int) -> Any:
    return dataset.select(range(min(rows, len(dataset))))
