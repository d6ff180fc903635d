"""Batch samplers: texts of similar length, and batches from several data sets."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from eyas.training.encoded import EncodedTexts

Mixing = Literal["proportional", "temperature", "round-robin"]
# Of the mixing "temperature": a data set is drawn with a probability that grows with the root of its size.
TEMPERATURE = 2
# (name of the data set, row)
Row = tuple[str, int]


class LengthGroupedBatchSampler(Sampler[list[int]]):
    """Shuffled batches of texts of similar length; the same for the same seed and epoch.

    Args:
        lengths: [rows] int.
        batch_size: rows per batch; texts are sorted within runs of 50 batches.
    """

    BATCHES_PER_RUN = 50

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.lengths))
        run = self.batch_size * self.BATCHES_PER_RUN
        for start in range(0, len(order), run):
            rows = order[start : start + run]
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
            full, short = (batches[:-1], batches[-1:]) if len(batches[-1]) < self.batch_size else (batches, [])
            for place in random.permutation(len(full)):
                yield full[place].tolist()
            yield from (batch.tolist() for batch in short)


class MixedBatches(Sampler[list[Row]]):
    """Batches from several data sets, one data set per batch; the same for the same seed and epoch.

    Args:
        samplers: one per data set.
        mixing: "proportional" = every batch of every data set, in random order; "temperature" = as many batches, drawn
            in proportion to the square roots of the sizes, so small data sets come more often (temperature 2, Raffel
            et al. 2020, section 3.5.2); "round-robin" = one of each in turn, until a data set runs out.
    """

    def __init__(
        self, samplers: Mapping[str, LengthGroupedBatchSampler], mixing: Mixing = "proportional", seed: int = 0
    ) -> None:
        self.samplers, self.mixing, self.seed, self.epoch = dict(samplers), mixing, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        for sampler in self.samplers.values():
            sampler.set_epoch(epoch)

    def __len__(self) -> int:
        lengths = [len(sampler) for sampler in self.samplers.values()]
        return min(lengths) * len(lengths) if self.mixing == "round-robin" else sum(lengths)

    def __iter__(self) -> Iterator[list[Row]]:
        batches = {name: _again_and_again(sampler) for name, sampler in self.samplers.items()}
        for name in self._turns():
            yield [(name, row) for row in next(batches[name])]

    def _turns(self) -> list[str]:
        if self.mixing == "round-robin":
            return list(self.samplers) * (len(self) // len(self.samplers))
        random = np.random.default_rng([self.seed, self.epoch])
        if self.mixing == "temperature":
            sizes = np.array([len(sampler.lengths) for sampler in self.samplers.values()]) ** (1 / TEMPERATURE)
            return [str(name) for name in random.choice(list(self.samplers), len(self), p=sizes / sizes.sum())]
        turns = [name for name, sampler in self.samplers.items() for _ in range(len(sampler))]
        order = random.permutation(len(turns))
        return [turns[place] for place in order]


def _again_and_again(sampler: LengthGroupedBatchSampler) -> Iterator[list[int]]:
    """Its batches; when it runs out, all of them in another order."""
    for turn in itertools.count():
        again = LengthGroupedBatchSampler(sampler.lengths, sampler.batch_size, sampler.seed + 1000 * turn)
        again.set_epoch(sampler.epoch)
        yield from again


class MixedTexts(TorchDataset[Any]):
    """Several data sets as one; each batch comes from one of them and has its `dataset_name`."""

    def __init__(self, parts: Mapping[str, EncodedTexts]) -> None:
        self.parts = dict(parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def __getitems__(self, rows: Sequence[Row]) -> dict[str, Any]:
        name = rows[0][0]
        return self.parts[name].__getitems__([row for _, row in rows])


def batches_of(
    encoded: EncodedTexts | MixedTexts, batch_size: int, seed: int, mixing: Mixing
) -> LengthGroupedBatchSampler | MixedBatches:
    """The batch sampler of `encoded`."""
    if isinstance(encoded, EncodedTexts):
        return LengthGroupedBatchSampler(encoded.lengths, batch_size, seed)
    samplers = {
        name: LengthGroupedBatchSampler(part.lengths, batch_size, seed + number)
        for number, (name, part) in enumerate(encoded.parts.items())
    }
    return MixedBatches(samplers, mixing, seed)
