"""Recipes that compress the student while it learns; it must have the teacher's hidden size."""

from functools import partial
from typing import Any

from eyas.compression import compress, parse_methods
from eyas.errors import ModelError
from eyas.losses import AttentionLoss, HiddenStateLoss, Loss, SoftCrossEntropyLoss
from eyas.losses.schedules import Schedule
from eyas.training.recipes.base import Stage, Transform


def _apply(*methods: str) -> Transform:
    return partial(_compressed, methods=methods)


def _compressed(model: Any, methods: tuple[str, ...]) -> Any:
    return compress(model, parse_methods(methods))


def same_layers(
    attention_weight: float | Schedule = 1.0,
    hidden_weight: float | Schedule = 1.0,
    temperature: float | Schedule = 1.0,
) -> list[Stage]:
    """Hidden states, attention scores and predictions, all at once (TernaryBERT's objective, Zhang et al. 2020)."""
    losses: list[Loss] = [
        SoftCrossEntropyLoss(temperature),
        HiddenStateLoss("uniform", hidden_weight, embeddings=True),
        *([AttentionLoss("scores", "uniform", attention_weight)] if attention_weight else []),
    ]
    return [Stage(losses)]


def ternarybert(
    bits: str = "ternary",
    scales: str = "layer",
    attention_weight: float | Schedule = 1.0,
    hidden_weight: float | Schedule = 1.0,
) -> list[Stage]:
    """Ternary weights and 8-bit activations, taught by every layer (TernaryBERT, Zhang et al. 2020, with TWN)."""
    (stage,) = same_layers(attention_weight, hidden_weight)
    method = f"{bits}:{scales}" if bits == "ternary" else bits
    return [Stage(stage.losses, before=_apply(method))]


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
        stages.append(Stage(stage.losses, length=1 / rounds, before=_apply(*first, f"prune:{share:.6g}")))
    return stages
