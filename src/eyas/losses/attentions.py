"""Losses against the teacher's attention.

`queries`, `keys` and `values` are tuples, one [batch, length, size] a layer, as they leave their projections; `heads`
is into how many heads each is cut. Attention is computed from them, so the models may run any implementation of it.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import Fields, Loss
from eyas.losses.hidden_states import masked_mean
from eyas.losses.layer_mapping import Attention, LayerMapping, Layers, Pairs, layer_mapping, mapped_distance
from eyas.losses.schedules import Schedule
from eyas.models.inside import check_attention

# Lower than any score, and finite in bfloat16.
CLOSED = -1e9


class AttentionLoss(Loss):
    """Between the attentions of mapped layers, head by head.

    Args:
        of: "scores" = squared error before the softmax (TinyBERT, Jiao et al. 2020, eq. 7); "probabilities" = squared
            error behind it; "divergence" = KL(teacher || student) of each token's distribution.
        mapping: which layer learns from which.
    """

    student_fields: frozenset[str] = frozenset({"queries", "keys"})
    teacher_fields: frozenset[str] = frozenset({"queries", "keys"})
    needs = "with as many heads as the teacher"

    def __init__(
        self,
        of: Literal["scores", "probabilities", "divergence"] = "scores",
        mapping: str | LayerMapping | Pairs = "uniform",
        weight: float | Schedule = 1.0,
    ) -> None:
        super().__init__(weight)
        self.of, self.mapping = of, _mapping(mapping)

    def prepare(self, student: Any, teacher: Any) -> None:
        """Raises ModelError where the numbers of heads differ, or attention is more than queries times keys."""
        check_attention(teacher)
        ours, theirs = student.num_attention_heads, teacher.num_attention_heads
        if ours != theirs:
            raise ModelError(
                f"{type(self).__name__} compares head by head, but the student has {ours} heads and the teacher "
                f"{theirs}. Give the student as many with --heads, or use a recipe with relations, such as minilmv2."
            )

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].bool()
        pairs = (mask.unsqueeze(1) & mask.unsqueeze(2)).unsqueeze(1)

        def distance(ours: Tensor, theirs: Tensor) -> Tensor:
            if self.of == "scores":
                return masked_mean((ours - theirs).square(), pairs.expand_as(ours))
            return attention_distance(ours, theirs, mask, self.of)

        return mapped_distance(_scores(student), _scores(teacher), self.mapping, distance)


class MiniLMLoss(Loss):
    """Last layer's attention distribution and value relation (MiniLM, Wang et al. 2020, eq. 5 to 7); any width.

    The numbers of heads must be the same.
    """

    student_fields: frozenset[str] = frozenset({"queries", "keys", "values"})
    teacher_fields: frozenset[str] = frozenset({"queries", "keys", "values"})
    needs = AttentionLoss.needs
    prepare = AttentionLoss.prepare

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].bool()
        ours, theirs = (_last(fields, fields["heads"]) for fields in (student, teacher))
        attention = attention_distance(_dots(ours[0], ours[1]), _dots(theirs[0], theirs[1]), mask, "divergence")
        values = attention_distance(_dots(ours[2], ours[2]), _dots(theirs[2], theirs[2]), mask, "divergence")
        return attention + values


class MiniLMv2Loss(Loss):
    """Relations of queries, keys and values among themselves, in any number of heads (Wang et al. 2021, eq. 1 to 5).

    Args:
        heads: relation heads; must divide both sizes.
        teacher_layer: counted from 1, or from the end with negative numbers: -1 = the last.
    """

    student_fields: frozenset[str] = frozenset({"queries", "keys", "values"})
    teacher_fields: frozenset[str] = frozenset({"queries", "keys", "values"})

    def __init__(self, heads: int = 12, teacher_layer: int = -1, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.heads, self.teacher_layer = heads, teacher_layer

    def prepare(self, student: Any, teacher: Any) -> None:
        """Fewer relation heads, where they don't divide both sizes; raises ModelError for a layer that is not there."""
        count = teacher.num_hidden_layers
        if not (-count <= self.teacher_layer <= count and self.teacher_layer):
            raise ModelError(
                f"teacher_layer={self.teacher_layer}, expected 1 to {count}, or -{count} to -1 from the end."
            )
        self.heads = math.gcd(self.heads, math.gcd(student.hidden_size, teacher.hidden_size))

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        place = self.teacher_layer - 1 if self.teacher_layer > 0 else self.teacher_layer
        mask = batch["attention_mask"].bool()
        return _relation_distance(_last(student, self.heads), _last(teacher, self.heads, place), mask)


