"""How long an exam will take: the teacher measured on some texts, each training on some steps."""

import logging
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import TrainerCallback

from eyas.exam.entries import load_entry
from eyas.exam.loaded import Loaded, LoadedPairs
from eyas.exam.making import student_settings
from eyas.exam.trials import Trial
from eyas.generation.recipes import SequenceKD, make_recipe
from eyas.generation.run import arguments_for
from eyas.settings import DistillSettings
from eyas.training.arguments import DistillationArguments, steps_of_all
from eyas.training.folders import WORK
from eyas.training.recipes import parse_recipe
from eyas.training.steps import LENGTHS, training_steps
from eyas.transfer.selection import SAME_LABEL, Selection

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
    unmade = sorted({entry.name for trial in trials for entry in trial.datasets if entry.domains})
    trials = [trial for trial in trials if not any(entry.domains for entry in trial.datasets)]
    entries = {trial.dataset.name: trial.dataset for trial in trials}
    labels = sum(
        _labeling(load_entry(entry), {trial.recipe for trial in trials if trial.dataset == entry})
        for entry in entries.values()
    )
    paces: dict[tuple[str, ...], float] = {}
    searched: set[tuple[str, ...]] = set()
    total, threads, level = 0.0, torch.get_num_threads(), logger.level
    torch.set_num_threads(max(threads // jobs, 1))
    logger.setLevel(logging.WARNING)  # each trial would say what it starts from
    try:
        for trial in trials:
            if trial.student is None:
                continue
            loaded = _without_selection(load_entry(trial.dataset))
            form = (trial.dataset.name, trial.model, trial.recipe, trial.embeddings)
            if form not in paces:
                paces[form] = _pace(trial, loaded)
            settings = student_settings(trial, loaded)
            steps = _steps(settings, loaded)
            if settings.arguments.get("max_steps", 0) > 0:
                steps /= len(trial.datasets)  # they are those of all tasks, each of which has a trial
            runs = 1 if (trial.dataset.name, trial.model, trial.embeddings) in searched else 1 + tries
            searched.add((trial.dataset.name, trial.model, trial.embeddings))
            total += runs * steps * paces[form]
    finally:
        torch.set_num_threads(threads)
        logger.setLevel(level)
    without = f"; {', '.join(unmade)}, whose teacher is fine-tuned on domains first, is not counted" * bool(unmade)
    return (
        f"about {duration(labels)} of labeling and {duration(total / jobs)} of training on this machine, less where it "
        f"stops early; validation, export and timing come on top{without}"
    )


def duration(seconds: float) -> str:
    """A length of time in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _without_selection(loaded: Loaded | LoadedPairs) -> Loaded | LoadedPairs:
    """The data set with as many texts as its rules choose; which ones, only the teacher's labels of all would tell."""
    if isinstance(loaded, LoadedPairs) or not loaded.settings.select:
        return loaded
    rules = [Selection.parse(rule) for rule in loaded.settings.select]
    share = math.prod(rule.share for rule in rules if rule.rule != SAME_LABEL)
    train = len(loaded.data["train"])
    found = replace(loaded, settings=replace(loaded.settings, select=()))
    found.__dict__["texts"] = loaded.texts.select(range(train + round(share * (len(loaded.texts) - train))))
    return found


def _steps(settings: DistillSettings, loaded: Loaded | LoadedPairs) -> float:
    """The steps of a training; of several tasks, the part of one."""
    if isinstance(loaded, LoadedPairs):
        rows = len(loaded.data["train"])
        return steps_of_all(arguments_for(settings, rows, Path(WORK)), rows)
    return training_steps(settings, len(loaded.texts), len(loaded.learnable))


def _labeling(loaded: Loaded | LoadedPairs, recipes: Collection[str]) -> float:
    """The seconds that the teacher takes for all texts."""
    if isinstance(loaded, LoadedPairs):
        return _writing(loaded, recipes)
    rows = loaded.texts.select(range(min(TEXTS, len(loaded.texts))))
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        loaded.teacher.label(rows, folder)
    spent = time.perf_counter() - started
    held_out = sum(len(loaded.data[split]) for split in {"validation", loaded.split})
    return spent / len(rows) * (len(loaded.texts) + held_out)


def _writing(loaded: LoadedPairs, recipes: Collection[str]) -> float:
    """The seconds that the teacher takes for what it writes: with beams, each costs as much as a text."""
    started = time.perf_counter()
    loaded.teacher.predict([row[0] for row in loaded.sample(TEXTS)])
    spent = (time.perf_counter() - started) / min(TEXTS, len(loaded.data["validation"]))
    made = [make_recipe(*parse_recipe(recipe)) for recipe in filter(None, recipes)]
    beams = sum({recipe.beams for recipe in made if isinstance(recipe, SequenceKD)})
    taught = len(loaded.data["train"]) + len(loaded.data["validation"])
    return spent * (len(loaded.data[loaded.split]) + beams * taught)


class _Clock(TrainerCallback):
    """The seconds that all stages train."""

    seconds = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds += time.perf_counter() - self.started


def _pace(trial: Trial, loaded: Loaded | LoadedPairs) -> float:
    """Seconds per step of a student."""
    settings = student_settings(trial, loaded)
    kept = {name: value for name, value in settings.arguments.items() if name not in LENGTHS}
    transfer = replace(settings.transfer, augment=(), select=())  # which cost nothing while a student trains
    settings = replace(settings, arguments={**kept, **ALONE}, transfer=transfer)
    rows = STEPS * DistillationArguments(**kept).per_device_train_batch_size
    train = loaded.learnable if len(loaded.learnable) else loaded.data["train"]
    data = type(loaded.data)({"train": _first(train, rows), "validation": _first(loaded.data["validation"], TEXTS)})
    clock = _Clock()
    with TemporaryDirectory() as folder:
        place = Path(folder)
        loaded.distill(settings, place / "student", data, cache=place / "cache", callbacks=[clock])
    return clock.seconds / STEPS


def _first(dataset: Any, rows: int) -> Any:
    return dataset.select(range(min(rows, len(dataset))))
