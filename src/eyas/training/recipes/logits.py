"""Recipes that need only the teacher's logits, or no teacher."""

from collections.abc import Callable

from eyas.errors import ModelError
from eyas.losses import (
    AdaKDLoss,
    AnnealedMSELoss,
    ContinuationLoss,
    CosineLogitLoss,
    DISTLoss,
    DKDLoss,
    HardLabelLoss,
    HuberLogitLoss,
    JensenShannonLoss,
    LogitMSELoss,
    LogitStandardizationLoss,
    Loss,
    ResidualLoss,
    SelectedTeachersLoss,
    SoftCrossEntropyLoss,
    SoftTargetLoss,
    TeachersStatesLoss,
    TokenStateLoss,
    WeightedTeachersLoss,
    schedules,
)
from eyas.losses.schedules import Schedule, linear
from eyas.training.recipes.base import Stage

# Logit losses by option name.
LOGIT_LOSSES: dict[str, Callable[..., Loss]] = {
    "divergence": SoftTargetLoss,
    "soft-cross-entropy": SoftCrossEntropyLoss,
    "standardized": LogitStandardizationLoss,
    "mse": LogitMSELoss,
    "huber": HuberLogitLoss,
    "cosine": CosineLogitLoss,
    "jensen-shannon": JensenShannonLoss,
    "decoupled": DKDLoss,
    "correlation": DISTLoss,
}
SOFTENED = ("divergence", "soft-cross-entropy", "standardized", "decoupled", "correlation")


def logit_loss(name: str, temperature: float | Schedule | None = None) -> Loss:
    """One of `LOGIT_LOSSES`; by default with its own temperature.

    Raises:
        ModelError: the loss takes no temperature.
    """
    if temperature is None:
        return LOGIT_LOSSES[name]()
    if name not in SOFTENED:
        raise ModelError(f"The loss {name} takes no temperature. Leave it out, or use one of {', '.join(SOFTENED)}.")
    return LOGIT_LOSSES[name](temperature)


def hard_labels() -> list[Stage]:
    """No teacher: cross-entropy with the gold labels. The baseline of every comparison."""
    return [Stage(losses=[HardLabelLoss()])]


def logit_mse() -> list[Stage]:
    """Mean squared error of raw logits alone (Tang et al. 2019, section 3.2, their best setting)."""
    return [Stage(losses=[LogitMSELoss()])]


def soft_targets(
    temperature: float | Schedule | None = None, hard_weight: float | Schedule = 0.1, loss: str = "divergence"
) -> list[Stage]:
    """Softened predictions of the teacher and, with a small weight, the labels (Hinton et al. 2015, section 2)."""
    return [Stage(losses=[logit_loss(loss, temperature), HardLabelLoss(weight=hard_weight)])]


def annealing(highest: int = 7) -> list[Stage]:
    """The teacher's logits, scaled up step by step, then the labels (Annealing-KD, Jafari et al. 2021)."""
    return [Stage([AnnealedMSELoss(schedules.annealing(highest))]), Stage([HardLabelLoss()])]


def continuation(highest: int = 10, margin: float = 1.0) -> list[Stage]:
    """A gradual shift from annealed logits, with a margin, to the labels (Continuation-KD, Jafari et al. 2022).

    As on GLUE in the paper, the labels' weight grows to 0.5 over two thirds of training, and is 1 thereafter.
    """

    def labels(progress: float) -> float:
        return 0.75 * progress if progress <= 2 / 3 else 1.0

    soft = ContinuationLoss(schedules.annealing(highest), margin, weight=lambda progress: 1 - labels(progress))
    return [Stage([soft, HardLabelLoss(weight=labels)])]


def adakd(temperature: float | Schedule = 2.0, slope: float = 1.0) -> list[Stage]:
    """The teacher on easy examples first, then on hard ones; otherwise the labels (AdaKD, Ganguly et al. 2024)."""
    return [Stage([AdaKDLoss(temperature, linear(slope, -slope))])]


def dkd(
    temperature: float | Schedule = 4.0,
    target_weight: float | Schedule = 1.0,
    rest_weight: float | Schedule = 8.0,
    warmup: float = 0.083,
) -> list[Stage]:
    """Separate losses for the target class and the others, after a warm-up, and labels (DKD, Zhao et al. 2022).

    `warmup` is a share of training: in the paper 20 of 240 epochs.
    """
    if not 0 <= warmup <= 1:
        raise ModelError(f"dkd: warmup={warmup}, expected a share of training, 0 to 1.")
    weight = schedules.warmup(warmup) if warmup else 1.0
    return [Stage([DKDLoss(temperature, target_weight, rest_weight, weight), HardLabelLoss()])]


def dist(temperature: float | Schedule = 1.0, weight: float | Schedule = 2.0) -> list[Stage]:
    """Correlation with the teacher's predictions, and the labels (DIST, Huang et al. 2022)."""
    return [Stage([DISTLoss(temperature, weight=weight), HardLabelLoss()])]


def kd_dagfm(hard_weight: float | Schedule = 0.0) -> list[Stage]:
    """The teacher's logits, then the labels, for rows of fields (KD-DAGFM, Tian et al. 2023)."""
    return [Stage([LogitMSELoss(), HardLabelLoss(weight=hard_weight)]), Stage([HardLabelLoss()])]


def mt_bert(
    temperature: float | Schedule = 1.0, hard_weight: float | Schedule = 1.0, hidden_weight: float | Schedule = 0.0
) -> list[Stage]:
    """Several teachers, each weighted by how right it is about a text, and the labels (MT-BERT, Wu et al. 2021).

    With `hidden_weight`, a transformer also learns their hidden states; best from `finetune --shared-head`.
    """
    states = [TeachersStatesLoss(hidden_weight)] if hidden_weight else []
    return [Stage([WeightedTeachersLoss(temperature), *states, HardLabelLoss(weight=hard_weight)])]


def reinforced(temperature: float | Schedule = 1.0, hard_weight: float | Schedule = 1.0) -> list[Stage]:
    """The teachers that a learned policy chooses for a text, and the labels (Yuan et al. 2021)."""
    return [Stage([SelectedTeachersLoss(temperature), HardLabelLoss(weight=hard_weight)])]


def residual() -> list[Stage]:
    """An ensemble's first member learns the teacher, the others what it lacks (Residual KD, Gao et al. 2020)."""
    student, assistants = ResidualLoss(assistants=False), ResidualLoss(assistants=True)
    return [Stage([student]), Stage([assistants], frozen=("embeddings",))]  # the student reads the same word vectors


def sra(
    cosine_weight: float | Schedule = 1.0, mse_weight: float | Schedule = 1.0, states_weight: float | Schedule = 0.0
) -> list[Stage]:
    """Cosine and MSE to the teacher's sentence vectors (SRA, Wu et al. 2020), for pretrain-student.

    With `states_weight`, also to its states of the tokens; `pretrain-student` sets it to 1.
    """
    vectors = [CosineLogitLoss(weight=cosine_weight), LogitMSELoss(weight=mse_weight)]
    return [Stage([*vectors, TokenStateLoss(weight=states_weight)])]
