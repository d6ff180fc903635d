"""Progress and log lines of the trainer."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import transformers
from transformers import TrainerCallback

from eyas.compression import learn_curvature
from eyas.errors import ModelError
from eyas.progress import progress
from eyas.training.arguments import OBJECTIVE, DistillationArguments, patience_of

logger = logging.getLogger("eyas")


def early_stopping(
    arguments: DistillationArguments, rows: int, patience: int | None, may_stop: bool
) -> list[TrainerCallback]:
    """Early stopping after `patience` validations, or by default if the training `may_stop`.

    Only the best checkpoint is worth stopping for, so there is none without validation or if the last one is kept.
    """
    if arguments.eval_strategy == "no" or not arguments.load_best_model_at_end or not (patience or may_stop):
        return []
    return [EarlyStoppingCallback(patience or patience_of(arguments, rows))]


class EarlyStoppingCallback(transformers.EarlyStoppingCallback):
    """Stops by the mean of several data sets; transformers also tells of each one's evaluation, without the mean.

    Checkpoints know it by this name.
    """

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        if f"eval_{args.metric_for_best_model.removeprefix('eval_')}" in metrics:
            super().on_evaluate(args, state, control, metrics, **kwargs)  # type: ignore[no-untyped-call]


class CurvatureCallback(TrainerCallback):
    """Tell a model with loss-aware weights the gradients of each step."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        learn_curvature(kwargs["model"])


class ProgressCallback(TrainerCallback):
    """Show progress in steps, log a line per epoch, and stop training if the loss is not finite.

    Args:
        metrics: the metric of each data set that is scored.
    """

    def __init__(self, metrics: Mapping[str, str]) -> None:
        self.metrics = {name: metric.replace("_", " ") for name, metric in metrics.items()}
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
                metric = self.metrics.get(of, "mean score")
                logger.info("epoch %.3g: validation %s%s %.4f", state.epoch, whose, metric, value)
        if not any(name.endswith("_score") for name in metrics) and "eval_loss" in metrics:
            logger.info("epoch %.3g: validation loss %.4f", state.epoch or 0, metrics["eval_loss"])

    def close(self) -> None:
        """End the display, after a training or one that was interrupted: there can be only one at a time."""
        self._showing.close()
