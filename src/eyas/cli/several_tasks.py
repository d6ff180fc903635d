"""`--task NAME=DATA`: several tasks of one student."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eyas.cli.options import named
from eyas.errors import EyasError
from eyas.settings import Columns

EXPECTED = "several tasks are given as --task NAME=DATA[:COLUMN] --teacher NAME=TEACHER for each"


@dataclass(frozen=True)
class Tasks:
    """Teachers, data and columns by the task's name."""

    teachers: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    columns: dict[str, Columns] = field(default_factory=dict)


def parse_tasks(tasks: Sequence[str], teachers: Sequence[str], columns: Columns) -> Tasks:
    """Read `NAME=DATA`, `NAME=DATA:COLUMN` and `NAME=TEACHER`.

    Args:
        columns: of all tasks; a task's own column of labels comes first.

    Raises:
        EyasError: another form, or a name that occurs twice.
    """
    found = Tasks()
    for name, data in named("--task", tasks, EXPECTED).items():
        source, _, label = data.rpartition(":")
        if not source or os.path.exists(data) or not os.path.exists(source):  # the configuration of a Hub data set
            source, label = data, ""
        found.data[name] = source
        found.columns[name] = replace(columns, label=label) if label else columns
    found.teachers.update(named("--teacher", teachers, EXPECTED))
    return found


def refuse(given: dict[str, Any]) -> None:
    """Raises EyasError for options that are not for several tasks."""
    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise EyasError(f"--{wrong[0]} is for one task, but {EXPECTED}. Leave it out.")


def say_tasks(out: Path, tasks: Tasks) -> None:
    """Log each task's score and the next step."""
    from eyas.cli.closing import beside, command, say_trained
    from eyas.training.teachers import is_fine_tuned

    for number, (name, data) in enumerate(tasks.data.items(), 1):
        last = number == len(tasks.data)
        export = command("export", {"model": out, "out": beside(out, "shipped"), "int8": True}) if last else None
        teacher = tasks.teachers[name] if is_fine_tuned(tasks.teachers[name]) else None
        say_trained(f"student of {name}", out / name, data, tasks.columns[name], export, teacher)
