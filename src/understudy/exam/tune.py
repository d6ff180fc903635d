"""A search of a student's settings, on validation only: learning rate, dropout, sizes, weights of the losses."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import nn
from transformers import TrainerCallback

from understudy.errors import MissingExtraError, UnderstudyError
from understudy.exam.sit import load_entry, student_settings
from understudy.exam.trials import Trial
from understudy.models.transformer import TRANSFORMERS
from understudy.training.distill import distill
from understudy.training.folders import read_history

EMBEDDING_SIZES, HIDDEN_SIZES = [64, 128, 192], [64, 100, 150, 200]
SIZES = ("embedding_size", "hidden_size")
OPTIONS = ("temperature", "hard_weight")


def search(trial: Trial, tries: int, folder: Path) -> dict[str, float]:
    """The settings with the best validation score in `tries` tries; goes on where it was stopped.

    Args:
        folder: for Optuna's journal.

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError:
        raise MissingExtraError("--tune needs Optuna. Install it with: pip install 'understudy[train,tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        direction="maximize",
        load_if_exists=True,
    )

    loaded = load_entry(trial.dataset)
    width = cast(nn.Embedding, loaded.teacher.model.get_input_embeddings()).embedding_dim

    def score(attempt: Any) -> float:
        class Prune(TrainerCallback):
            """Ends a run that is behind the others."""

            def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
                attempt.report(metrics["eval_score"], round(state.epoch))
                if attempt.should_prune():
                    raise optuna.TrialPruned

        out = folder / f"try-{attempt.number}"
        settings = student_settings(apply(trial, _suggest(attempt, trial, width)), loaded)
        try:
            distill(loaded.teacher, loaded.data, out, settings, loaded.unlabelled, callbacks=[Prune()])
            return max(float(entry["eval_score"]) for entry in read_history(out) if "eval_score" in entry)
        finally:
            for path in (out, out.with_name(f"{out.name}.partial")):
                shutil.rmtree(path, ignore_errors=True)

    for number in range(sum(attempt.state.is_finished() for attempt in study.trials), tries):
        # A seed of its own for each try: an interrupted search does not repeat its first tries.
        study.sampler = optuna.samplers.TPESampler(seed=1000 * trial.seed + number)
        study.optimize(score, n_trials=1, catch=(UnderstudyError,))
    if not any(attempt.state.name == "COMPLETE" for attempt in study.trials):
        raise UnderstudyError("no try came to an end")
    return dict(study.best_params)


def apply(trial: Trial, found: dict[str, Any]) -> Trial:
    """The trial with what a search found."""
    if not found or trial.student is None:
        return trial
    rate = {"learning_rate": found["learning_rate"]}
    student = trial.student.model_copy(update={n: found[n] for n in ("dropout", *SIZES) if n in found})
    options = {name: found[name] for name in OPTIONS if name in found and trial.recipe == "soft-targets"}
    return replace(trial, student=student, recipe_options=options, arguments={**trial.arguments, **rate})


def _suggest(attempt: Any, trial: Trial, width: int) -> dict[str, Any]:
    """A try: sizes that the plan has fixed are left alone; the teacher's table has `width` dimensions."""
    assert trial.student is not None
    found = {
        "learning_rate": attempt.suggest_float("learning_rate", 3e-4, 6e-3, log=True),
        "dropout": attempt.suggest_float("dropout", 0.05, 0.5),
    }
    sizes = [size for size in EMBEDDING_SIZES if trial.embeddings == "random" or size <= width]
    if trial.student.architecture in TRANSFORMERS:
        return found
    if trial.student.embedding_size is None and trial.embeddings in ("teacher", "random") and sizes:
        found["embedding_size"] = attempt.suggest_categorical("embedding_size", sizes)
    if trial.student.hidden_size is None:
        found["hidden_size"] = attempt.suggest_categorical("hidden_size", HIDDEN_SIZES)
    if trial.recipe == "soft-targets":
        found["temperature"] = attempt.suggest_float("temperature", 1.0, 8.0)
        found["hard_weight"] = attempt.suggest_float("hard_weight", 0.0, 0.5)
    return found
