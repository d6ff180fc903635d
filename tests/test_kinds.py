"""Every table has every kind of task: the tests list everything that a new kind lacks."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from datasets import Dataset

from eyas.data.datasets import is_labeled, task_of, without_labels
from eyas.kinds import GENERATION, KINDS, Kind
from eyas.tasks import Task

SOURCE = Path(__file__).parents[1] / "src" / "eyas"
# Models that write have a score, but no labels and no logits.
OF_TEXTS = {"kinds.MEANINGS"}
# Vectors come from a teacher: no file has them, and no exam compares them.
WITHOUT_VECTORS = {
    "data.columns.COLUMNS",
    "data.rows.ROWS",
    "data.targets.LABEL_NAMES",
    "exam.baselines.FITS",
    "evaluation.bootstrap.SUMS",
}


def _tables() -> Iterator[tuple[str, dict[str, Any]]]:
    """All module variables annotated as `dict[Kind, ...]`."""
    for path in sorted(SOURCE.rglob("*.py")):
        if "dict[Kind, " in path.read_text():
            part = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
            module = importlib.import_module(f"eyas.{part}")
            for name, declared in inspect.get_annotations(module).items():
                if get_args(declared)[:1] == (Kind,):
                    yield f"{part}.{name}", getattr(module, name)


def test_tables_have_every_kind() -> None:
    tables = dict(_tables())
    assert tables.keys() >= WITHOUT_VECTORS | {"kinds.MEANINGS", "models.objective.OBJECTIVES"}
    lacking = [
        f"{name} has no {kind}"
        for name, table in tables.items()
        for kind in get_args(Kind)
        if kind not in table
        and not (kind == "vectors" and name in WITHOUT_VECTORS)
        and not (kind == GENERATION and name not in OF_TEXTS)
    ]
    assert not lacking, "\n".join(lacking)


@pytest.mark.parametrize("kind", KINDS)
def test_task_of_reads_kind_from_label_column(kind: Kind) -> None:
    task = Task(kind, ("a=1", "a=2", "b=1", "b=2"))
    words = {"tokens": [["one", "two"], ["three"]]} if task.is_tagging else {}
    rows = Dataset.from_dict({"text": ["one two", "three"], **words})
    bare = without_labels(rows, task)
    assert task_of(bare).kind == kind
    assert not is_labeled(bare).any()


def test_command_line_offers_every_kind(run: Callable[..., Any], toy_data: Path) -> None:
    code, _, err = run("evaluate", "--model", toy_data, "--data", toy_data, "--task", "none")
    assert code == 2
    assert [kind for kind in KINDS if kind in err] == list(KINDS)
