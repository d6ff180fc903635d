"""What every benchmark notes beside its figures."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from eyas.exam import cost
from eyas.exam.plan import Plan
from eyas.settings import NO_START, TRANSFORMERS


def machine() -> dict[str, Any]:
    """Processor, cores, versions and date, as an exam notes them; the processor with its extensions, the GPU."""
    facts = cost.machine()
    extensions = ", ".join(facts.pop("extensions"))
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {**facts, "cpu": f"{facts['cpu']} ({extensions})", **gpu}


def as_written(plan: Plan) -> Plan:
    """The plan with students that start from new weights unless it says otherwise, as when its rows were made."""
    new = {one: one.init is None and one.architecture not in TRANSFORMERS for one in plan.students}
    students = tuple(replace(one, init=NO_START) if new[one] else one for one in plan.students)
    return plan.model_copy(update={"students": students})


def write_rows(path: str | Path, rows: list[dict[str, Any]]) -> None:
    """JSON lines."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def append_row(path: str | Path, row: dict[str, Any]) -> None:
    """One more JSON line, synced: an interrupted benchmark goes on behind it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()] if Path(path).exists() else []
