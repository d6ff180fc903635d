"""Layer mappings: which layer of the teacher teaches which layer of the student.

Layers are numbered as in `hidden_states`: 0 = embeddings, 1 = first layer.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import Distance, Loss
from eyas.losses.transport import EarthMovers, LayerWeights

Pairs = list[tuple[int, int]]


class Layers(Sequence[Tensor]):
    """The tensors that a loss compares, one per layer, each computed when a mapping reads it.

    Args:
        count: number of layers.
        make: computes the tensor of a layer, counted from 0.
    """

    def __init__(self, count: int, make: Callable[[int], Tensor]) -> None:
        self._count, self._make, self._kept = count, make, cache(make)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, layer: Any) -> Any:
        make = self._kept if torch.is_grad_enabled() else self._make  # without gradients, nothing is cached
        places = range(self._count)[layer]
        return make(places) if isinstance(places, int) else [make(place) for place in places]


class LayerMapping(Protocol):
    """Chooses the targets of the student's layers.

    Two methods are optional. `check(student_layers, teacher_layers)` raises ModelError before training if the mapping
    does not support these numbers of layers. `reset(student_layers, teacher_layers)` resets its state.
    """

    def __call__(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], distance: Distance
    ) -> Iterable[tuple[int, Tensor, float]]:
        """Triples (index into `student`, target, weight). Both inputs exclude the embeddings and have the same size."""


def uniform(student_layers: int, teacher_layers: int) -> Pairs:
    """Every n-th layer, up to the last (TinyBERT's g(m) = m * N / M)."""
    return [(m, round(m * teacher_layers / student_layers)) for m in range(1, student_layers + 1)]


def skip(student_layers: int, teacher_layers: int) -> Pairs:
    """PKD-Skip (Sun et al. 2019, 3.2): every n-th layer for all but the student's last."""
    every = max(teacher_layers // student_layers, 1)
    return [(m, m * every) for m in range(1, max(student_layers, 2))]


def last(student_layers: int, teacher_layers: int) -> Pairs:
    """PKD-Last: the layers just below the teacher's last, for all but the student's last."""
    count = max(student_layers - 1, 1)
    return [(m, teacher_layers - 1 - count + m) for m in range(1, count + 1)]


def first(student_layers: int, teacher_layers: int) -> Pairs:
    """Layer by layer from the bottom."""
    return [(m, m) for m in range(1, min(student_layers, teacher_layers) + 1)]


def top(student_layers: int, teacher_layers: int) -> Pairs:
    """Layer by layer from the top (TinyBERT's "top-strategy")."""
    return [(m, m + teacher_layers - student_layers) for m in range(1, student_layers + 1)]


def final(student_layers: int, teacher_layers: int) -> Pairs:
    """Only the last layers."""
    return [(student_layers, teacher_layers)]


def explicit(pairs: Pairs) -> Callable[[int, int], Pairs]:
    """The given pairs, for any numbers of layers."""
    return lambda student_layers, teacher_layers: pairs


class Fixed:
    """Pairs of layers, the same in every step.

    Args:
        pairs: a function of the numbers of layers, such as `uniform`.
    """

    def __init__(self, pairs: Callable[[int, int], Pairs] = uniform) -> None:
        self.pairs = pairs

    def check(self, student_layers: int, teacher_layers: int) -> None:
        """Raises ModelError if a layer does not exist."""
        for pair in self.pairs(student_layers, teacher_layers):
            if not (1 <= pair[0] <= student_layers and 1 <= pair[1] <= teacher_layers):
                raise ModelError(
                    f"The layer mapping has the pair {pair}, but there are {student_layers} layers in the "
                    f"student and {teacher_layers} in the teacher, numbered from 1."
                )

    def __call__(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], distance: Distance
    ) -> Iterable[tuple[int, Tensor, float]]:
        self.check(len(student), len(teacher))
        for student_layer, teacher_layer in self.pairs(len(student), len(teacher)):
            yield student_layer - 1, teacher[teacher_layer - 1], 1.0


class MeanOfBlock:
    """Splits the teacher's layers into one block per student layer; the target is the block's mean."""

    def check(self, student_layers: int, teacher_layers: int) -> None:
        """Raises ModelError if the student has more layers than the teacher."""
        if student_layers > teacher_layers:
            raise ModelError(
                f"The mapping 'mean' needs at least one teacher layer per student layer, but the student has "
                f"{student_layers} layers and the teacher {teacher_layers}. Lower layers (--layers), or choose another "
                "mapping."
            )

    def __call__(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], distance: Distance
    ) -> Iterable[tuple[int, Tensor, float]]:
        self.check(len(student), len(teacher))
        edges = np.linspace(0, len(teacher), len(student) + 1).round().astype(int)
        for layer, (start, end) in enumerate(pairwise(edges.tolist())):
            yield layer, torch.stack(list(teacher[start : max(end, start + 1)])).mean(0), 1.0


