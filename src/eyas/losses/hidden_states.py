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
from eyas.losses.layer_mapping import Attention, LayerMapping, Layers, MappedLoss, Pairs, mapped_distance
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

    def check_models(self, student: Any, teacher: Any) -> None:
        super().check_models(student, teacher)
        by_states = isinstance(getattr(self, "mapping", None), Attention)
        if by_states and not self.projects and student.hidden_size != teacher.hidden_size:
            raise ModelError(
                f"mapping=attention compares the states of both models: expected hidden size {teacher.hidden_size}, "
                f"got {student.hidden_size}. Choose another mapping, or hidden=mse, which projects them."
            )

    def prepare(self, student: Any, teacher: Any) -> None:
        """Create the projection if the configurations differ in `hidden_size`."""
        super().prepare(student, teacher)
        differs = self.projects and student.hidden_size != teacher.hidden_size
        self.projection = nn.Linear(student.hidden_size, teacher.hidden_size) if differs else None

    def projected(self, states: Tensor) -> Tensor:
        """The student's states, projected if the loss has a projection."""
        return states if self.projection is None else self.projection(states)


class HiddenStateLoss(StateLoss, MappedLoss):
    """Mean squared error of mapped layers, over all tokens.

    Args:
        mapping: the layers to compare; see `layer_mapping`.
        embeddings: also compare the embedding layer's outputs, through the same projection.
        padding: let padding count in the mean over tokens, as in the code of TinyBERT, BERT-EMD and MLKD-BERT.
        summed: the sum over layers, not the mean.
        own_projections: a projection for each layer, in place of one for all.
    """

    paper = "TinyBERT, Jiao et al. 2020, eq. 8"

    def __init__(
        self,
        mapping: str | LayerMapping | Pairs = "uniform",
        weight: float | Schedule = 1.0,
        *,
        embeddings: bool = False,
        padding: bool = False,
        summed: bool = False,
        own_projections: bool = False,
    ) -> None:
        super().__init__(weight)
        self.map_layers(mapping)
        self.embeddings, self.padding, self.summed = embeddings, padding, summed
        self.own_projections = own_projections
        self.projections: nn.ModuleList | None = None

    def prepare(self, student: Any, teacher: Any) -> None:
        if not self.own_projections:
            super().prepare(student, teacher)
            return
        MappedLoss.prepare(self, student, teacher)
        self.projections = None
        if student.hidden_size != teacher.hidden_size:
            layers = range(student.num_hidden_layers + 1)
            self.projections = nn.ModuleList(nn.Linear(student.hidden_size, teacher.hidden_size) for _ in layers)

    def projected(self, states: Tensor, layer: int = 0) -> Tensor:
        if self.projections is not None:
            found: Tensor = self.projections[layer](states)
            return found
        return super().projected(states)

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].bool()
        if self.padding:
            mask = torch.ones_like(mask)
        student_states, teacher_states = student["hidden_states"], teacher["hidden_states"]

        def ours(layer: int) -> Tensor:
            return self.scaled(self.projected(self.seen(student_states[layer], mask), layer))

        def theirs(layer: int) -> Tensor:
            return self.scaled(self.seen(teacher_states[layer], mask))

        found = mapped_distance(
            Layers(len(student_states) - 1, lambda n: ours(n + 1)),
            Layers(len(teacher_states) - 1, lambda n: theirs(n + 1)),
            self.mapping,
            lambda student, teacher: self.distance(student, teacher, mask),
            self.summed,
        )
        return found + self.distance(ours(0), theirs(0), mask) if self.embeddings else found

    def seen(self, states: Tensor, mask: Tensor) -> Tensor:
        """The part of a layer's states to compare; `mask` [batch, length] is False at padding."""
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


class CosineHiddenLoss(HiddenStateLoss):
    """One minus the cosine of mapped layers' states, averaged over tokens."""

    paper = "DistilBERT, Sanh et al. 2019"

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(1 - F.cosine_similarity(student, teacher, dim=-1), mask)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of `values` where `mask` is True; both have the same shape."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def squared_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of states [batch, length, size] over the tokens of `mask` [batch, length]."""
    return masked_mean((student - teacher).square().mean(-1), mask)


class TokenStateLoss(Loss):
    """One minus the cosine, and squared error, to the states of the teacher's last layer: a mean over tokens.

    For the encoders of tokens of a family of students, each of which has its own projection. The teacher's first token
    stands for the text and is left out.
    """

    paper = "after XtremeDistil, Mukherjee & Awadallah 2020: its first stage"
    student_fields = frozenset({"token_states", "member_logits"})
    teacher_fields = frozenset({"hidden_states"})

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        read = teacher["attention_mask"].bool()
        read = torch.cat([torch.zeros_like(read[:, :1]), read[:, 1:]], 1)
        ours, theirs = student["token_states"][:, read], teacher["hidden_states"][-1][read]
        if not read.any():  # texts of their first token alone
            nothing: Tensor = ours.sum()
            return nothing
        distance = 1 - F.cosine_similarity(ours, theirs.expand_as(ours), dim=-1)
        return distance.mean() + F.mse_loss(ours, theirs.expand_as(ours))
