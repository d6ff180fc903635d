"""The examples run."""

import runpy
from pathlib import Path

from conftest import QUICK
from toys import toy_rows

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_example_with_unlabeled_text_runs(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "distil_with_unlabeled_text.py"))
    more = tmp_path / "more.txt"
    more.write_text("\n".join(row["text"] for row in toy_rows(200, 7000)))
    scores = example["main"](str(teacher_folder), str(toy_data), str(more), str(tmp_path / "out"), **QUICK)
    assert 0 <= scores["agreement"] <= 1
