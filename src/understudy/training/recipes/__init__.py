"""Published methods, as functions that return the stages of a training."""

from collections.abc import Callable

from understudy.training.recipes.base import Stage
from understudy.training.recipes.layers import (
    alp_kd,
    bert_emd,
    distilbert,
    minilm,
    minilmv2,
    mlkd,
    patient_last,
    patient_skip,
    rail_kd,
    simkd,
    tinybert,
)
from understudy.training.recipes.logits import (
    adakd,
    annealing_kd,
    continuation,
    dist,
    dkd,
    hard_labels,
    logit_mse,
    soft_targets,
)

RECIPES: dict[str, Callable[..., list[Stage]]] = {
    "hard-labels": hard_labels,
    "logit-mse": logit_mse,
    "soft-targets": soft_targets,
    "annealing": annealing_kd,
    "continuation": continuation,
    "adakd": adakd,
    "dkd": dkd,
    "dist": dist,
    "patient-skip": patient_skip,
    "patient-last": patient_last,
    "alp-kd": alp_kd,
    "rail-kd": rail_kd,
    "tinybert": tinybert,
    "bert-emd": bert_emd,
    "distilbert": distilbert,
    "minilm": minilm,
    "minilmv2": minilmv2,
    "mlkd": mlkd,
    "simkd": simkd,
}

__all__ = ["RECIPES", "Stage", "hard_labels", "logit_mse", "soft_targets"]
