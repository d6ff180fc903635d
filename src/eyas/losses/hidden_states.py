"""Losses against the teacher's hidden states.

Student and teacher read the same tokens. `hidden_states` is a tuple of [batch, length, size], 0 = embeddings. If the
hidden sizes differ, a learned linear projection, shared by all layers, maps the student's states to the teacher's size.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import CLOSED, Fields, Loss, kl_divergences
from eyas.losses.layer_mapping import Fixed, LayerMapping, Layers, MappedLoss, Pairs, mapped_distance, normalized
from eyas.losses.schedules import Schedule

logger = logging.getLogger("eyas")

# Targets of different texts with a larger cosine are taken for the same.
CONSTANT = 0.995


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
        if self.projections is None and student.hidden_size != teacher.hidden_size:
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


class PKDLoss(HiddenStateLoss):
    """Mean squared error of one vector per text, scaled to norm 1: the first token's state.

    As in the authors' code, the mean is over the states' elements, so the loss is smaller for larger hidden sizes. The
    first training batch is checked: if the teacher's vectors are nearly the same for all texts, a warning says that
    they teach nothing.

    Args:
        normalize: scale the states to norm 1; ALP-KD does not.
        pooling: "first" token, as in the paper, or the "mean" of the tokens, for teachers that were trained with it.
    """

    paper = "Patient KD, Sun et al. 2019, eq. 7"
    of_whole_texts = True

    def __init__(
        self,
        mapping: str | LayerMapping | Pairs = "skip",
        normalize: bool = True,
        weight: float | Schedule = 1.0,
        *,
        pooling: Literal["first", "mean"] = "first",
    ) -> None:
        super().__init__(mapping, weight)
        self.normalize, self.pooling = normalize, pooling
        self._is_checked = False

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        if not self._is_checked and torch.is_grad_enabled():
            self._is_checked = True
            self._check_targets(teacher["hidden_states"][1:], len(student["hidden_states"]) - 1, batch)
        return super().forward(student, teacher, batch, progress)

    def _check_targets(self, states: Sequence[Tensor], student_layers: int, batch: Fields) -> None:
        """Warn if the targets of this batch are nearly the same for all texts."""
        mask, count = batch["attention_mask"].bool(), len(states[0])
        fixed = self.mapping.pairs(student_layers, len(states)) if isinstance(self.mapping, Fixed) else []
        taught = sorted({layer for _, layer in fixed}) or range(1, len(states) + 1)
        constant = []
        for layer in taught if count > 1 else ():
            vectors = normalized(self.seen(states[layer - 1].detach(), mask).float())
            mean_cosine = (vectors.sum(0).square().sum() - count) / (count * (count - 1))
            constant += [layer] if float(mean_cosine) > CONSTANT else []
        if constant:
            seen, hint = "mean of the tokens", ""
            if self.pooling == "first":
                seen, hint = "first token", " Compare the mean of the tokens instead (pooling=mean)."
            logger.warning(
                "%s: in %d of the %d layers that teach (%s), the teacher's %s is nearly the same for every text, so "
                "there is nothing to learn from it.%s",
                type(self).__name__, len(constant), len(taught), ", ".join(map(str, constant)), seen, hint,
            )  # fmt: skip

    def seen(self, states: Tensor, mask: Tensor) -> Tensor:
        return states[:, 0] if self.pooling == "first" else mean_of_tokens(states, mask)

    def scaled(self, states: Tensor) -> Tensor:
        return normalized(states) if self.normalize else states

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return F.mse_loss(student, teacher)


class RandomLayerLoss(Loss):
    """Distance of the mean of the tokens, for as many random teacher layers as the student has, in order.

    The layers are drawn anew in each epoch. Both sides are projected to a common size and scaled to norm 1; the norm of
    the difference is averaged over texts and layers.

    Args:
        size: of the projections.
        joined: concatenate the layers and project them together, in place of each layer by itself.
    """

    paper = "RAIL-KD, Haidar et al. 2022, eq. 3 to 6"
    student_fields = frozenset({"hidden_states"})
    teacher_fields = frozenset({"hidden_states"})
    of_whole_texts = True

    def __init__(self, size: int = 128, joined: bool = False, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.size, self.joined = size, joined
        self.student_projections, self.teacher_projections = nn.ModuleList(), nn.ModuleList()

    def check_models(self, student: Any, teacher: Any) -> None:
        """Raises ModelError if the student has more layers than the teacher."""
        super().check_models(student, teacher)
        if student.num_hidden_layers > teacher.num_hidden_layers:
            raise ModelError(
                f"rail-kd draws a teacher layer for each of the student's, but the student has "
                f"{student.num_hidden_layers} layers and the teacher {teacher.num_hidden_layers}. Lower layers "
                "(--layers)."
            )

    def prepare(self, student: Any, teacher: Any) -> None:
        """Create the projections of both sides."""
        super().prepare(student, teacher)
        if not self.student_projections:
            count = 1 if self.joined else student.num_hidden_layers
            factor = student.num_hidden_layers if self.joined else 1
            for side, config in ((self.student_projections, student), (self.teacher_projections, teacher)):
                side.extend(nn.Linear(config.hidden_size * factor, self.size) for _ in range(count))

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        ours, theirs = student["hidden_states"][1:], teacher["hidden_states"][1:]
        generator = torch.Generator().manual_seed(torch.initial_seed() % 2**32 + int(batch.get("epoch", 0)))
        drawn = torch.randperm(len(theirs), generator=generator)[: len(ours)].sort().values.tolist()
        return self.compare(ours, [theirs[layer] for layer in drawn], batch["attention_mask"].bool())

    def compare(self, student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
        """The loss of pairs of layers, [batch, length, size] each."""
        sides = ((self.student_projections, student), (self.teacher_projections, teacher))
        ours, theirs = (self._projected(projections, states, mask) for projections, states in sides)
        return torch.stack([(a - b).norm(dim=-1).mean() for a, b in zip(ours, theirs, strict=True)]).mean()

    def _projected(self, projections: nn.ModuleList, states: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
        means = [mean_of_tokens(layer, mask) for layer in states]
        means = [torch.cat(means, -1)] if self.joined else means
        return [normalized(project(mean)) for project, mean in zip(projections, means, strict=True)]


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

    paper = "after Park et al. 2019 (relational knowledge distillation)"
    projects = False

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return cosine_error(student, teacher, mask)


class EmbeddingRelationLoss(StateLoss):
    """KL divergence of the softmax over scaled dot products between the embeddings of a text's tokens.

    The mean over tokens. Padding is left out, where the authors' code includes it.
    """

    paper = "MLKD-BERT, Zhang et al. 2024, embedding relation"
    projects = False

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].bool()
        ours, theirs = (_dots(fields["hidden_states"][0]).masked_fill(~mask.unsqueeze(1), CLOSED)
                        for fields in (student, teacher))  # fmt: skip
        return masked_mean(kl_divergences(ours, theirs), mask)


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
    """Supervised contrast of the last layer's first tokens, of student and teacher together.

    Each of the 2 * batch states should be near those of its own text and of texts with its label, among all others.
    A text without a single label has only itself. Multiplied by the temperature, as in the authors' code.

    Args:
        temperature: of the cosines.
    """

    paper = "MLKD-BERT, Zhang et al. 2024, sample contrast"
    of_whole_texts = True

    def __init__(self, temperature: float = 0.07, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        ours, theirs = self.projected(student["hidden_states"][-1][:, 0]), teacher["hidden_states"][-1][:, 0]
        states = normalized(torch.cat([ours, theirs.to(ours.dtype)]))
        count, labels = len(ours), batch.get("labels")
        same = torch.eye(count, dtype=torch.bool, device=states.device)
        if labels is not None and labels.dim() == 1 and not labels.is_floating_point():
            same = same | ((labels == labels.unsqueeze(1)) & (labels >= 0))
        others = ~torch.eye(2 * count, dtype=torch.bool, device=states.device)
        similar = (same.repeat(2, 2) & others).to(states.dtype)
        scores = states @ states.T / self.temperature
        scores = scores - scores.max(1, keepdim=True).values.detach()
        chances = scores - ((scores.exp() * others).sum(1, keepdim=True) + 1e-7).log()
        return -self.temperature * ((chances * similar).sum(1) / similar.sum(1)).mean()


class SampleRelationLoss(StateLoss):
    """KL divergence of the softmax over scaled dot products between the texts of a batch, on the last first tokens."""

    paper = "MLKD-BERT, Zhang et al. 2024, sample relation"
    of_whole_texts = True
    projects = False

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        ours, theirs = (_dots(fields["hidden_states"][-1][:, 0]) for fields in (student, teacher))
        return kl_divergences(ours, theirs).mean()


def mean_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """[batch, length, size] -> [batch, size], the mean over the tokens of `mask`."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


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


def _dots(states: Tensor) -> Tensor:
    """Dot products between vectors [..., count, size], divided by the square root of the size."""
    return states @ states.transpose(-1, -2) / math.sqrt(states.shape[-1])


def _cosines(states: Tensor) -> Tensor:
    unit = normalized(states)
    return unit @ unit.transpose(-1, -2)
