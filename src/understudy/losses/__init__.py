"""Terms of the objective: one class each, in the file of its kind."""

from understudy.losses import schedules
from understudy.losses.attentions import AttentionLoss, AttentionRelationLoss, MiniLMLoss, MiniLMv2Loss
from understudy.losses.attributions import AttributionLoss
from understudy.losses.base import Loss
from understudy.losses.hidden_states import (
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
from understudy.losses.labels import HardLabelLoss
from understudy.losses.layer_mapping import MAPPINGS, EarthMovers
from understudy.losses.logits import (
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
from understudy.losses.members import DiversityLoss, MutualLoss
from understudy.losses.weights import LearnedWeights

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
