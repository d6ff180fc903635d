"""Losses against the teacher's hidden states.

Student and teacher read the same tokens. `hidden_states` is a tuple of [batch, length, size], 0 = embeddings. Where the
student is narrower, a learned linear projection, the same for all layers, brings it to the teacher's size.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import Fields, Loss
from eyas.losses.layer_mapping import LayerMapping, Layers, Pairs, layer_mapping, mapped_distance, normalised
from eyas.losses.schedules import Schedule


class HiddenStateLoss(Loss):
    """Mean squared error of mapped layers over all tokens (TinyBERT, Jiao et al. 2020, eq. 8).

    Args:
        mapping: which layer learns from which; see `layer_mapping`.
    """

    student_fields: frozenset[str] = frozenset({"hidden_states"})
    teacher_fields: frozenset[str] = frozenset({"hidden_states"})

    def __init__(self, mapping: str | LayerMapping | Pairs = "uniform", weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.mapping = layer_mapping(mapping)

    def prepare(self, student: Any, teacher: Any) -> None:
        """A projection, where the configurations `student` and `teacher` differ in `hidden_size`."""
        if self.projection is None and student.hidden_size != teacher.hidden_size:
            self.projection = nn.Linear(student.hidden_size, teacher.hidden_size)

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].bool()

        def distance(ours: Tensor, theirs: Tensor) -> Tensor:
            return self.distance(ours, theirs, mask)

        inside, goal = student["hidden_states"][1:], teacher["hidden_states"][1:]
        ours = Layers(len(inside), lambda layer: self.scaled(self.projected(self.seen(inside[layer]))))
        theirs = Layers(len(goal), lambda layer: self.scaled(self.seen(goal[layer])))
        return mapped_distance(ours, theirs, self.mapping, distance)

    def projected(self, states: Tensor) -> Tensor:
        """In the teacher's size."""
        return states if self.projection is None else self.projection(states)

    def seen(self, states: Tensor) -> Tensor:
        """What of a layer's states is compared."""
        return states

    def scaled(self, states: Tensor) -> Tensor:
        """As they are compared, both in the teacher's size."""
        return states

    def distance(self, ours: Tensor, theirs: Tensor, mask: Tensor) -> Tensor:
        """Between two layers' states; `mask` [batch, length] is False at padding."""
        return masked_mean((ours - theirs).square().mean(-1), mask)


class EmbeddingLoss(HiddenStateLoss):
    """Mean squared error of what the embeddings put out (TinyBERT, eq. 9)."""

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__("final", weight)

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        ours, theirs = student["hidden_states"][0], teacher["hidden_states"][0]
        return self.distance(self.projected(ours), theirs, batch["attention_mask"].bool())


class PatientLoss(HiddenStateLoss):
    """Squared error of the first token's states, each of length 1 (Patient KD, Sun et al. 2019, eq. 7).

    The mean is over the states' elements as in the authors' code, so its scale falls with the size.

    Args:
        normalise: give the states length 1; ALP-KD does not.
    """

    of_whole_texts = True

    def __init__(
        self, mapping: str | LayerMapping | Pairs = "skip", normalise: bool = True, weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(mapping, weight)
        self.normalise = normalise

    def seen(self, states: Tensor) -> Tensor:
        return states[:, 0]

    def scaled(self, states: Tensor) -> Tensor:
        return normalised(states) if self.normalise else states

    def distance(self, ours: Tensor, theirs: Tensor, mask: Tensor) -> Tensor:
        return F.mse_loss(ours, theirs)


class LastStateLoss(HiddenStateLoss):
    """Squared error of what a reused head reads: the last layer's first token (SimKD, Chen et al. 2022, eq. 4).

    Where the teacher's configuration says so, as ModernBERT's can, the mean of the last layer's tokens.
    """

    of_whole_texts = True
    needs = "as wide as the teacher"

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__("final", weight)
        self.mean = False

    def prepare(self, student: Any, teacher: Any) -> None:
        """Raises ModelError for a narrower student, which can't carry the teacher's head."""
        if student.hidden_size != teacher.hidden_size:
            raise ModelError(
                f"simkd gives the student the teacher's head, which reads {teacher.hidden_size} numbers; the student's "
                f"layers are {student.hidden_size} wide. Use --student bert with --layers."
            )
        self.mean = getattr(teacher, "classifier_pooling", None) == "mean"

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].unsqueeze(-1)

        def read(states: Tensor) -> Tensor:
            return (states * mask).sum(1) / mask.sum(1) if self.mean else states[:, 0]

        return F.mse_loss(read(student["hidden_states"][-1]), read(teacher["hidden_states"][-1]))


