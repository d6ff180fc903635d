"""Schedules of a weight or a temperature: functions of the training's progress, 0.0 at its start, 1.0 at its end."""

import math
from collections.abc import Callable, Sequence

from eyas.errors import ModelError

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


def named(text: str) -> tuple[Schedule, list[float]]:
    """A schedule as options have it, and the values between which it stays.

    Args:
        text: "linear:8:1", "cosine:8:1" (from, to), "steps:8:4:1" or "annealing:7".

    Raises:
        ModelError: no such schedule.
    """
    name, *given = text.split(":")
    try:
        values = [float(value) for value in given]
        if name in ("linear", "cosine") and len(values) == 2:
            return {"linear": linear, "cosine": cosine}[name](*values), values
        if name == "steps" and values:
            return steps(values), values
        if name == "annealing" and len(values) == 1 and values[0] >= 1:
            return annealing(int(given[0])), [1 / values[0], 1.0]
    except ValueError:
        pass
    raise ModelError(f"No schedule {text!r}. Expected linear:8:1, cosine:8:1, steps:8:4:1, annealing:7, or the like.")
