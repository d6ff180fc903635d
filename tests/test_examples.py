"""The examples run."""

import runpy
from pathlib import Path

from conftest import toy_rows

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_distil_with_unlabelled_text(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "distil_with_unlabelled_text.py"))
    more = tmp_path / "more.txt"
    more.write_text("\n".join(row["text"] for row in toy_rows(200, 7000)))
    scores = example["main"](str(teacher_folder), str(toy_data), str(more), str(tmp_path / "out"), num_train_epochs=12)
    assert scores["accuracy"] > 0.8


def test_distil_by_hand(teacher_folder: Path, toy_data: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "distil_by_hand.py"))
    scores = example["main"](str(teacher_folder), str(toy_data))
    assert scores["accuracy"] > 0.8
    assert scores["retention"] > 0.8
