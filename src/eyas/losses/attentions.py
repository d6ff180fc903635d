"""Losses against the teacher's attention.

`queries`, `keys` and `values` are the outputs of the projections: tuples with one [batch, length, size] per layer.
`heads` is the number of attention heads. Attention is computed from these, so models may use any attention
implementation.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import CLOSED, Fields, Loss
from eyas.losses.hidden_states import masked_mean
from eyas.losses.layer_mapping import (
    Attention,
    LayerMapping,
    Layers,
    MappedLoss,
    Pairs,
    layer_mapping,
    mapped_distance,
)
from eyas.losses.schedules import Schedule
from eyas.models.inside import check_attention


class AttentionLoss(MappedLoss):
    """Distance between the attentions of mapped layers, head by head.

    Args:
        of: "scores" = squared error before the softmax (TinyBERT); "probabilities" = squared error after it;
            "divergence" = KL(teacher || student) of each token's distribution.
        mapping: the layers to compare; see `layer_mapping`.
        padding: let padding count in the mean over scores, as in the code of TinyBERT and BERT-EMD: rows of padding are
            compared, and columns of padding cost nothing.
        summed: the sum over layers, not the mean.
    """

    paper = "TinyBERT, Jiao et al. 2020, eq. 7"
    student_fields = frozenset({"queries", "keys"})
    teacher_fields = frozenset({"queries", "keys"})
    needs = "with as many heads as the teacher"

    def __init__(
        self,
        of: Literal["scores", "probabilities", "divergence"] = "scores",
        mapping: str | LayerMapping | Pairs = "uniform",
        weight: float | Schedule = 1.0,
        *,
        padding: bool = False,
        summed: bool = False,
    ) -> None:
        super().__init__(weight)
        self.of, self.padding, self.summed = of, padding, summed
        self.map_layers(_without_attention(mapping))

    def check_models(self, student: Any, teacher: Any) -> None:
        """Raises ModelError if the numbers of heads differ or `check_attention` refuses the teacher."""
        super().check_models(student, teacher)
        check_heads(type(self).__name__, student, teacher)

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].bool()
        pairs = (mask.unsqueeze(1) & mask.unsqueeze(2)).unsqueeze(1)

        def distance(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
            if self.of == "scores" and self.padding:
                open_columns: Tensor = (student_scores - teacher_scores).square() * mask[:, None, None, :]
                return open_columns.mean()
            if self.of == "scores":
                return masked_mean((student_scores - teacher_scores).square(), pairs.expand_as(student_scores))
            return attention_distance(student_scores, teacher_scores, mask, self.of)

        return mapped_distance(_scores(student), _scores(teacher), self.mapping, distance, self.summed)


class MiniLMLoss(Loss):
    """KL divergence of the last layer's attention distributions and value relations.

    Both models need the same number of heads; their hidden sizes may differ.
    """

    paper = "MiniLM, Wang et al. 2020, eq. 5 to 7"
    student_fields = frozenset({"queries", "keys", "values"})
    teacher_fields = frozenset({"queries", "keys", "values"})
    needs = AttentionLoss.needs

    def check_models(self, student: Any, teacher: Any) -> None:
        check_heads(type(self).__name__, student, teacher)

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].bool()
        (q, k, v), (teacher_q, teacher_k, teacher_v) = (_qkv(fields, fields["heads"]) for fields in (student, teacher))
        attention = attention_distance(dots(q, k), dots(teacher_q, teacher_k), mask, "divergence")
        values = attention_distance(dots(v, v), dots(teacher_v, teacher_v), mask, "divergence")
        return attention + values


class MiniLMv2Loss(Loss):
    """KL divergence of query-query, key-key and value-value relations, with any number of relation heads.

    Args:
        heads: number of relation heads; `prepare` lowers it to a divisor of both hidden sizes.
        teacher_layer: counted from 1, or from the end if negative: -1 = the last.
    """

    paper = "MiniLMv2, Wang et al. 2021, eq. 1 to 5"
    student_fields = frozenset({"queries", "keys", "values"})
    teacher_fields = frozenset({"queries", "keys", "values"})

    def __init__(self, heads: int = 48, teacher_layer: int = -1, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.heads, self.teacher_layer = heads, teacher_layer

    def check_models(self, student: Any, teacher: Any) -> None:
        """Raises ModelError if the teacher has no such layer."""
        super().check_models(student, teacher)
        count = teacher.num_hidden_layers
        if not (-count <= self.teacher_layer <= count and self.teacher_layer):
            raise ModelError(
                f"teacher_layer={self.teacher_layer}, expected 1 to {count}, or -{count} to -1 from the end."
            )

    def prepare(self, student: Any, teacher: Any) -> None:
        """Lower `heads` to a divisor of both hidden sizes."""
        super().prepare(student, teacher)
        self.heads = math.gcd(self.heads, math.gcd(student.hidden_size, teacher.hidden_size))

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        layer = self.teacher_layer - 1 if self.teacher_layer > 0 else self.teacher_layer
        mask = batch["attention_mask"].bool()
        return _relation_distance(_qkv(student, self.heads), _qkv(teacher, self.heads, layer), mask)


class AttentionRelationLoss(MiniLMv2Loss, MappedLoss):
    """`MiniLMv2Loss` on all mapped layers.

    Args:
        heads: number of relation heads; `prepare` lowers it to a divisor of both hidden sizes.
        mapping: the layers to compare; see `layer_mapping`.
    """

    paper = "after MiniLMv2, Wang et al. 2021"

    def __init__(
        self, heads: int = 12, mapping: str | LayerMapping | Pairs = "uniform", weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(heads, weight=weight)
        self.map_layers(_without_attention(mapping))

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].bool()

        def distance(a: Tensor, b: Tensor) -> Tensor:
            return _relation_distance(a.unbind(1), b.unbind(1), mask)

        return mapped_distance(self._relations(student), self._relations(teacher), self.mapping, distance)

    def _relations(self, fields: Fields) -> Layers:
        """One [batch, 3, heads, length, head size] per layer."""
        return Layers(len(fields["queries"]), lambda layer: torch.stack(tuple(_qkv(fields, self.heads, layer)), 1))


class ContextRelationLoss(MappedLoss):
    """KL divergence of the relations of attention outputs, before their output projection, in mapped layers.

    The sum over layers, and the mean over texts, relation heads and tokens. Padding is left out, where the authors'
    code includes it.

    Args:
        heads: number of relation heads; `prepare` lowers it to a divisor of both hidden sizes.
        mapping: the layers to compare; see `layer_mapping`.
    """

    paper = "MLKD-BERT, Zhang et al. 2024, attention relation"
    student_fields = frozenset({"queries", "keys", "values"})
    teacher_fields = frozenset({"queries", "keys", "values"})

    def __init__(
        self, heads: int = 12, mapping: str | LayerMapping | Pairs = "uniform", weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(weight)
        self.heads = heads
        self.map_layers(_without_attention(mapping))

    def check_models(self, student: Any, teacher: Any) -> None:
        """Raises ModelError if `check_attention` refuses a model: the outputs are computed from its projections."""
        super().check_models(student, teacher)
        check_attention(student)
        check_attention(teacher)

    def prepare(self, student: Any, teacher: Any) -> None:
        """Lower `heads` to a divisor of both hidden sizes."""
        super().prepare(student, teacher)
        self.heads = math.gcd(self.heads, math.gcd(student.hidden_size, teacher.hidden_size))

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].bool()
        return self.compare(contexts(student, mask), contexts(teacher, mask), mask)

    def compare(self, student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
        """The loss of attention outputs, one [batch, length, size] per layer."""

        def relation(states: Tensor) -> Tensor:
            groups = _split(states, self.heads)
            return dots(groups, groups)

        def distance(ours: Tensor, theirs: Tensor) -> Tensor:
            return attention_distance(relation(ours), relation(theirs), mask, "divergence")

        return mapped_distance(student, teacher, self.mapping, distance, summed=True)


def contexts(fields: Fields, mask: Tensor) -> Layers:
    """The outputs of attention before their projection, without dropout: one [batch, length, size] per layer."""
    closed = ~mask[:, None, None, :]

    def context(layer: int) -> Tensor:
        queries, keys, values = _qkv(fields, fields["heads"], layer)
        found = dots(queries, keys).masked_fill(closed, CLOSED).softmax(-1) @ values
        return found.transpose(1, 2).flatten(2)

    return Layers(len(fields["queries"]), context)


def check_heads(loss: str, student: Any, teacher: Any) -> None:
    """Raises ModelError if the numbers of heads differ or `check_attention` refuses the teacher."""
    check_attention(teacher)
    if student.num_attention_heads != teacher.num_attention_heads:
        raise ModelError(
            f"{loss} compares head by head, but the student has {student.num_attention_heads} heads and the teacher "
            f"{teacher.num_attention_heads}. Set heads (--heads) to {teacher.num_attention_heads}, or use a recipe "
            "that compares relations, such as minilmv2."
        )


def _without_attention(choice: str | LayerMapping | Pairs) -> LayerMapping:
    """The mapping. Raises ModelError for `Attention`, which needs hidden states."""
    mapping = layer_mapping(choice)
    if isinstance(mapping, Attention):
        raise ModelError("The mapping 'attention' works for hidden states, not for attentions. Choose another mapping.")
    return mapping


def _relation_distance(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Summed distance between the relations of queries, keys and values, [batch, heads, length, head size] each."""
    terms = [
        attention_distance(dots(a, a), dots(b, b), mask, "divergence") for a, b in zip(student, teacher, strict=True)
    ]
    return torch.stack(terms).sum()


