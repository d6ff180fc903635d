"""Schedules of a weight or a temperature: functions of the training's progress, 0.0 at its start, 1.0 at its end."""

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[float], float]


def linear(start: float, end: float) -> Schedule:
    """From `start` to `end` in a straight line."""
    return lambda progress: start + (end - start) * progress


def cosine(start: float, end: float) -> Schedule:
    """From `start` to `end` along half a cosine: slow, fast, slow."""
    return lambda progress: end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def capped(schedule: Schedule, highest: float) -> Schedule:
    """`schedule`, but never above `highest`."""
    return lambda progress: min(schedule(progress), highest)


def steps(values: Sequence[float]) -> Schedule:
    """Each of `values` for an equal part of the training."""
    return lambda progress: values[min(int(progress * len(values)), len(values) - 1)]


def annealing(highest: int) -> Schedule:
    """1 / highest, 2 / highest ... 1, a step each: phi of Annealing-KD (Jafari et al. 2021, eq. 3)."""
    return steps([(number + 1) / highest for number in range(highest)])


def at(value: float | Schedule, progress: float) -> float:
    """The value of a number or a schedule at `progress`."""
    return value(progress) if callable(value) else value
