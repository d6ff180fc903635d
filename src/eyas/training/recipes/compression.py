"""Recipes that compress the student while it learns; it must have the teacher's hidden size."""

from eyas.compression import Compress
from eyas.errors import ModelError
from eyas.losses import (
    AttentionLoss,
    HardLabelLoss,
    HiddenStateLoss,
    Loss,
    SoftCrossEntropyLoss,
    SoftTargetLoss,
    TeacherCasesLoss,
)
from eyas.losses.schedules import Schedule
from eyas.training.recipes.base import Stage, rest_of

# The length of a training whose student starts as its own teacher, relative to the default.
SHORT = 0.25


def same_layers(
    attention_weight: float | Schedule = 1.0,
    hidden_weight: float | Schedule = 1.0,
    temperature: float | Schedule = 1.0,
) -> list[Stage]:
    """Hidden states, attention scores and predictions, all at once (TernaryBERT's objective, Zhang et al. 2020).

    A model that starts as its own teacher needs few steps: by default a quarter of those of other recipes.
    """
    losses: list[Loss] = [
        SoftCrossEntropyLoss(temperature),
        HiddenStateLoss("uniform", hidden_weight, embeddings=True),
        *([AttentionLoss("scores", "uniform", attention_weight)] if attention_weight else []),
    ]
    return [Stage(losses, length=SHORT)]


def ternarybert(
    bits: str = "ternary",
    scales: str = "layer",
    attention_weight: float | Schedule = 1.0,
    hidden_weight: float | Schedule = 1.0,
) -> list[Stage]:
    """Ternary weights and 8-bit activations, taught by every layer (TernaryBERT, Zhang et al. 2020, with TWN)."""
    if bits != "ternary" and scales != "layer":
        raise ModelError(f"ternarybert: scales={scales} is for ternary weights, but bits={bits}. Leave one out.")
    (stage,) = same_layers(attention_weight, hidden_weight)
    method = f"{bits}:{scales}" if bits == "ternary" else bits
    return [Stage(stage.losses, before=Compress((method,)))]


def ladabert(low_rank: float = 0.5, prune: float = 0.5, rounds: int = 4) -> list[Stage]:
    """Matrices of low rank, whose factors are pruned in rounds while all layers teach (LadaBERT, Mao et al. 2020).

    `low_rank` is the share of the parameters that are kept, `prune` the share of these that become zero. The paper's
    schedule could not be read: the share grows with the cube of the time left, as in Zhu and Gupta 2017.
    """
    for name, share in (("low_rank", low_rank), ("prune", prune)):
        if not 0 < share < 1:
            raise ModelError(f"ladabert: {name}={share}, expected a share between 0 and 1.")
    stages = []
    for number in range(rounds):
        share = prune * (1 - (1 - (number + 1) / rounds) ** 3)
        first = (f"low-rank:{low_rank}",) if number == 0 else ()
        (stage,) = same_layers()
        stages.append(Stage(stage.losses, length=1 / rounds, before=Compress((*first, f"prune:{share!r}"))))
    return stages


def pea_kd(
    sure_right: float = 0.95,
    sure_wrong: float = 0.75,
    temperature: float | Schedule = 2.0,
    hard_weight: float | Schedule = 0.5,
) -> list[Stage]:
    """Half of the layers, run twice; first which texts the teacher gets right (Pea-KD, Cho & Kang 2022).

    Then labels and soft targets. The student needs an even number of layers. `sure_right` and `sure_wrong` are the
    probabilities above which the teacher counts as sure (the authors' for MRPC; for SST-2 0.98 and 0.8).
    """
    then: list[Loss] = [HardLabelLoss(weight=hard_weight), SoftTargetLoss(temperature, weight=rest_of(hard_weight))]
    return [Stage([TeacherCasesLoss(sure_right, sure_wrong)], before=Compress(("shared",))), Stage(then)]
