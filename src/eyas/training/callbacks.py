"""Progress and log lines of the trainer."""

import logging
from contextlib import ExitStack
from typing import Any

import numpy as np
from transformers import EarlyStoppingCallback, TrainerCallback

from eyas.errors import ModelError
from eyas.progress import progress
from eyas.settings import DistillSettings, FinetuneSettings
from eyas.training.arguments import OBJECTIVE, DistillationArguments, patience_of

logger = logging.getLogger("eyas")


class EarlyStopping(EarlyStoppingCallback):
    """Also ends a run that is resumed after it stopped, without a change to what it found."""

    has_ended = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_train_begin(args, state, control, **kwargs)  # type: ignore[no-untyped-call]
        self.has_ended = self.early_stopping_patience_counter >= self.early_stopping_patience

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_epoch_end(args, state, control, **kwargs)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.has_ended:
            control.should_training_stop = True
            control.should_evaluate = control.should_save = control.should_log = False


def early_stopping(
    arguments: DistillationArguments, rows: int, settings: DistillSettings | FinetuneSettings
) -> list[TrainerCallback]:
    """Early stopping, if `settings` has a patience or leaves the length of the training to us."""
    length_is_set = not {"num_train_epochs", "max_steps"}.isdisjoint(settings.arguments)
    if (length_is_set and not settings.patience) or arguments.eval_strategy == "no":
        return []
    return [EarlyStopping(settings.patience or patience_of(arguments, rows))]


class ProgressCallback(TrainerCallback):
    """Show progress in steps, log a line per epoch, and stop training if the loss is not finite.

    Args:
        metric: name of the score.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric.replace("_", " ")
        self._showing = ExitStack()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._advance = self._showing.enter_context(progress("training", state.max_steps - state.global_step, "steps"))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._advance(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not np.isfinite(loss):
            raise ModelError(
                f"The loss became {loss} by step {state.global_step}: training diverged. The last checkpoint is kept; "
                "try a lower learning_rate (--learning-rate)."
            )

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        metrics = metrics or {}
        if args.metric_for_best_model == OBJECTIVE:
            if f"eval_{OBJECTIVE}" in metrics:
                logger.info("epoch %.3g: validation objective %.4g", state.epoch, metrics[f"eval_{OBJECTIVE}"])
            return
        for name, value in metrics.items():
            if name.endswith("_score") and state.epoch is not None:
                of = name.removeprefix("eval_").removesuffix("score").rstrip("_")
                whose = f"{of} " if of else ""
                logger.info("epoch %.3g: validation %s%s %.4f", state.epoch, whose, self.metric, value)

    def close(self) -> None:
        """End the display, after a training or one that was interrupted: there can be only one at a time."""
        self._showing.close()
