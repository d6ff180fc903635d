"""Losses against the teacher's hidden states.

Student and teacher read the same tokens. `hidden_states` is a tuple of [batch, length, size], 0 = embeddings. If the
hidden sizes differ, a learned linear projection, shared by all layers, maps the student's states to the teacher's size.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import Fields, Loss
from eyas.losses.layer_mapping import LayerMapping, Layers, MappedLoss, Pairs, mapped_distance, normalized
from eyas.losses.schedules import Schedule


class StateLoss(Loss):
    """Compares the hidden states of two models."""

    student_fields = frozenset({"hidden_states"})
    teacher_fields = frozenset({"hidden_states"})
    # Whether the student's states are projected to the teacher's size.
    projects: ClassVar[bool] = True

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.projection: nn.Module | None = None

    def prepare(self, student: Any, teacher: Any) -> None:
        """Create the projection if the configurations differ in `hidden_size`."""
        super().prepare(student, teacher)
        if self.projects and self.projection is None and student.hidden_size != teacher.hidden_size:
            self.projection = nn.Linear(student.hidden_size, teacher.hidden_size)

    def projected(self, states: Tensor) -> Tensor:
        """The student's states, projected if the loss has a projection."""
        return states if self.projection is None else self.projection(states)


class HiddenStateLoss(StateLoss, MappedLoss):
    """Mean squared error of mapped layers, over all tokens.

    Args:
        mapping: the layers to compare; see `layer_mapping`.
    """

    paper = "TinyBERT, Jiao et al. 2020, eq. 8"

    def __init__(self, mapping: str | LayerMapping | Pairs = "uniform", weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.map_layers(mapping)

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].bool()
        student_states, teacher_states = student["hidden_states"][1:], teacher["hidden_states"][1:]
        return mapped_distance(
            Layers(len(student_states), lambda n: self.scaled(self.projected(self.seen(student_states[n])))),
            Layers(len(teacher_states), lambda n: self.scaled(self.seen(teacher_states[n]))),
            self.mapping,
            lambda student, teacher: self.distance(student, teacher, mask),
        )

    def seen(self, states: Tensor) -> Tensor:
        """The part of a layer's states to compare."""
        return states

    def scaled(self, states: Tensor) -> Tensor:
        """Scale the states for comparison, after the projection."""
        return states

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """Distance between two layers' states; `mask` [batch, length] is False at padding."""
        return squared_error(student, teacher, mask)


class EmbeddingLoss(StateLoss):
    """Mean squared error of the embedding layer's outputs."""

    paper = "TinyBERT, Jiao et al. 2020, eq. 9"

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        states = self.projected(student["hidden_states"][0])
        return squared_error(states, teacher["hidden_states"][0], batch["attention_mask"].bool())


class PKDLoss(HiddenStateLoss):
    """Mean squared error of the first token's states, scaled to norm 1.

    As in the authors' code, the mean is over the states' elements, so the loss is smaller for larger hidden sizes.

    Args:
        normalize: scale the states to norm 1; ALP-KD does not.
    """

    paper = "Patient KD, Sun et al. 2019, eq. 7"
    of_whole_texts = True

    def __init__(
        self, mapping: str | LayerMapping | Pairs = "skip", normalize: bool = True, weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(mapping, weight)
        self.normalize = normalize

    def seen(self, states: Tensor) -> Tensor:
        return states[:, 0]

    def scaled(self, states: Tensor) -> Tensor:
        return normalized(states) if self.normalize else states

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return F.mse_loss(student, teacher)


class LastStateLoss(StateLoss):
    """Mean squared error of the input of a reused head: the last layer's first token.

    If the teacher's head pools by mean (`classifier_pooling`, ModernBERT), the mean of the last layer's tokens.
    """

    paper = "SimKD, Chen et al. 2022, eq. 4"
    of_whole_texts = True
    needs = "as wide as the teacher"
    projects = False

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.mean = False

    def check_models(self, student: Any, teacher: Any) -> None:
        """Raises ModelError if the hidden sizes differ, because the student gets the teacher's head."""
        if student.hidden_size != teacher.hidden_size:
            raise ModelError(
                f"simkd gives the student the teacher's head: expected hidden size {teacher.hidden_size}, got "
                f"{student.hidden_size}. Use --student bert with --layers."
            )

    def prepare(self, student: Any, teacher: Any) -> None:
        self.mean = getattr(teacher, "classifier_pooling", None) == "mean"

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].unsqueeze(-1)

        def read(states: Tensor) -> Tensor:
            return (states * mask).sum(1) / mask.sum(1) if self.mean else states[:, 0]

        return F.mse_loss(read(student["hidden_states"][-1]), read(teacher["hidden_states"][-1]))


