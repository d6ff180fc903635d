"""Run one trial in its own process: train the model, export it, score the exported model."""

import json
import time
from pathlib import Path
from typing import Any, cast

from eyas.exam.cost import open_model
from eyas.exam.entries import load_entry
from eyas.exam.loaded import LoadedPairs
from eyas.exam.making import asked, make_model
from eyas.exam.results import FORMAT_VERSION, RESULT, SHIPPED, TIMING
from eyas.exam.scoring import score_answers
from eyas.exam.trials import Trial
from eyas.exam.writing import score_texts
from eyas.outputs import write_atomically
from eyas.progress import part


def run_trial(trial: Trial, key: str, folder: Path, home: Path | None = None) -> dict[str, Any]:
    """Run one trial and write everything about it to `folder`, its row last.

    Args:
        home: of a student of several tasks, the folder of the trial that has it.

    Returns:
        The row.
    """
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    loaded = load_entry(trial.dataset)
    with part(trial.title):
        about = make_model(trial, loaded, folder, home or folder)
    model: Any = asked(trial, loaded) or open_model(folder / SHIPPED)
    scored = score_texts if isinstance(loaded, LoadedPairs) else score_answers
    row = {
        "format_version": FORMAT_VERSION,
        "key": key,
        "status": "done",
        **describe(trial),
        "task": loaded.task.kind,
        "metric": loaded.task.metric,
        "split": loaded.split,
        **scored(trial, cast(Any, loaded), model, folder),
        **about,
    }
    write_atomically(folder / TIMING, json.dumps({"trial_seconds": round(time.perf_counter() - started, 2)}))
    write_atomically(folder / RESULT, json.dumps(row, ensure_ascii=False))
    return row


def describe(trial: Trial) -> dict[str, Any]:
    """The columns of the results that identify the trial."""
    student = trial.student
    sizes = {name: getattr(student, name, None) for name in ("embedding_size", "hidden_size", "vocab_size")}
    return {
        "dataset": trial.dataset.name,
        "kind": trial.kind,
        "model": trial.model,
        "precision": trial.precision,
        "architecture": student.architecture if student else None,
        **sizes,
        "recipe": trial.recipe,
        "embeddings": trial.embeddings_name,
        "seed": trial.seed,
        "transfer": trial.transfer if student else None,
        "without": trial.without,
    }
