"""Losses against the teacher's hidden states.

Student and teacher read the same tokens. `hidden_states` is a tuple of [batch, length, size], 0 = embeddings. Where the
student is narrower, a learned linear projection, the same for all layers, brings it to the teacher's size.
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
    """Compares hidden states of two models."""

    student_fields = frozenset({"hidden_states"})
    teacher_fields = frozenset({"hidden_states"})
    # Whether states are compared in the teacher's size.
    projects: ClassVar[bool] = True

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.projection: nn.Module | None = None

    def prepare(self, student: Any, teacher: Any) -> None:
        """A projection, where the configurations `student` and `teacher` differ in `hidden_size`."""
        super().prepare(student, teacher)
        if self.projects and self.projection is None and student.hidden_size != teacher.hidden_size:
            self.projection = nn.Linear(student.hidden_size, teacher.hidden_size)

    def projected(self, states: Tensor) -> Tensor:
        """The student's states in the size that is compared."""
        return states if self.projection is None else self.projection(states)


class HiddenStateLoss(StateLoss, MappedLoss):
    """Mean squared error of mapped layers over all tokens.

    Args:
        mapping: which layer learns from which; see `layer_mapping`.
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
        """What of a layer's states is compared."""
        return states

    def scaled(self, states: Tensor) -> Tensor:
        """As they are compared, both in the teacher's size."""
        return states

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """Between two layers' states; `mask` [batch, length] is False at padding."""
        return squared_error(student, teacher, mask)


class EmbeddingLoss(StateLoss):
    """Mean squared error of what the embeddings put out."""

    paper = "TinyBERT, Jiao et al. 2020, eq. 9"

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        states = self.projected(student["hidden_states"][0])
        return squared_error(states, teacher["hidden_states"][0], batch["attention_mask"].bool())


class PKDLoss(HiddenStateLoss):
    """Squared error of the first token's states, each of length 1.

    The mean is over the states' elements as in the authors' code, so its scale falls with the size.

    Args:
        normalize: give the states length 1; ALP-KD does not.
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
    """Squared error of what a reused head reads: the last layer's first token.

    Where the teacher's configuration says so, as ModernBERT's can, the mean of the last layer's tokens.
    """

    paper = "SimKD, Chen et al. 2022, eq. 4"
    of_whole_texts = True
    needs = "as wide as the teacher"
    projects = False

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.mean = False

    def check_models(self, student: Any, teacher: Any) -> None:
        """Raises ModelError for a narrower student, which can't carry the teacher's head."""
        if student.hidden_size != teacher.hidden_size:
            raise ModelError(
                f"simkd gives the student the teacher's head, which reads {teacher.hidden_size} numbers; the student's "
                f"layers are {student.hidden_size} wide. Use --student bert with --layers."
            )

    def prepare(self, student: Any, teacher: Any) -> None:
        self.mean = getattr(teacher, "classifier_pooling", None) == "mean"

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].unsqueeze(-1)

        def read(states: Tensor) -> Tensor:
            return (states * mask).sum(1) / mask.sum(1) if self.mean else states[:, 0]

        return F.mse_loss(read(student["hidden_states"][-1]), read(teacher["hidden_states"][-1]))


class CosineHiddenLoss(HiddenStateLoss):
    """One minus the cosine of mapped layers' states, mean over tokens."""

    paper = "DistilBERT, Sanh et al. 2019"

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(1 - F.cosine_similarity(student, teacher, dim=-1), mask)


class RelationLoss(HiddenStateLoss):
    """Squared error of the cosines between a text's tokens: no projection, any size."""

    paper = "MLKD-BERT, Zhang et al. 2024"
    projects = False

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return cosine_error(student, teacher, mask)


class EmbeddingRelationLoss(StateLoss):
    """The same of what the embeddings put out (MLKD-BERT's embedding relation)."""

    paper = "MLKD-BERT, Zhang et al. 2024"
    projects = False

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        return cosine_error(student["hidden_states"][0], teacher["hidden_states"][0], batch["attention_mask"].bool())


class CKALoss(HiddenStateLoss):
    """One minus the linear centered kernel alignment of mapped layers' tokens; any sizes, without a projection."""

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
    """Each text's first token should be nearer to the teacher's for it than to those for other texts (InfoNCE).

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
    """Squared error of the cosines between the texts of a batch, on the last layer's first token."""

    paper = "MLKD-BERT, Zhang et al. 2024"
    of_whole_texts = True
    projects = False

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        states, targets = student["hidden_states"][-1][:, 0], teacher["hidden_states"][-1][:, 0]
        return F.mse_loss(_cosines(states), _cosines(targets))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of `values` where `mask` is True; both of one shape."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def squared_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Of states [batch, length, size], mean over the tokens of `mask` [batch, length]."""
    return masked_mean((student - teacher).square().mean(-1), mask)


def cosine_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared error of the cosines between tokens, mean over the pairs that `mask` [batch, length] has."""
    pairs = mask.unsqueeze(1) & mask.unsqueeze(2)
    return masked_mean((_cosines(student) - _cosines(teacher)).square(), pairs)


def _cosines(states: Tensor) -> Tensor:
    unit = normalized(states)
    return unit @ unit.transpose(-1, -2)