def attention_distance(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor, of: str) -> Tensor:
    """Distance after a softmax of scores [batch, heads, length, length], averaged over heads and tokens of `mask`."""
    closed = ~mask[:, None, None, :]
    student, teacher = (
        F.log_softmax(scores.masked_fill(closed, CLOSED), -1) for scores in (student_scores, teacher_scores)
    )
    if of == "probabilities":
        pairs = (mask.unsqueeze(1) & mask.unsqueeze(2)).unsqueeze(1)
        return masked_mean((student.exp() - teacher.exp()).square(), pairs.expand_as(student))
    divergence = (teacher.exp() * (teacher - student)).masked_fill(closed, 0.0).sum(-1)
    return masked_mean(divergence, mask.unsqueeze(1).expand_as(divergence))


def _scores(fields: Fields) -> Layers:
    """Attention scores before the softmax, one [batch, heads, length, length] per layer."""
    heads, queries, keys = fields["heads"], fields["queries"], fields["keys"]
    return Layers(len(queries), lambda layer: dots(_split(queries[layer], heads), _split(keys[layer], heads)))


def _qkv(fields: Fields, heads: int, layer: int = -1) -> Sequence[Tensor]:
    """Queries, keys and values of one layer, [batch, heads, length, head size] each."""
    return [_split(fields[name][layer], heads) for name in ("queries", "keys", "values")]


def _split(states: Tensor, heads: int) -> Tensor:
    return states.view(*states.shape[:2], heads, -1).transpose(1, 2)


def dots(a: Tensor, b: Tensor) -> Tensor:
    """Scaled dot products in the precision of the inputs: casting them costs more than it saves."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.transpose(-1, -2) / math.sqrt(a.shape[-1])
