"""Optimal transport between the layers of student and teacher (BERT-EMD, Li et al. 2020, section 3)."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from eyas.errors import ModelError, install_hint


class LayerWeights(nn.Module):
    """The weights of student and teacher layers in a transport: equal at first, then those of cheap layers grow.

    They are buffers, so checkpoints contain them.

    Args:
        movers: number of transports that share the weights; these are the mean of theirs after each step.
    """

    def __init__(self, movers: int = 1) -> None:
        super().__init__()
        self.movers, self.is_held = movers, False
        self.reset(0, 0)

    def reset(self, student_layers: int, teacher_layers: int) -> None:
        """Give all layers equal weights."""
        self._new: list[tuple[np.ndarray, np.ndarray]] = []
        for name, layers in (("student", student_layers), ("teacher", teacher_layers)):
            self.register_buffer(name, torch.full((layers,), 1 / max(layers, 1), dtype=torch.float64))

    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """[student layers], [teacher layers]; each sums to 1."""
        student, teacher = (self.get_buffer(name).cpu().numpy().copy() for name in ("student", "teacher"))
        return student, teacher

    def update(self, flow: np.ndarray, costs: np.ndarray) -> None:
        """New weights, proportional to the inverse of what a unit of each layer cost (BERT-EMD, eq. 9)."""
        moved = flow * costs
        supply, demand = self.both()
        self._new.append((_inverse(moved.sum(1), supply), _inverse(moved.sum(0), demand)))
        if len(self._new) == self.movers:
            for name, weights in zip(("student", "teacher"), zip(*self._new, strict=True), strict=True):
                self.get_buffer(name).copy_(torch.from_numpy(np.mean(weights, axis=0)))
            self._new = []


class EarthMovers(nn.Module):
    """All pairs of layers, weighted by optimal transport (BERT-EMD, Li et al. 2020, section 3).

    Solved exactly by POT.

    Args:
        weights: of the layers, updated in each step; None = always equal.
    """

    def __init__(self, weights: LayerWeights | None = None) -> None:
        super().__init__()
        self._weights = (weights,)
        if weights is not None and not weights.is_held:  # checkpoints refuse tensors that are held twice
            self.held, weights.is_held = weights, True

    @property
    def weights(self) -> LayerWeights | None:
        return self._weights[0]

    def reset(self, student_layers: int, teacher_layers: int) -> None:
        """Give all layers equal weights."""
        if self.weights is not None:
            self.weights.reset(student_layers, teacher_layers)

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], distance: Callable[[Tensor, Tensor], Tensor]
    ) -> Iterable[tuple[int, Tensor, float]]:
        student, teacher = list(student), list(teacher)  # compute each layer once
        with torch.no_grad():
            costs = np.array([[float(distance(state, target)) for target in teacher] for state in student])
        supply, demand = (np.full(len(side), 1 / len(side)) for side in (student, teacher))
        if self.weights is not None:
            if [len(side) for side in self.weights.both()] != [len(student), len(teacher)]:
                self.weights.reset(len(student), len(teacher))
            supply, demand = self.weights.both()
        flow = _transport(supply, demand, costs)
        if self.weights is not None and torch.is_grad_enabled():  # not in an evaluation
            self.weights.update(flow, costs)
        for layer, row in enumerate(flow):
            for place in np.flatnonzero(row > 0).tolist():
                yield layer, teacher[place], float(row[place])


def _transport(supply: np.ndarray, demand: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """The flow of least cost, [student layers, teacher layers]."""
    try:
        import ot
    except ModuleNotFoundError:
        raise ModelError(f"The earth mover's mapping needs POT. {install_hint('emd')}") from None
    return np.asarray(ot.emd(supply, demand, costs))


def _inverse(moved: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weights proportional to the inverse of cost per unit; a weight of 0 stays 0."""
    unit = np.divide(moved, weights, out=np.zeros_like(moved), where=weights > 0)
    found = np.where(weights > 0, 1 / np.maximum(unit, 1e-12), 0.0)
    return np.asarray(found / found.sum())
