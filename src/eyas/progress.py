"""Progress of long work: a bar on a terminal, plain lines in a log, nothing when the logger is quiet."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

logger = logging.getLogger("eyas")
# The lines have a logger of their own, so that a worker of an exam can log them alone.
PROGRESS = "eyas.progress"
lines = logging.getLogger(PROGRESS)

SECONDS_BETWEEN_LINES = 20.0
_parts: list[str] = []


@contextmanager
def part(title: str) -> Iterator[None]:
    """Within the context, progress is shown as lines that start with `title`: several parts may run at once."""
    _parts.append(title)
    try:
        yield
    finally:
        _parts.pop()


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield `advance(count)`. `total` and `count` are in `unit`s ("texts", "steps")."""
    if not logger.isEnabledFor(logging.INFO):
        yield lambda count: None
    elif sys.stderr.isatty() and not _parts:
        with _bar(description, total, unit) as advance:
            yield advance
    else:
        yield _lines(": ".join([*_parts, description]), total, unit)


def pace(done: float, total: float, seconds: float) -> str:
    """Rate and time left. Both are means since the start, so that pauses, as for validation, do not make them jump."""
    rate = done / max(seconds, 1e-9)
    digits = 0 if rate >= 10 else 1 if rate >= 1 else 2
    left = timedelta(seconds=round((total - done) / rate)) if rate else "unknown time"
    return f"{rate:,.{digits}f}/s, {left} left"


@contextmanager
def _bar(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[pace]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, pace="")

        def advance(count: int) -> None:
            bar.advance(task, count)
            bar.update(task, pace=pace(bar.tasks[task].completed, total, bar.tasks[task].elapsed or 0.0))

        yield advance


def _lines(description: str, total: int, unit: str) -> Callable[[int], None]:
    started = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if done >= total or now - last >= SECONDS_BETWEEN_LINES:
            last = now
            said = pace(done, total, now - started)
            lines.info("%s: %s/%s %s, %s", description, f"{done:,}", f"{total:,}", unit, said)

    return advance
