"""Defaults for the length and learning rate of a stage."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eyas.settings import TRANSFORMERS, DistillSettings
from eyas.training.arguments import OBJECTIVE, DistillationArguments, passes_for, shared_batches, steps_of_all
from eyas.training.folders import WORK
from eyas.training.recipes import Stage, make_stages

logger = logging.getLogger("eyas")

# Default length of a training: about STEPS steps, within these bounds on epochs.
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 4000, 4, 30
# Arguments that set the length.
LENGTHS = {"num_train_epochs", "max_steps"}
# Defaults for small transformers; our own students take those of `DistillationArguments`.
TRANSFORMER_ARGUMENTS: dict[str, Any] = {
    "learning_rate": 5e-4,
    "weight_decay": 0.01,
    "warmup_steps": 0.1,
    "max_grad_norm": 1.0,
}
# For layers copied from the teacher, where they learn predictions; copied layers learn layers faster at the other rate.
COPIED_LEARNING_RATE = 1e-4


def stage_arguments(
    stage: Stage, settings: DistillSettings, rows: int, work: Path, width: int = 0
) -> DistillationArguments:
    """The stage's arguments, overridden by the user's. By default the number of rows determines the epochs.

    The user's steps and epochs are those of the whole training, which the stages share. The default learning rate
    depends on `width`, the teacher's hidden size: a transformer of the same size starts from the teacher's layers.
    """
    suited = dict(TRANSFORMER_ARGUMENTS) if settings.student.architecture in TRANSFORMERS else {}
    if suited and settings.student.copies_layers(width) and not stage.is_below_head:
        suited["learning_rate"] = COPIED_LEARNING_RATE
    below = {"metric_for_best_model": OBJECTIVE, "greater_is_better": False} if stage.is_below_head else {}
    of_stage = stage.arguments
    if LENGTHS & settings.arguments.keys():
        of_stage = {name: value for name, value in of_stage.items() if name not in LENGTHS}
    chosen = {**suited, **of_stage, **settings.arguments, **below}
    chosen |= shared_batches(chosen)
    arguments = DistillationArguments(output_dir=str(work), seed=settings.seed, **chosen)
    if not LENGTHS & chosen.keys():
        arguments.num_train_epochs = passes_for(arguments, rows, STEPS, FEWEST_EPOCHS, MOST_EPOCHS) * stage.length
        return arguments
    if not LENGTHS & settings.arguments.keys():  # the stage has its own length
        return arguments
    arguments.num_train_epochs *= stage.share
    if arguments.max_steps > 0:
        arguments.max_steps = max(round(arguments.max_steps * stage.share), 1)
    return arguments


def training_steps(settings: DistillSettings, texts: int, train: int | None = None) -> int:
    """The number of steps of all stages of the recipe.

    Args:
        texts: size of the transfer set, for stages with a teacher.
        train: number of training texts, for stages without one; by default `texts`.
    """
    stages = make_stages(settings.recipe, settings.recipe_options)
    total = 0
    for stage in stages:
        rows = texts if stage.needs_teacher or train is None else train
        total += steps_of_all(stage_arguments(stage, settings, rows, Path(WORK)), rows)
    return total


def with_length(settings: DistillSettings, stages: Sequence[Stage], max_length: int) -> DistillSettings:
    """Limit the student to the teacher's length if they are compared token by token."""
    student = settings.student
    if not any(stage.needs_layers for stage in stages) or max_length >= student.max_length:
        return settings
    logger.info("The student reads at most %d tokens of a text, as its teacher does.", max_length)
    return replace(settings, student=replace(student, max_length=max_length))
