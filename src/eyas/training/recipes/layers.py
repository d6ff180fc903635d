"""Recipes that read the teacher's layers. The student is a transformer of its family; `ad_kd` takes any student."""

from collections.abc import Callable
from typing import Any, cast

from eyas.errors import ModelError
from eyas.losses import (
    AttentionLoss,
    AttentionRelationLoss,
    AttributionLoss,
    CKALoss,
    ContextRelationLoss,
    ContrastiveLoss,
    CosineHiddenLoss,
    DomainStateLoss,
    EarthMovers,
    EmbeddingLoss,
    EmbeddingRelationLoss,
    ExpertiseWeights,
    HardLabelLoss,
    HiddenStateLoss,
    LastStateLoss,
    LogitMSELoss,
    Loss,
    MiniLMLoss,
    MiniLMv2Loss,
    PKDLoss,
    RandomLayerLoss,
    RelationLoss,
    SampleRelationLoss,
    SoftCrossEntropyLoss,
    SoftTargetLoss,
)
from eyas.losses.schedules import Schedule, at, capped, linear
from eyas.losses.transport import LayerWeights
from eyas.training.recipes.base import Stage, rest_of
from eyas.training.recipes.logits import logit_loss

# Layer losses by option name. Relations do not need equal hidden sizes.
HIDDEN_LOSSES: dict[str, Callable[..., Loss]] = {
    "mse": HiddenStateLoss,
    "cosine": CosineHiddenLoss,
    "cka": CKALoss,
    "relations": RelationLoss,
    "first-token": PKDLoss,
}
ATTENTION_LOSSES: dict[str, Callable[..., Loss]] = {
    "scores": lambda mapping, weight: AttentionLoss("scores", mapping, weight),
    "probabilities": lambda mapping, weight: AttentionLoss("probabilities", mapping, weight),
    "divergence": lambda mapping, weight: AttentionLoss("divergence", mapping, weight),
    "relations": lambda mapping, weight: AttentionRelationLoss(mapping=mapping, weight=weight),
}
# Modules above the layers, under the names of all families.
HEAD = ("classifier", "pooler", "pre_classifier", "head")


def _patient(
    mapping: Any,
    temperature: float | Schedule,
    hard_weight: float | Schedule,
    patient_weight: float | Schedule,
    pooling: str,
) -> Stage:
    losses: list[Loss] = [
        HardLabelLoss(weight=hard_weight),
        SoftTargetLoss(temperature, weight=rest_of(hard_weight), per_class=True),
        PKDLoss(mapping, weight=patient_weight, pooling=cast(Any, pooling)),
    ]
    return Stage(losses)


def patient_skip(
    temperature: float | Schedule = 10.0,
    hard_weight: float | Schedule = 0.5,
    patient_weight: float | Schedule = 100.0,
    pooling: str = "first",
) -> list[Stage]:
    """Labels, soft targets and every n-th layer's first token (Patient KD, Sun et al. 2019, PKD-Skip)."""
    return [_patient("skip", temperature, hard_weight, patient_weight, pooling)]


def patient_last(
    temperature: float | Schedule = 10.0,
    hard_weight: float | Schedule = 0.5,
    patient_weight: float | Schedule = 100.0,
    pooling: str = "first",
) -> list[Stage]:
    """Labels, soft targets and the last layers' first token (Patient KD, Sun et al. 2019, PKD-Last)."""
    return [_patient("last", temperature, hard_weight, patient_weight, pooling)]


def alp_kd(
    temperature: float | Schedule = 2.0,
    hard_weight: float | Schedule = 0.5,
    layer_weight: float | Schedule = 1.0,
    pooling: str = "first",
) -> list[Stage]:
    """Each layer learns an attention-weighted mean of all teacher layers (ALP-KD, Passban et al. 2021)."""
    losses: list[Loss] = [
        HardLabelLoss(weight=hard_weight),
        SoftTargetLoss(temperature, weight=rest_of(hard_weight)),
        PKDLoss("attention", normalize=False, weight=layer_weight, pooling=cast(Any, pooling)),
    ]
    return [Stage(losses)]


def rail_kd(
    temperature: float | Schedule = 2.0,
    hard_weight: float | Schedule = 0.5,
    layer_weight: float | Schedule = 1.0,
    layers: str = "each",
) -> list[Stage]:
    """The mean of the tokens in teacher layers that are drawn anew each epoch (RAIL-KD, Haidar et al. 2022)."""
    losses: list[Loss] = [
        HardLabelLoss(weight=hard_weight),
        SoftTargetLoss(temperature, weight=rest_of(hard_weight)),
        RandomLayerLoss(joined=layers == "joined", weight=layer_weight),
    ]
    return [Stage(losses)]


def tinybert(
    mapping: Any = "uniform",
    attention_weight: float | Schedule = 1.0,
    hidden_weight: float | Schedule = 1.0,
    temperature: float | Schedule | None = None,
    attention: str = "scores",
    hidden: str = "mse",
    prediction: str = "soft-cross-entropy",
    reduction: str = "mean",
) -> list[Stage]:
    """First embeddings, hidden states and attention scores, then predictions (TinyBERT, Jiao et al. 2020).

    `reduction` is "mean" over real tokens and over layers, or as in the "authors" code: padding counts in the means,
    and layers are summed.
    """
    if reduction == "authors":
        if (attention, hidden) != ("scores", "mse"):
            raise ModelError("tinybert: reduction=authors is for attention=scores and hidden=mse, as in their code.")
        both: list[Loss] = [
            HiddenStateLoss(mapping, hidden_weight, embeddings=True, padding=True, summed=True),
            AttentionLoss("scores", mapping, attention_weight, padding=True, summed=True),
        ]
        return [Stage(both), Stage([logit_loss(prediction, temperature)])]
    inner: list[Loss] = [
        EmbeddingLoss(),
        HIDDEN_LOSSES[hidden](mapping, weight=hidden_weight),
        *([ATTENTION_LOSSES[attention](mapping, attention_weight)] if attention_weight else []),
    ]
    return [Stage(inner), Stage([logit_loss(prediction, temperature)])]


