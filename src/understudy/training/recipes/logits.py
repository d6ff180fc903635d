"""Recipes that need the teacher's logits only, or nothing of it."""

from understudy.losses import HardLabelLoss, LogitMSELoss, SoftTargetLoss
from understudy.training.recipes.base import Stage


def hard_labels() -> list[Stage]:
    """No teacher: cross-entropy with the gold labels. The baseline of every comparison."""
    return [Stage(losses=[HardLabelLoss()])]


def logit_mse() -> list[Stage]:
    """Mean squared error of raw logits, nothing else (Tang et al. 2019, section 3.2, their best setting)."""
    return [Stage(losses=[LogitMSELoss()])]


def soft_targets(temperature: float = 2.0, hard_weight: float = 0.1) -> list[Stage]:
    """Softened predictions of the teacher and, with a small weight, the labels (Hinton et al. 2015, section 2)."""
    return [Stage(losses=[SoftTargetLoss(temperature), HardLabelLoss(weight=hard_weight)])]
