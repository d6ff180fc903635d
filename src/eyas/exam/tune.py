"""Search a student's learning rate, dropout, sizes and loss weights, on the validation split only."""

import importlib.util
import math
import shutil
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, cast

from torch import nn
from transformers import TrainerCallback

from eyas.errors import EyasError, MissingExtraError, ModelError, install_hint
from eyas.exam.entries import load_entry
from eyas.exam.loaded import Loaded
from eyas.exam.making import student_settings
from eyas.exam.trials import Trial
from eyas.settings import FIELD_MODELS, NO_START, TRANSFORMERS
from eyas.training.arguments import OBJECTIVE
from eyas.training.folders import read_history
from eyas.training.recipes import find_recipe, make_stages, parse_recipe

EMBEDDING_SIZES, HIDDEN_SIZES = [64, 128, 192], [64, 100, 150, 200]
SIZES = ("embedding_size", "hidden_size")
# Options of recipes that are searched unless the plan sets them: (low, high, logarithmic scale).
OPTIONS = {
    "temperature": (1.0, 8.0, False),
    "hard_weight": (0.0, 0.5, False),
    "attention_weight": (0.01, 10.0, True),
    "hidden_weight": (0.01, 10.0, True),
    "patient_weight": (1.0, 1000.0, True),
    "layer_weight": (0.01, 100.0, True),
    "attribution_weight": (0.1, 100.0, True),
    "rest_weight": (1.0, 8.0, True),
    "margin": (0.1, 10.0, True),
}
RATES, TRANSFORMER_RATES = (3e-4, 6e-3), (5e-5, 1e-3)


def check_search() -> None:
    """Raises MissingExtraError if Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise MissingExtraError(f"--tune needs Optuna. {install_hint('train,tune')}")


def search(trial: Trial, tries: int, folder: Path) -> dict[str, float]:
    """The settings with the best validation score of `tries` tries. An interrupted search resumes.

    Args:
        folder: folder of Optuna's journal.

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    check_search()
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

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
    assert isinstance(loaded, Loaded)
    width = math.inf
    if not loaded.task.reads_fields:
        width = cast(nn.Embedding, loaded.teacher.teacher.model.get_input_embeddings()).embedding_dim
    free = student_settings(trial, loaded).student.init in (None, NO_START)
    if not _suggest(_Names(), trial, width, free):
        return {}

    def score(attempt: Any) -> float:
        class Prune(TrainerCallback):
            """Stop a run that is behind the others."""

            def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
                if args.metric_for_best_model == OBJECTIVE:
                    return  # a stage that does not train predictions
                attempt.report(metrics["eval_score"], round(state.epoch))
                if attempt.should_prune():
                    raise optuna.TrialPruned

        out = folder / f"try-{attempt.number}"
        settings = student_settings(apply(trial, _suggest(attempt, trial, width, free)), loaded)
        try:
            loaded.distill(settings, out, callbacks=[Prune()])
            scored = [entry for entry in read_history(out) if "eval_score" in entry]
            last = max(entry["stage"] for entry in scored)  # the student is its best checkpoint
            return max(float(entry["eval_score"]) for entry in scored if entry["stage"] == last)
        finally:
            for path in (out, out.with_name(f"{out.name}.partial")):
                shutil.rmtree(path, ignore_errors=True)

    for number in range(sum(attempt.state.is_finished() for attempt in study.trials), tries):
        # One seed per try, so that a resumed search does not repeat its first tries.
        study.sampler = optuna.samplers.TPESampler(seed=1000 * trial.seed + number)
        study.optimize(score, n_trials=1, catch=(EyasError,))
    if not any(attempt.state.name == "COMPLETE" for attempt in study.trials):
        raise EyasError("no try finished")
    return dict(study.best_params)


class _Names:
    """A try that only hears what it is asked for."""

    def suggest_float(self, *_: Any, **__: Any) -> float:
        return 0.0

    def suggest_categorical(self, *_: Any) -> int:
        return 0


def apply(trial: Trial, found: dict[str, Any]) -> Trial:
    """The trial with the settings that a search found."""
    if not found or trial.student is None:
        return trial
    # A search of before the plan set a value may still have one.
    rate = {name: found[name] for name in ("learning_rate",) if name in found and name not in trial.arguments}
    open_ = [name for name in ("dropout", *SIZES) if name in found and getattr(trial.student, name) is None]
    student = replace(trial.student, **{name: found[name] for name in open_})
    options = {name: found[name] for name in _open_options(trial.recipe) if name in found}
    return replace(trial, student=student, recipe_options=options, arguments={**trial.arguments, **rate})


def _suggest(attempt: Any, trial: Trial, width: float, free: bool) -> dict[str, Any]:
    """Suggest the settings of a try, without those that the plan sets.

    Args:
        width: dimensions of the teacher's word vectors, from which the student starts.
        free: whether the student does not start from another, whose sizes it would have.
    """
    assert trial.student is not None
    is_transformer = trial.student.architecture in TRANSFORMERS
    lowest, highest = TRANSFORMER_RATES if is_transformer else RATES
    found: dict[str, Any] = {}
    if "learning_rate" not in trial.arguments:
        found["learning_rate"] = attempt.suggest_float("learning_rate", lowest, highest, log=True)
    if trial.student.dropout is None:
        found["dropout"] = attempt.suggest_float("dropout", 0.05, 0.5)
    for name in _open_options(trial.recipe):
        start, end, log = OPTIONS[name]
        found[name] = attempt.suggest_float(name, start, end, log=log)
    if is_transformer or not free or trial.student.architecture in FIELD_MODELS:  # whose size is the teacher's
        return found
    sizes = [size for size in EMBEDDING_SIZES if trial.embeddings == "random" or size <= width]
    if trial.student.embedding_size is None and trial.embeddings in ("teacher", "random") and sizes:
        found["embedding_size"] = attempt.suggest_categorical("embedding_size", sizes)
    if trial.student.hidden_size is None:
        found["hidden_size"] = attempt.suggest_categorical("hidden_size", HIDDEN_SIZES)
    return found


def _open_options(recipe: str) -> list[str]:
    """The `OPTIONS` of the recipe that are not set and are compatible with those that are."""
    name, given = parse_recipe(recipe)
    known = [option for option in signature(find_recipe(name)).parameters if option in OPTIONS and option not in given]
    return [option for option in known if _is_valid(name, {**given, option: OPTIONS[option][1]})]


def _is_valid(recipe: str, options: dict[str, Any]) -> bool:
    try:
        make_stages(recipe, options)
    except ModelError:
        return False
    return True
