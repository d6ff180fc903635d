"""Ship a student of an exam: copy its exported model and the exam's figures."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from eyas.evaluation.bootstrap import bracketed
from eyas.exam.results import PLAN, SHIPPED, candidates, load_exam
from eyas.outputs import RUN_FILE, OutputFolder
from eyas.report.answers import Answers
from eyas.report.charts import as_file, pareto
from eyas.report.verdict import mark_front, reference
from eyas.runtime.manifest import CARD, EXAM, renamed_card

CHART, SHIPPED_PLAN = "exam.svg", "exam-plan.yaml"
# Figures of the exam that the server's page shows.
VERDICT = ("metric", "score", "retention", "agreement", "latency_ms", "times_faster", "seeds")


def ship(folder: str | Path, found: dict[str, Any], out: str | Path, overwrite: bool = False) -> Path:
    """Copy the student found by `find_best` to `out`, with its figures and the exam's chart on the model card.

    Raises:
        OutputError: `out` has other content.
    """
    source = Path(folder) / "trials" / found["key"] / SHIPPED
    output = OutputFolder(out, {"command": "best", "key": found["key"]}, overwrite, resumable=False, inputs=[folder])
    with output as partial:
        for file in source.iterdir():
            if file.name != RUN_FILE:
                shutil.copy2(file, partial / file.name)
        plan = yaml.safe_load((Path(folder) / PLAN).read_text())
        (partial / SHIPPED_PLAN).write_text(yaml.safe_dump(_without_folders(plan), sort_keys=False))
        table = _of_dataset(folder, found)
        as_file(pareto(table), partial / CHART)
        verdict = {name: found[name] for name in VERDICT}
        (partial / EXAM).write_text(json.dumps(verdict, indent=2) + "\n")
        card = partial / CARD
        card.write_text(
            renamed_card(card.read_text(), SHIPPED, Path(out).name) + _figures(found, *_intervals(Path(folder), table))
        )
    return output.path


def _of_dataset(folder: str | Path, found: dict[str, Any]) -> pd.DataFrame:
    table = candidates(load_exam(folder))
    table = table[table["dataset"] == found["dataset"]]
    return table.assign(front=mark_front(table), winner=table["title"] == found["title"])


def _without_folders(value: Any) -> Any:
    """The plan with each path reduced to its last part, so that it reveals no local folders."""
    if isinstance(value, dict):
        return {key: _without_folders(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_folders(part) for part in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _intervals(folder: Path, table: pd.DataFrame) -> tuple[str, str]:
    """The intervals of the shipped student's score and of its retention, as texts."""
    answers, index, teacher = Answers(folder, table), table.index[table["winner"]][0], reference(table)
    found = [answers.interval(index)] + ([] if teacher is None else [answers.retention(index, teacher)])
    said = [bracketed(interval) for interval in found]
    return said[0], said[-1] if teacher is not None else ""


def _figures(found: dict[str, Any], of_score: str, of_retention: str) -> str:
    seeds = f"mean of {found['seeds']} seeds; this one is seed {found['seed']}"
    faster = found["times_faster"]
    figures = {
        found["metric"].replace("_", " "): f"{found['score']:.1%}{of_score}, {seeds}",
        "share of the teacher's score": f"{found['retention']:.1%}{of_retention}",
        "agreement with the teacher": f"{found['agreement']:.1%}",
        "latency of one text": f"{found['latency_ms']:.3f} ms, tokenization included",
        **({} if faster is None else {"speed": f"{faster:,.1f} times the teacher in fp32"}),
    }
    rows = "".join(f"| {name} | {value} |\n" for name, value in figures.items())
    return (
        "\n## Exam\n\nChosen by validation scores among the students of an exam.\n\n| | |\n|---|---|\n"
        f"{rows}\n![score against latency of all candidates]({CHART})\n\n"
        f"To repeat the exam: `eyas exam {SHIPPED_PLAN} --out exam`, with its data and teacher beside the plan.\n"
    )
