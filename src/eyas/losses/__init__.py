"""Terms of the objective: one class each, in the file of its kind."""

from eyas.losses import schedules
from eyas.losses.attentions import AttentionLoss, AttentionRelationLoss, MiniLMLoss, MiniLMv2Loss
from eyas.losses.attributions import AttributionLoss
from eyas.losses.base import Loss
from eyas.losses.hidden_states import (
    CKALoss,
    ContrastiveLoss,
    CosineHiddenLoss,
    EmbeddingLoss,
    EmbeddingRelationLoss,
    HiddenStateLoss,
    LastStateLoss,
    PatientLoss,
    RelationLoss,
    SampleRelationLoss,
)
from eyas.losses.labels import HardLabelLoss
from eyas.losses.layer_mapping import MAPPINGS, EarthMovers
from eyas.losses.logits import (
    AdaptiveLoss,
    AnnealedMSELoss,
    ContinuationLoss,
    CosineLogitLoss,
    DecoupledLoss,
    HuberLogitLoss,
    JensenShannonLoss,
    LogitMSELoss,
    PearsonLoss,
    SoftCrossEntropyLoss,
    SoftTargetLoss,
    StandardisedLoss,
)
from eyas.losses.members import DiversityLoss, MutualLoss
from eyas.losses.weights import LearnedWeights

__all__ = [
    "MAPPINGS",
    "AdaptiveLoss",
    "AnnealedMSELoss",
    "AttentionLoss",
    "AttentionRelationLoss",
    "AttributionLoss",
    "CKALoss",
    "ContinuationLoss",
    "ContrastiveLoss",
    "CosineHiddenLoss",
    "CosineLogitLoss",
    "DecoupledLoss",
    "DiversityLoss",
    "EarthMovers",
    "EmbeddingLoss",
    "EmbeddingRelationLoss",
    "HardLabelLoss",
    "HiddenStateLoss",
    "HuberLogitLoss",
    "JensenShannonLoss",
    "LastStateLoss",
    "LearnedWeights",
    "LogitMSELoss",
    "Loss",
    "MiniLMLoss",
    "MiniLMv2Loss",
    "MutualLoss",
    "PatientLoss",
    "PearsonLoss",
    "RelationLoss",
    "SampleRelationLoss",
    "SoftCrossEntropyLoss",
    "SoftTargetLoss",
    "StandardisedLoss",
    "schedules",
]
