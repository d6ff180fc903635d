"""The losses, grouped by what they compare."""

from eyas.losses import schedules
from eyas.losses.attentions import (
    AttentionLoss,
    AttentionRelationLoss,
    ContextRelationLoss,
    MiniLMLoss,
    MiniLMv2Loss,
)
from eyas.losses.attributions import AttributionLoss
from eyas.losses.base import Loss
from eyas.losses.distributions import (
    AdaKDLoss,
    DISTLoss,
    DKDLoss,
    JensenShannonLoss,
    LogitStandardizationLoss,
    SoftCrossEntropyLoss,
    SoftTargetLoss,
)
from eyas.losses.domains import DomainStateLoss, ExpertiseWeights, MetaTeacherLoss
from eyas.losses.hidden_states import CosineHiddenLoss, EmbeddingLoss, HiddenStateLoss, TokenStateLoss
from eyas.losses.labels import HardLabelLoss
from eyas.losses.layer_mapping import MAPPINGS
from eyas.losses.logits import AnnealedMSELoss, ContinuationLoss, CosineLogitLoss, HuberLogitLoss, LogitMSELoss
from eyas.losses.members import DiversityLoss, MutualLoss, ResidualLoss
from eyas.losses.relations import (
    CKALoss,
    ContrastiveLoss,
    EmbeddingRelationLoss,
    RelationLoss,
    SampleRelationLoss,
)
from eyas.losses.teachers import SelectedTeachersLoss, TeachersStatesLoss, WeightedTeachersLoss
from eyas.losses.text_states import LastStateLoss, PKDLoss, RandomLayerLoss, TeacherCasesLoss
from eyas.losses.transport import EarthMovers
from eyas.losses.weights import LearnedWeights

__all__ = [
    "MAPPINGS",
    "AdaKDLoss",
    "AnnealedMSELoss",
    "AttentionLoss",
    "AttentionRelationLoss",
    "AttributionLoss",
    "CKALoss",
    "ContextRelationLoss",
    "ContinuationLoss",
    "ContrastiveLoss",
    "CosineHiddenLoss",
    "CosineLogitLoss",
    "DISTLoss",
    "DKDLoss",
    "DiversityLoss",
    "DomainStateLoss",
    "EarthMovers",
    "EmbeddingLoss",
    "EmbeddingRelationLoss",
    "ExpertiseWeights",
    "HardLabelLoss",
    "HiddenStateLoss",
    "HuberLogitLoss",
    "JensenShannonLoss",
    "LastStateLoss",
    "LearnedWeights",
    "LogitMSELoss",
    "LogitStandardizationLoss",
    "Loss",
    "MetaTeacherLoss",
    "MiniLMLoss",
    "MiniLMv2Loss",
    "MutualLoss",
    "PKDLoss",
    "RandomLayerLoss",
    "RelationLoss",
    "ResidualLoss",
    "SampleRelationLoss",
    "SelectedTeachersLoss",
    "SoftCrossEntropyLoss",
    "SoftTargetLoss",
    "TeacherCasesLoss",
    "TeachersStatesLoss",
    "TokenStateLoss",
    "WeightedTeachersLoss",
    "schedules",
]
