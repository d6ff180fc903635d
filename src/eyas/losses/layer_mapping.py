"""Layer mappings: which layer of the teacher teaches which layer of the student.

Layers are numbered as in `hidden_states`: 0 = embeddings, 1 = what the first layer puts out.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eyas.errors import ModelError, install_hint
from eyas.losses.base import Loss

Pairs = list[tuple[int, int]]
Distance = Callable[[Tensor, Tensor], Tensor]


class Layers(Sequence[Tensor]):
    """What a loss compares of each layer, made when a mapping asks for that layer.

    Args:
        count: of layers.
        make: what is compared of a layer, counted from 0.
    """

    def __init__(self, count: int, make: Callable[[int], Tensor]) -> None:
        self._count, self._make, self._kept = count, make, cache(make)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, layer: Any) -> Any:
        make = self._kept if torch.is_grad_enabled() else self._make  # what has no gradient is not kept
        places = range(self._count)[layer]
        return make(places) if isinstance(places, int) else [make(place) for place in places]


class LayerMapping(Protocol):
    """Chooses what each layer of the student is compared with.

    One that depends on the numbers of layers may have a `check(student_layers, teacher_layers)` that refuses them
    before the training, and a `reset(student_layers, teacher_layers)` that begins anew.
    """

    def __call__(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], distance: Distance
    ) -> Iterable[tuple[int, Tensor, float]]:
        """(index into `student`, its target, its weight); both without the embeddings, in the teacher's size."""


def uniform(student_layers: int, teacher_layers: int) -> Pairs:
    """Every n-th layer, the last to the last (TinyBERT's g(m) = m * N / M)."""
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
    """The last to the last alone."""
    return [(student_layers, teacher_layers)]


def explicit(pairs: Pairs) -> Callable[[int, int], Pairs]:
    """These pairs, whatever the number of layers."""
    return lambda student_layers, teacher_layers: pairs


class Fixed:
    """Pairs of layers, the same in every step.

    Args:
        pairs: a function of the numbers of layers, such as `uniform`.
    """

    def __init__(self, pairs: Callable[[int, int], Pairs] = uniform) -> None:
        self.pairs = pairs

    def check(self, student_layers: int, teacher_layers: int) -> None:
        """Raises ModelError for a pair of layers that are not there."""
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
    """The teacher's layers in as many blocks as the student has layers; each layer learns its block's mean."""

    def check(self, student_layers: int, teacher_layers: int) -> None:
        """Raises ModelError for a student of more layers than the teacher has."""
        if student_layers > teacher_layers:
            raise ModelError(
                f"The mapping 'mean' gives each of the student's {student_layers} layers a block of the teacher's "
                f"{teacher_layers}. Give the student fewer --layers, or choose another mapping."
            )

    def __call__(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], distance: Distance
    ) -> Iterable[tuple[int, Tensor, float]]:
        self.check(len(student), len(teacher))
        edges = np.linspace(0, len(teacher), len(student) + 1).round().astype(int)
        for layer, (start, end) in enumerate(pairwise(edges.tolist())):
            yield layer, torch.stack(list(teacher[start : max(end, start + 1)])).mean(0), 1.0