def tinybert_improved(
    mapping: Any = "mean",
    attention_weight: float | Schedule = 0.1,
    hidden_weight: float | Schedule = 1.0,
    temperature: float | Schedule | None = None,
) -> list[Stage]:
    """TinyBERT with the mapping and weights that scored best on TREC (after Dankar et al. 2023)."""
    return tinybert(mapping, attention_weight, hidden_weight, temperature)


def bert_emd(
    beta: float | Schedule = 0.01, hard_weight: float | Schedule = 0.2, temperature: float | Schedule = 1.0
) -> list[Stage]:
    """Predictions, and with a small weight all pairs of layers by optimal transport (BERT-EMD, Li et al. 2020)."""
    weights = LayerWeights(movers=2)
    states = HiddenStateLoss(EarthMovers(weights), beta, embeddings=True, padding=True)
    scores = AttentionLoss("scores", EarthMovers(weights), beta, padding=True)
    soft = SoftCrossEntropyLoss(temperature, _times(rest_of(hard_weight), temperature), per_class=True)
    return [Stage([soft, HardLabelLoss(weight=hard_weight), states, scores])]


def _times(weight: float | Schedule, temperature: float | Schedule) -> float | Schedule:
    """The weight times the temperature squared; a number unless one of them changes."""
    if not callable(weight) and not callable(temperature):
        return weight * temperature**2
    return lambda progress: at(weight, progress) * at(temperature, progress) ** 2


def distilbert(temperature: float | Schedule = 2.0) -> list[Stage]:
    """Soft targets, labels and the cosine of the last layers, on task data (DistilBERT, Sanh et al. 2019)."""
    return [Stage([SoftTargetLoss(temperature, weight=5.0), HardLabelLoss(weight=2.0), CosineHiddenLoss("final")])]


def minilm() -> list[Stage]:
    """The last layer's attention and value relation, then logits (MiniLM, Wang et al. 2020)."""
    return [Stage([MiniLMLoss()]), Stage([LogitMSELoss()])]


def minilmv2(heads: int = 48, teacher_layer: int = -1) -> list[Stage]:
    """Relations of queries, keys and values, then logits (MiniLMv2, Wang et al. 2021)."""
    return [Stage([MiniLMv2Loss(heads, teacher_layer)]), Stage([LogitMSELoss()])]


def mlkd(heads: int = 12, temperature: float | Schedule = 1.0) -> list[Stage]:
    """Layers and relations of tokens, then relations of samples and predictions (MLKD-BERT, Zhang et al. 2024)."""
    states = HiddenStateLoss("uniform", embeddings=True, summed=True, own_projections=True)
    tokens: list[Loss] = [states, EmbeddingRelationLoss(), ContextRelationLoss(heads)]
    samples: list[Loss] = [SampleRelationLoss(), ContrastiveLoss(), SoftCrossEntropyLoss(temperature, per_class=True)]
    return [Stage(tokens), Stage(samples)]


def meta_kd(domain_weight: float | Schedule = 0.5, temperature: float | Schedule = 2.0) -> list[Stage]:
    """Layers, most of the texts that the teacher knows well, then predictions (Meta-KD, Pan et al. 2021).

    The teacher was fine-tuned on several domains. With `domain_weight=0` it may be any: of its domains nothing is read.
    """
    layers: list[Loss] = [
        HiddenStateLoss("uniform", embeddings=True, summed=True),
        AttentionLoss("scores", "uniform", summed=True),
        *([DomainStateLoss(weight=domain_weight)] if domain_weight else []),
    ]
    return [Stage([ExpertiseWeights(layers, scores=bool(domain_weight))]), Stage([SoftCrossEntropyLoss(temperature)])]


def simkd() -> list[Stage]:
    """The teacher's last hidden state, under the teacher's frozen head (SimKD, Chen et al. 2022)."""
    return [Stage([LastStateLoss()], frozen=HEAD)]


def ad_kd(
    temperature: float | Schedule = 2.0,
    hard_weight: float | Schedule = 0.2,
    attribution_weight: float | Schedule = 1.0,
    dimensions: int | None = None,
) -> list[Stage]:
    """The teacher's attributions of its predictions, with soft targets and labels (AD-KD, Wu et al. 2023)."""
    losses: list[Loss] = [
        HardLabelLoss(weight=hard_weight),
        SoftCrossEntropyLoss(temperature, weight=rest_of(hard_weight)),
        *([AttributionLoss(dimensions, weight=attribution_weight)] if attribution_weight else []),
    ]
    return [Stage(losses)]


def theseus(rate: float = 0.3, alone_from: float = 0.5) -> list[Stage]:
    """Student layers gradually replace the teacher's and learn from labels alone (BERT-of-Theseus, Xu et al. 2020)."""
    for name, share in (("rate", rate), ("alone_from", alone_from)):
        if not 0 < share <= 1:
            raise ModelError(f"theseus: {name}={share}, expected a share above 0, at most 1.")
    growing = capped(linear(rate, rate + (1 - rate) / alone_from), 1.0)
    return [Stage([HardLabelLoss()], frozen=("embeddings", *HEAD), replacing=growing)]