class Attention:
    """The target is a mean of all teacher layers, weighted by similarity (ALP-KD, Passban et al. 2021, eq. 4).

    Similarity is the dot product of the first token's states: for normalized states, the cosine. No gradient flows
    through the weights.
    """

    def __call__(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], distance: Distance
    ) -> Iterable[tuple[int, Tensor, float]]:
        states = torch.stack(list(teacher), 1)  # [batch, layers, ...]
        keys = states[:, :, 0] if states.dim() == 4 else states
        for layer, state in enumerate(student):
            query = state[:, 0] if state.dim() == 3 else state
            weights = torch.einsum("bh,blh->bl", query.detach(), keys).softmax(1)
            yield layer, torch.einsum("bl,bl...->b...", weights, states), 1.0


class RandomLayers:
    """One random teacher layer per student layer, in order, redrawn in every step (RAIL-KD, Haidar et al. 2022)."""

    def __call__(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], distance: Distance
    ) -> Iterable[tuple[int, Tensor, float]]:
        drawn = torch.randperm(len(teacher))[: len(student)].sort().values.tolist()
        for layer, place in enumerate(drawn):
            yield layer, teacher[place], 1.0


def mapped_distance(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    mapping: LayerMapping,
    distance: Distance,
    summed: bool = False,
) -> Tensor:
    """The mean distance of the pairs of `mapping`, weighted by the mapping; `summed`: the weighted sum."""
    terms, total = [], 0.0
    for layer, target, weight in mapping(student, teacher, distance):
        terms.append(weight * distance(student[layer], target))
        total += weight
    return torch.stack(terms).sum() / (1.0 if summed else total)


def normalized(states: Tensor) -> Tensor:
    """States scaled to norm 1."""
    return F.normalize(states, dim=-1)


class MappedLoss(Loss):
    """A loss that compares layers paired by a mapping."""

    mapping: LayerMapping

    def map_layers(self, choice: "str | LayerMapping | Pairs") -> None:
        """Set the mapping; see `layer_mapping`."""
        self.mapping = layer_mapping(choice)

    def check_models(self, student: Any, teacher: Any) -> None:
        super().check_models(student, teacher)
        if hasattr(self.mapping, "check"):
            self.mapping.check(student.num_hidden_layers, teacher.num_hidden_layers)

    def prepare(self, student: Any, teacher: Any) -> None:
        super().prepare(student, teacher)
        if hasattr(self.mapping, "reset"):
            self.mapping.reset(student.num_hidden_layers, teacher.num_hidden_layers)


MAPPINGS: dict[str, Callable[[], LayerMapping]] = {
    "uniform": Fixed,
    "skip": lambda: Fixed(skip),
    "last": lambda: Fixed(last),
    "first": lambda: Fixed(first),
    "top": lambda: Fixed(top),
    "final": lambda: Fixed(final),
    "mean": MeanOfBlock,
    "attention": Attention,
    "earth-movers": lambda: EarthMovers(LayerWeights()),
    "random": RandomLayers,
}
"""The layer mappings by name."""


def layer_mapping(choice: "str | LayerMapping | Pairs") -> LayerMapping:
    """The mapping for a name or for pairs of layers (a list, or "1-3,2-6"); a mapping is returned as it is.

    Raises:
        ModelError: an unknown name.
    """
    if isinstance(choice, str) and re.fullmatch(r"\d+-\d+(,\d+-\d+)*", choice):
        choice = [(int(first), int(second)) for first, second in (pair.split("-") for pair in choice.split(","))]
    if not isinstance(choice, list) and not callable(choice):
        if choice not in MAPPINGS:
            raise ModelError(
                f"No layer mapping {choice!r}. Expected one of {', '.join(MAPPINGS)}, or pairs of a student and "
                "a teacher layer, such as 1-3,2-6."
            )
        return MAPPINGS[choice]()
    return Fixed(explicit(choice)) if isinstance(choice, list) else choice