class Attention:
    """Each layer learns a mean of all the teacher's layers, weighted by likeness (ALP-KD, Passban et al. 2021, eq. 4).

    Likeness is the dot product of the first token's states; with normalized states, their cosine. The student learns
    from the mean alone: no gradient goes through the weights.
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
    """As many teacher layers as the student has, drawn anew in every step, in order (RAIL-KD, Haidar et al. 2022)."""

    def __call__(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], distance: Distance
    ) -> Iterable[tuple[int, Tensor, float]]:
        drawn = torch.randperm(len(teacher))[: len(student)].sort().values.tolist()
        for layer, place in enumerate(drawn):
            yield layer, teacher[place], 1.0


class EarthMovers(nn.Module):
    """All pairs, weighted by the cheapest transport between the layers (BERT-EMD, Li et al. 2020, section 3).

    Solved exactly by POT. With cost attention, layers that are cheap to match weigh more from step to step; the weights
    are buffers, so that they are in a training's checkpoints.

    Args:
        temperature: of the cost attention; None leaves all layers the same weight.
    """

    def __init__(self, temperature: float | None = None) -> None:
        super().__init__()
        self.temperature = temperature
        self.reset(0, 0)

    def reset(self, student_layers: int, teacher_layers: int) -> None:
        """The same weight for every layer."""
        for name, layers in (("student_weights", student_layers), ("teacher_weights", teacher_layers)):
            self.register_buffer(name, torch.full((layers,), 1 / max(layers, 1), dtype=torch.float64))

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], distance: Distance
    ) -> Iterable[tuple[int, Tensor, float]]:
        student, teacher = list(student), list(teacher)  # each made once
        with torch.no_grad():
            costs = np.array([[float(distance(state, target)) for target in teacher] for state in student])
        if len(self.get_buffer("student_weights")) != len(student):
            self.reset(len(student), len(teacher))
        weights = [self.get_buffer(f"{side}_weights") for side in ("student", "teacher")]
        supply, demand = (weight.cpu().numpy().copy() for weight in weights)
        flow = _transport(supply, demand, costs)
        if self.temperature is not None:
            moved = flow * costs
            for weight, cost in zip(weights, (moved.sum(1) / supply, moved.sum(0) / demand), strict=True):
                weight.copy_(torch.from_numpy(_attention(cost, self.temperature)))
        for layer, row in enumerate(flow):
            for place in np.flatnonzero(row > 0).tolist():
                yield layer, teacher[place], float(row[place])


def _transport(supply: np.ndarray, demand: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """[student layers, teacher layers] the flow of least cost."""
    try:
        import ot
    except ModuleNotFoundError:
        raise ModelError(f"The earth mover's mapping needs POT. {install_hint('emd')}") from None
    return np.asarray(ot.emd(supply, demand, costs))


def _attention(costs: np.ndarray, temperature: float) -> np.ndarray:
    """Weights that grow as the cost of a layer falls (eq. 9 there), summing to 1.

    One over the cost is taken in parts of the largest, so that a temperature means the same whatever the costs are.
    """
    weights = costs.sum() / np.maximum(costs, 1e-12)
    scaled = np.exp((weights - weights.max()) / (temperature * max(weights.max(), 1e-12)))
    return np.asarray(scaled / scaled.sum())


def mapped_distance(
    student: Sequence[Tensor], teacher: Sequence[Tensor], mapping: LayerMapping, distance: Distance
) -> Tensor:
    """The mean distance of what `mapping` pairs, by its weights."""
    terms, total = [], 0.0
    for layer, target, weight in mapping(student, teacher, distance):
        terms.append(weight * distance(student[layer], target))
        total += weight
    return torch.stack(terms).sum() / total


def normalized(states: Tensor) -> Tensor:
    """States of length 1."""
    return F.normalize(states, dim=-1)


class MappedLoss(Loss):
    """A loss of layers that a mapping pairs."""

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
    "earth-movers": lambda: EarthMovers(temperature=1.0),
    "random": RandomLayers,
}
"""The layer mappings by the name that `mapping=` takes."""


def layer_mapping(choice: "str | LayerMapping | Pairs") -> LayerMapping:
    """A mapping by name, pairs of layers (also as in "1-3,2-6"), or a mapping itself.

    Raises:
        ModelError: an unknown name.
    """
    if isinstance(choice, str) and re.fullmatch(r"\d+-\d+(,\d+-\d+)*", choice):
        choice = [(int(first), int(second)) for first, second in (pair.split("-") for pair in choice.split(","))]
    if not isinstance(choice, list) and not callable(choice):
        if choice not in MAPPINGS:
            raise ModelError(
                f"No layer mapping {choice!r}. Expected one of {', '.join(MAPPINGS)}, or pairs of a layer of the "
                "student's and one of the teacher's, such as 1-3,2-6."
            )
        return MAPPINGS[choice]()
    return Fixed(explicit(choice)) if isinstance(choice, list) else choice
