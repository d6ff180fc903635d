"""Published methods, as functions that return the stages of a training."""

from collections.abc import Callable

from understudy.training.recipes.base import Stage
from understudy.training.recipes.logits import hard_labels, logit_mse, soft_targets

RECIPES: dict[str, Callable[..., list[Stage]]] = {
    "hard-labels": hard_labels,
    "logit-mse": logit_mse,
    "soft-targets": soft_targets,
}

__all__ = ["RECIPES", "Stage", "hard_labels", "logit_mse", "soft_targets"]