class AttentionRelationLoss(MiniLMv2Loss):
    """The same relations of mapped layers, not the last alone (MLKD-BERT, Zhang et al. 2024, attention relation).

    Args:
        heads: relation heads; must divide both sizes.
        mapping: which layer learns from which.
    """

    def __init__(
        self, heads: int = 12, mapping: str | LayerMapping | Pairs = "uniform", weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(heads, weight=weight)
        self.mapping = _mapping(mapping)

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].bool()
        # [batch, 3, heads, length, size of a head], one a layer
        ours, theirs = (self._relations(fields) for fields in (student, teacher))

        def distance(a: Tensor, b: Tensor) -> Tensor:
            return _relation_distance(a.unbind(1), b.unbind(1), mask)

        return mapped_distance(ours, theirs, self.mapping, distance)

    def _relations(self, fields: Fields) -> Layers:
        return Layers(len(fields["queries"]), lambda layer: torch.stack(tuple(_last(fields, self.heads, layer)), 1))


def _mapping(choice: str | LayerMapping | Pairs) -> LayerMapping:
    """By name; raises ModelError for one that weighs states by their first token, which attentions have not."""
    mapping = layer_mapping(choice)
    if isinstance(mapping, Attention):
        raise ModelError("The mapping 'attention' weighs hidden states, not attentions. Choose another for those.")
    return mapping


def _relation_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Between the relations of queries, keys and values, [batch, heads, length, size of a head] each, summed."""
    terms = [
        attention_distance(_dots(a, a), _dots(b, b), mask, "divergence") for a, b in zip(ours, theirs, strict=True)
    ]
    return torch.stack(terms).sum()


def attention_distance(ours: Tensor, theirs: Tensor, mask: Tensor, of: str) -> Tensor:
    """Between softmaxed scores [batch, heads, length, length], mean over heads and tokens that are no padding."""
    closed = ~mask[:, None, None, :]
    mine, yours = (F.log_softmax(scores.masked_fill(closed, CLOSED), -1) for scores in (ours, theirs))
    if of == "probabilities":
        pairs = (mask.unsqueeze(1) & mask.unsqueeze(2)).unsqueeze(1)
        return masked_mean((mine.exp() - yours.exp()).square(), pairs.expand_as(mine))
    divergence = (yours.exp() * (yours - mine)).masked_fill(closed, 0.0).sum(-1)
    return masked_mean(divergence, mask.unsqueeze(1).expand_as(divergence))


def _scores(fields: Fields) -> Layers:
    """[batch, heads, length, length] before the softmax, one a layer."""
    heads, queries, keys = fields["heads"], fields["queries"], fields["keys"]
    return Layers(len(queries), lambda layer: _dots(_cut(queries[layer], heads), _cut(keys[layer], heads)))


def _last(fields: Fields, heads: int, place: int = -1) -> Sequence[Tensor]:
    """Queries, keys and values of one layer, [batch, heads, length, size of a head]."""
    return [_cut(fields[name][place], heads) for name in ("queries", "keys", "values")]


def _cut(states: Tensor, heads: int) -> Tensor:
    return states.view(*states.shape[:2], heads, -1).transpose(1, 2)


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Scaled dot products, in the precision of what comes in: rounding them again would cost more than it saves."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.transpose(-1, -2) / math.sqrt(a.shape[-1])
