"""Files in a trained model's folder, besides the model."""

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from eyas import processes
from eyas.compression import FACTORS
from eyas.evaluation.calibration import calibration
from eyas.models.classifier import Classifier
from eyas.models.loading import PART
from eyas.tasks import CALIBRATION
from eyas.verbosity import without_bars

WORK = "work"
HISTORY = "training_history.jsonl"
SAMPLE_FILE = "validation_sample.jsonl"
SAMPLE_ROWS = 500


def write_history(history: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write the loss, its terms and the scores of each epoch. Timings are left out, so equal runs write equal files."""
    kept = ("stage", "step", "epoch", "loss", "learning_rate", "eval_loss", "eval_score", "eval_objective")
    rows = []
    for entry in history:
        names = (*kept, *sorted(name for name in entry if name.startswith("loss/")))
        rows.append({name: entry[name] for name in names if name in entry})
    rows = [row for row in rows if row.keys() - {"stage", "step", "epoch"}]
    (folder / HISTORY).write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def write_result(
    model: PreTrainedModel,
    tokenizer: Any,
    validation: Dataset,
    history: Sequence[dict[str, Any]],
    folder: Path,
    factors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a trained model and its history, and delete the checkpoints; the first process does, when all are done.

    Args:
        factors: of its matrices of low rank, as from `eyas.compression.merge`.
    """
    PartialState().wait_for_everyone()
    if processes.is_first():
        if factors:
            save_file({name: factor.contiguous() for name, factor in factors.items()}, folder / FACTORS)
        write_model_folder(model, tokenizer, validation, folder)
        write_history(history, folder)
        shutil.rmtree(folder / WORK)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Read what `write_history` wrote; empty if there is no file."""
    path = folder / HISTORY
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


@without_bars()
def write_model_folder(model: PreTrainedModel, tokenizer: Any, validation: Dataset | None, folder: Path) -> None:
    """Save model, tokenizer, a sample of validation texts (for parity checks) and, if labeled, a temperature."""
    training, found = model.training, None
    if validation is not None and "label" in validation.column_names:
        found = calibration(Classifier(model, tokenizer), validation)
    model.train(training)
    if found is not None or hasattr(model.config, CALIBRATION):
        setattr(model.config, CALIBRATION, found)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if validation is not None:
        write_sample(validation, folder)


def write_part(student: PreTrainedModel, tokenizer: Any, validation: Dataset, folder: Path, task: str) -> None:
    """Make a folder in that of a student of several tasks with which any command uses the student of one task."""
    folder.mkdir(exist_ok=True)
    setattr(student.config, PART, task)
    student.config.architectures = [type(student).__name__]
    student.config.save_pretrained(folder)
    delattr(student.config, PART)
    tokenizer.save_pretrained(folder)
    write_sample(validation, folder)


def write_sample(validation: Dataset, folder: Path) -> None:
    """Write some of the validation texts."""
    columns = [name for name in ("text", "text_pair", "tokens") if name in validation.column_names]
    rows = sorted(random.Random(0).sample(range(len(validation)), min(SAMPLE_ROWS, len(validation))))
    lines = (json.dumps({c: row[c] for c in columns}, ensure_ascii=False) for row in validation.select(rows))
    (folder / SAMPLE_FILE).write_text("".join(f"{line}\n" for line in lines))
