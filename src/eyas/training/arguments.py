"""Settings of a training run: transformers' `TrainingArguments` with defaults for small students."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar, get_type_hints

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from transformers import TrainingArguments

from eyas import processes
from eyas.errors import DataError, ModelError
from eyas.settings import TRANSFORMERS, DistillSettings, FinetuneSettings
from eyas.teachers.live import fastest_device, has_fast_bfloat16

S = TypeVar("S", DistillSettings, FinetuneSettings)
# By default, training does not stop before so many validations without improvement.
FEWEST_VALIDATIONS = 3
# The metric of stages that leave the predictions untrained: their objective on the validation texts; lower is better.
OBJECTIVE = "objective"


# Arguments that eyas sets itself.
RESERVED = ("output_dir", "seed", "data_seed")
# Arguments of transformers that our batches, losses and scores leave no place for.
UNUSED = (
    *("auto_find_batch_size", "batch_eval_metrics", "dataloader_drop_last", "label_names", "label_smoothing_factor"),
    *("prediction_loss_only", "train_sampling_strategy"),
)
# Arguments that count texts or batches.
COUNTS = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")


@dataclass
class DistillationArguments(TrainingArguments):
    """`TrainingArguments` with defaults for a student of a million parameters on a CPU.

    Every field keeps transformers' name and meaning. `metric_for_best_model` is the metric of `compute_metrics` that
    selects the checkpoint; higher is better.
    """

    output_dir: str | None = "checkpoints"
    num_train_epochs: float = 8
    per_device_train_batch_size: int = 64
    per_device_eval_batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    lr_scheduler_type: str = "linear"
    warmup_steps: float = 0.05
    max_grad_norm: float = 5.0
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int | None = 2
    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = "score"
    greater_is_better: bool | None = True
    logging_strategy: str = "epoch"
    restore_callback_states_from_checkpoint: bool = True
    dataloader_pin_memory: bool = False
    use_cpu: bool = field(default_factory=lambda: not torch.accelerator.is_available())
    disable_tqdm: bool | None = True
    multi_dataset_batches: Literal["proportional", "temperature", "round-robin"] = field(
        default="proportional",
        metadata={
            "help": "With several data sets: all batches in random order, more of small ones, or one of each in turn."
        },
    )
    report_to: str | list[str] | None = "none"
    logging_nan_inf_filter: bool = False  # a loss that is not finite ends the training
    remove_unused_columns: bool = field(
        default=False,
        metadata={"help": "Must stay False: True would drop example_id and the teacher's columns."},
    )

    def __post_init__(self) -> None:
        for name in COUNTS:
            if not isinstance(count := getattr(self, name), int) or count < 1:
                raise ValueError(f"{name} is {count!r}, expected an integer of at least 1")
        if self.max_steps <= 0 and not 0 < self.num_train_epochs < math.inf:
            raise ValueError(f"num_train_epochs is {self.num_train_epochs}, expected a number above 0")
        if not self.learning_rate >= 0:  # NaN, too
            raise ValueError(f"learning_rate is {self.learning_rate}, expected 0 or more")
        super().__post_init__()  # type: ignore[no-untyped-call]


def with_known_arguments(settings: S) -> S:
    """The settings, with arguments of the right types.

    Raises:
        ModelError: an argument that `DistillationArguments` does not take.
        DataError: a batch that processes cannot share evenly.
    """
    try:
        arguments = known_arguments(settings.arguments)
    except ModelError as error:
        raise ModelError(f"arguments: {error}") from None
    shared_batches(arguments)
    return replace(settings, arguments=arguments)


def known_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Training arguments of the right types; strings are read as YAML writes numbers, such as 5e-4.

    Raises:
        ModelError: an argument that `DistillationArguments` does not take.
    """
    known = [field.name for field in fields(DistillationArguments) if field.init and field.name not in RESERVED]
    kinds, found = get_type_hints(DistillationArguments), dict(given)
    for name, value in given.items():
        entry = found[name] = value.item() if isinstance(value, np.generic) else value
        if name in RESERVED:
            raise ModelError(
                f"{name} is set by eyas: leave it out" + "; the seed is a setting of its own" * ("seed" in name)
            )
        if name in UNUSED and value:
            raise ModelError(f"{name} does not work here: batches, losses and scores are made by eyas. Leave it out")
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ModelError(f"unknown training argument {name!r}{hint}")
        try:
            read = TypeAdapter(kinds[name]).validate_python(entry, strict=not isinstance(entry, str))
        except ValidationError as error:
            raise ModelError(f"{name} is {entry!r}: {error.errors()[0]['msg']}") from None
        if isinstance(entry, str):
            found[name] = read
    if processes.count() > 1:  # making them joins the processes, which wait for one another
        return found
    try:
        DistillationArguments(**found)
    except Exception as error:  # of whatever library an argument is for
        raise ModelError(str(error)) from None
    return found


def fast_precision(given: Mapping[str, Any]) -> dict[str, bool]:
    """`bf16` if the trainer's device is faster with it; empty if `given` sets a precision."""
    if given.get("bf16") is not None or given.get("fp16"):
        return {}
    return {"bf16": has_fast_bfloat16(torch.device("cpu") if given.get("use_cpu") else fastest_device())}


def with_precision(arguments: dict[str, Any], architecture: str) -> dict[str, Any]:
    """A student's arguments; a transformer trains in bfloat16 if the device is faster with it."""
    return {**arguments, **fast_precision(arguments)} if architecture in TRANSFORMERS else arguments


def patience_of(arguments: DistillationArguments, rows: int) -> int:
    """By default, training stops after this many validations without improvement: a third of all, at least 3."""
    validations, every = arguments.num_train_epochs, arguments.eval_steps or arguments.logging_steps
    if arguments.eval_strategy == "steps":  # below 1, the steps are a share of the training
        validations = 1 / every if every < 1 else validations * steps_of_a_pass(arguments, rows) / every
    return max(FEWEST_VALIDATIONS, math.ceil(validations / 3))


def shared_batches(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with which several processes share each batch, so that they train as one does.

    Raises:
        DataError: a batch cannot be shared evenly.
    """
    count = processes.count()
    if count == 1:
        return {}
    size = given.get("per_device_train_batch_size", DistillationArguments.per_device_train_batch_size)
    if size % count:
        raise DataError(
            f"A batch of {size} texts cannot be shared evenly by {count} processes, expected a multiple. Set "
            "per_device_train_batch_size (--batch-size), or start another number of processes."
        )
    scored = given.get("per_device_eval_batch_size", DistillationArguments.per_device_eval_batch_size)
    return {
        "per_device_eval_batch_size": math.ceil(scored / count) * count,
        "accelerator_config": {"split_batches": True},
    }


def passes_for(arguments: DistillationArguments, rows: int, steps: int, fewest: int, most: int) -> int:
    """Epochs of about `steps` steps together, within these bounds."""
    return min(max(math.ceil(steps / steps_of_a_pass(arguments, rows)), fewest), most)


def steps_of_all(arguments: DistillationArguments, rows: int) -> int:
    """Optimizer steps of a training on `rows` texts."""
    passes = math.ceil(steps_of_a_pass(arguments, rows) * arguments.num_train_epochs)
    return arguments.max_steps if arguments.max_steps > 0 else passes


def steps_of_a_pass(arguments: DistillationArguments, rows: int) -> int:
    """Optimizer steps of an epoch over `rows` texts."""
    return math.ceil(math.ceil(rows / arguments.train_batch_size) / arguments.gradient_accumulation_steps)
