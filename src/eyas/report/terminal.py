"""The verdict and the table of an exam on a terminal."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eyas.exam.results import Requirements, candidates, load_exam, shippable
from eyas.report.verdict import megabytes, verdict


def verdicts(folder: Path, requirements: Requirements) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """(data set, its candidates, the verdict) of each data set of an exam."""
    for name, table in candidates(load_exam(folder)).groupby("dataset", sort=False):
        yield str(name), table, verdict(folder, table, requirements)[0]


def reachable(table: pd.DataFrame, requirements: Requirements) -> Requirements:
    """The requirements, with the retention lowered to what a student of `table` reaches on validation."""
    most = shippable(table)["validation_retention"].max()
    enough = requirements.retention is None or not most < requirements.retention
    return requirements if enough else Requirements(max(int(most * 1000) / 1000, 0.0))


def print_table(table: pd.DataFrame) -> None:
    """Print the candidates of one data set."""
    metric = str(table["metric"].iloc[0]).replace("_", " ")
    shown = Table(
        title="Scores of what ships; one text at a time, tokenization included",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    shown.add_column("model", overflow="fold")  # on a narrow terminal it wraps, and numbers stay whole
    for column in (metric, "retention", "size", "latency", "speed"):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        shown.add_row(
            escape(row["title"]),
            f"{row['score']:.1%}",
            *(
                "" if pd.isna(row[name]) else said(row[name])
                for name, said in (
                    ("retention", "{:.1%}".format),
                    ("size_bytes", megabytes),
                    ("latency_ms", "{:.3f} ms".format),
                    ("times_faster", lambda times: f"{times:.{0 if times >= 10 else 1}f}x"),
                )
            ),
        )
    Console().print(shown)
