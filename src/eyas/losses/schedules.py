"""Schedules of weights and temperatures: functions of training progress, from 0.0 at the start to 1.0 at the end."""

import math
from collections.abc import Callable, Sequence

from eyas.errors import ModelError

Schedule = Callable[[float], float]


def linear(start: float, end: float) -> Schedule:
    """From `start` to `end`, linearly."""
    return lambda progress: start + (end - start) * progress


def cosine(start: float, end: float) -> Schedule:
    """From `start` to `end` along half a cosine: slow, fast, slow."""
    return lambda progress: end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def capped(schedule: Schedule, highest: float) -> Schedule:
    """`schedule`, but never above `highest`."""
    return lambda progress: min(schedule(progress), highest)


def warmup(share: float, height: float = 1.0) -> Schedule:
    """From 0 to `height`, linearly over the first `share` of training, then constant."""
    return lambda progress: height * min(progress / share, 1.0)


def steps(values: Sequence[float]) -> Schedule:
    """Each of `values` for an equal part of training."""
    return lambda progress: values[min(int(progress * len(values)), len(values) - 1)]


def annealing(highest: int) -> Schedule:
    """1 / highest, 2 / highest ... 1, in equal parts of training: phi of Annealing-KD (Jafari et al. 2021, eq. 3)."""
    return steps([(number + 1) / highest for number in range(highest)])


def at(value: float | Schedule, progress: float) -> float:
    """The value of a number or schedule at `progress`."""
    return value(progress) if callable(value) else value


def named(text: str) -> tuple[Schedule, list[float]]:
    """Parse a schedule from an option's text; also returns values that bound it.

    Args:
        text: "linear:8:1", "cosine:8:1" (from, to), "steps:8:4:1", "annealing:7" or "warmup:0.1" (share of training).

    Raises:
        ModelError: no such schedule.
    """
    name, *given = text.split(":")
    try:
        values = [float(value) for value in given]
        if name in ("linear", "cosine") and len(values) == 2:
            return {"linear": linear, "cosine": cosine}[name](*values), values
        if name == "warmup" and values and 0 < values[0] <= 1 and len(values) <= 2:
            return warmup(*values), [0.0, values[1] if len(values) == 2 else 1.0]
        if name == "steps" and values:
            return steps(values), values
        if name == "annealing" and len(values) == 1 and values[0] >= 1:
            return annealing(int(given[0])), [1 / values[0], 1.0]
    except ValueError:
        pass
    raise ModelError(
        f"No schedule {text!r}. Expected linear:8:1, cosine:8:1, steps:8:4:1, annealing:7, warmup:0.1, or the like."
    )
