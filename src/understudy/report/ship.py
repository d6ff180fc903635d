"""A student of an exam, copied to where it is needed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from understudy.exam.results import PLAN, SHIPPED, candidates, load
from understudy.outputs import RUN_FILE, OutputFolder
from understudy.report.charts import as_file, pareto
from understudy.report.verdict import mark_front
from understudy.runtime.manifest import EXAM

CHART, SHIPPED_PLAN = "exam.svg", "exam-plan.yaml"
# What the exam found, for the server's page.
VERDICT = ("metric", "score", "retention", "agreement", "latency_ms", "times_faster", "seeds")


def ship(folder: str | Path, found: dict[str, Any], out: str | Path, overwrite: bool = False) -> Path:
    """Copy what `find_best` found to `out`, with its figures and the exam's chart in the model card.

    Raises:
        OutputError: `out` holds something else.
    """
    source = Path(folder) / "trials" / found["key"] / SHIPPED
    output = OutputFolder(out, {"command": "best", "key": found["key"]}, overwrite, resumable=False)
    with output as partial:
        for file in source.iterdir():
            if file.name != RUN_FILE:
                shutil.copy2(file, partial / file.name)
        shutil.copy2(Path(folder) / PLAN, partial / SHIPPED_PLAN)
        as_file(pareto(_of_dataset(folder, found["dataset"])), partial / CHART)
        verdict = {name: found[name] for name in VERDICT}
        (partial / EXAM).write_text(json.dumps(verdict, indent=2) + "\n")
        card = partial / "README.md"
        card.write_text(_renamed(card.read_text(), Path(out).name) + _figures(found))
    return output.path


def _of_dataset(folder: str | Path, name: str) -> pd.DataFrame:
    table = candidates(load(folder))
    table = table[table["dataset"] == name]
    return table.assign(front=mark_front(table))


def _renamed(card: str, name: str) -> str:
    """The model card of a trial's export, for a folder called `name`."""
    for form in ("# {}\n", '"{}"', "--model {} "):
        card = card.replace(form.format(SHIPPED), form.format(name))
    return card


def _figures(found: dict[str, Any]) -> str:
    figures = {
        found["metric"].replace(
            "_", " "
        ): f"{found['score']:.1%}, mean of {found['seeds']} seeds; this one is seed {found['seed']}",
        "share of the teacher's score": f"{found['retention']:.1%}",
        "agreement with the teacher": f"{found['agreement']:.1%}",
        "latency of one text": f"{found['latency_ms']:.3f} ms, tokenisation counted in",
        "speed": f"{found['times_faster']:,.1f} times the teacher in fp32",
    }
    rows = "".join(f"| {name} | {value} |\n" for name, value in figures.items())
    return (
        "\n## Exam\n\nChosen by validation scores among the students of an exam.\n\n| | |\n|---|---|\n"
        f"{rows}\n![score against latency of all candidates]({CHART})\n\n"
        f"To hold it again: `understudy exam {SHIPPED_PLAN} --out exam`, with its data and teacher at hand.\n"
    )
