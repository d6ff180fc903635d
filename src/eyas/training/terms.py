"""The terms of the objective, logged next to the loss."""

from collections.abc import Mapping, Sequence

from torch import Tensor

Term = tuple[str, Tensor]


def numbered(terms: Sequence[Term]) -> list[Term]:
    """The terms with unique names: the second `HiddenStateLoss` becomes `HiddenStateLoss_2`."""
    counts: dict[str, int] = {}
    result = []
    for name, value in terms:
        counts[name] = counts.get(name, 0) + 1
        result.append((name if counts[name] == 1 else f"{name}_{counts[name]}", value))
    return result


class TermMeans:
    """The mean of each term since the last `take`. They sum to the loss."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0.0

    def add(self, terms: Mapping[str, Tensor], share: float = 1.0) -> None:
        """Add a batch as `share` of a step; with gradient accumulation a step has several batches."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + share * value.detach()
        self._steps += share

    def take(self) -> dict[str, float]:
        """Return {`loss/NAME`: mean}, and reset."""
        means = {f"loss/{name}": float(total) / self._steps for name, total in self._sums.items()}
        self._sums, self._steps = {}, 0.0
        return means
