"""The terms of the objective, one by one: what the log says beside the loss."""

from collections.abc import Mapping, Sequence

from torch import Tensor

Term = tuple[str, Tensor]


def numbered(terms: Sequence[Term]) -> list[Term]:
    """The terms under names of their own: the second `HiddenStateLoss` is `HiddenStateLoss_2`."""
    counts: dict[str, int] = {}
    result = []
    for name, value in terms:
        counts[name] = counts.get(name, 0) + 1
        result.append((name if counts[name] == 1 else f"{name}_{counts[name]}", value))
    return result


class TermMeans:
    """Means of each term over the steps since they were last taken; summed they are the loss."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0.0

    def add(self, terms: Mapping[str, Tensor], share: float = 1.0) -> None:
        """Count a batch as `share` of a step; with accumulated gradients a step has several."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + share * value.detach()
        self._steps += share

    def take(self) -> dict[str, float]:
        """{`loss/NAME`: mean}; begins anew."""
        means = {f"loss/{name}": float(total) / self._steps for name, total in self._sums.items()}
        self._sums, self._steps = {}, 0.0
        return means