class CosineHiddenLoss(HiddenStateLoss):
    """One minus the cosine of mapped layers' states, mean over tokens (DistilBERT, Sanh et al. 2019)."""

    def distance(self, ours: Tensor, theirs: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(1 - F.cosine_similarity(ours, theirs, dim=-1), mask)


class RelationLoss(HiddenStateLoss):
    """Squared error of the cosines between a text's tokens: no projection, any size (MLKD-BERT, Zhang et al. 2024)."""

    def prepare(self, student: Any, teacher: Any) -> None:
        pass

    def distance(self, ours: Tensor, theirs: Tensor, mask: Tensor) -> Tensor:
        pairs = mask.unsqueeze(1) & mask.unsqueeze(2)
        return masked_mean((_cosines(ours) - _cosines(theirs)).square(), pairs)


class EmbeddingRelationLoss(RelationLoss):
    """The same of what the embeddings put out (MLKD-BERT's embedding relation)."""

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__("final", weight)

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        ours, theirs = student["hidden_states"][0], teacher["hidden_states"][0]
        return self.distance(ours, theirs, batch["attention_mask"].bool())


class CKALoss(HiddenStateLoss):
    """One minus the linear centred kernel alignment of mapped layers' tokens (Kornblith et al. 2019, eq. 5).

    Any sizes, without a projection.
    """

    def prepare(self, student: Any, teacher: Any) -> None:
        pass

    def distance(self, ours: Tensor, theirs: Tensor, mask: Tensor) -> Tensor:
        ours, theirs = ours[mask], theirs[mask]
        ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
        across = (theirs.T @ ours).square().sum()
        own = (ours.T @ ours).norm() * (theirs.T @ theirs).norm()
        alignment: Tensor = across / own.clamp(min=1e-12)
        return 1 - alignment


class ContrastiveLoss(HiddenStateLoss):
    """Each text's first token should be nearer to the teacher's for it than to those for other texts (InfoNCE).

    The sample-contrastive term of MLKD-BERT's second stage (Zhang et al. 2024), on the last layer.

    Args:
        temperature: of the cosines.
    """

    of_whole_texts = True

    def __init__(self, temperature: float = 0.1, weight: float | Schedule = 1.0) -> None:
        super().__init__("final", weight)
        self.temperature = temperature

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        ours = normalised(self.projected(student["hidden_states"][-1][:, 0]))
        theirs = normalised(teacher["hidden_states"][-1][:, 0])
        return F.cross_entropy(ours @ theirs.T / self.temperature, torch.arange(len(ours), device=ours.device))


class SampleRelationLoss(HiddenStateLoss):
    """Squared error of the cosines between the texts of a batch, on the last layer's first token (MLKD-BERT)."""

    of_whole_texts = True

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__("final", weight)

    def prepare(self, student: Any, teacher: Any) -> None:
        pass

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        ours, theirs = student["hidden_states"][-1][:, 0], teacher["hidden_states"][-1][:, 0]
        return F.mse_loss(_cosines(ours), _cosines(theirs))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of `values` where `mask` is True; both of one shape."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def _cosines(states: Tensor) -> Tensor:
    unit = normalised(states)
    return unit @ unit.transpose(-1, -2)