class CosineHiddenLoss(HiddenStateLoss):
    """One minus the cosine of mapped layers' states, averaged over tokens."""

    paper = "DistilBERT, Sanh et al. 2019"

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(1 - F.cosine_similarity(student, teacher, dim=-1), mask)


class RelationLoss(HiddenStateLoss):
    """Mean squared error of the cosines between the tokens of a text. Needs no projection."""

    paper = "MLKD-BERT, Zhang et al. 2024"
    projects = False

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return cosine_error(student, teacher, mask)


class EmbeddingRelationLoss(StateLoss):
    """`RelationLoss` of the embedding layer's outputs (MLKD-BERT's embedding relation)."""

    paper = "MLKD-BERT, Zhang et al. 2024"
    projects = False

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        return cosine_error(student["hidden_states"][0], teacher["hidden_states"][0], batch["attention_mask"].bool())


class CKALoss(HiddenStateLoss):
    """One minus the linear centered kernel alignment of mapped layers' tokens. Needs no projection."""

    paper = "Kornblith et al. 2019, eq. 5"
    projects = False

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        student, teacher = student[mask], teacher[mask]
        student, teacher = student - student.mean(0), teacher - teacher.mean(0)
        across = (teacher.T @ student).square().sum()
        own = (student.T @ student).norm() * (teacher.T @ teacher).norm()
        alignment: Tensor = across / own.clamp(min=1e-12)
        return 1 - alignment


class ContrastiveLoss(StateLoss):
    """InfoNCE: each text's first token should be nearest to the teacher's for the same text, among all of the batch.

    The sample-contrastive term of MLKD-BERT's second stage, on the last layer.

    Args:
        temperature: of the cosines.
    """

    paper = "MLKD-BERT, Zhang et al. 2024"
    of_whole_texts = True

    def __init__(self, temperature: float = 0.1, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        states = normalized(self.projected(student["hidden_states"][-1][:, 0]))
        targets = normalized(teacher["hidden_states"][-1][:, 0])
        own = torch.arange(len(states), device=states.device)
        return F.cross_entropy(states @ targets.T / self.temperature, own)


class SampleRelationLoss(StateLoss):
    """Mean squared error of the cosines between the texts of a batch, on the last layer's first token."""

    paper = "MLKD-BERT, Zhang et al. 2024"
    of_whole_texts = True
    projects = False

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        states, targets = student["hidden_states"][-1][:, 0], teacher["hidden_states"][-1][:, 0]
        return F.mse_loss(_cosines(states), _cosines(targets))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of `values` where `mask` is True; both have the same shape."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def squared_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of states [batch, length, size] over the tokens of `mask` [batch, length]."""
    return masked_mean((student - teacher).square().mean(-1), mask)


def cosine_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the cosines between pairs of tokens of `mask` [batch, length]."""
    pairs = mask.unsqueeze(1) & mask.unsqueeze(2)
    return masked_mean((_cosines(student) - _cosines(teacher)).square(), pairs)


def _cosines(states: Tensor) -> Tensor:
    unit = normalized(states)
    return unit @ unit.transpose(-1, -2)
