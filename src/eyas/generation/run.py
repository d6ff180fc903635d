"""Train models that write texts: teachers, and students of them."""

import copy
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict
from transformers import TrainerCallback, set_seed

from eyas import processes
from eyas.errors import EyasError, ModelError
from eyas.generation.data import EncodedPairs, load_pairs
from eyas.generation.models import TextGenerator, limit_length
from eyas.generation.recipes import FeatureAlignment, HardLabels, Recipe, make_recipe
from eyas.generation.teachers import cached, fingerprint
from eyas.generation.trainer import GenerationTrainer
from eyas.models.encoder_decoders import check_lengths, from_scratch, scratch_sizes, student_of
from eyas.models.loading import load_seq2seq
from eyas.outputs import OutputFolder
from eyas.settings import GRU, Columns, DistillSettings, FinetuneSettings
from eyas.teachers.live import fastest_dtype
from eyas.training.arguments import DistillationArguments, fast_precision, passes_for, with_known_arguments
from eyas.training.callbacks import early_stopping
from eyas.training.finetune import learning_rate
from eyas.training.folders import WORK, write_result
from eyas.training.steps import LENGTHS
from eyas.training.student_checks import check_writer
from eyas.verbosity import without_bars

logger = logging.getLogger("eyas")

DEFAULT_RECIPE = "word-kd"
ARGUMENTS: dict[str, Any] = {
    "per_device_train_batch_size": 64,
    "per_device_eval_batch_size": 64,
    "learning_rate": 5e-4,
    "weight_decay": 0.01,
    "warmup_steps": 0.1,
    "max_grad_norm": 1.0,
    "metric_for_best_model": "loss",
    "greater_is_better": False,
    "prediction_loss_only": True,
}
GRU_ARGUMENTS = {"learning_rate": 2e-3, "weight_decay": 1e-4}
# Steps of a training whose length is not set, within these bounds on epochs.
PRETRAINED_STEPS, STUDENT_STEPS = 1000, 4000
SCRATCH: dict[str, Any] = {"steps": 8000, "learning_rate": 1e-3, "label_smoothing_factor": 0.1}
FEWEST_EPOCHS, MOST_EPOCHS = 3, 30


@without_bars()
def finetune(
    model: str,
    source: Any,
    out: str | Path,
    settings: FinetuneSettings,
    columns: Columns | None = None,
    overwrite: bool = False,
    record: dict[str, Any] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Train an encoder-decoder on pairs of texts; an interrupted run resumes with the same bits.

    Args:
        model: a pretrained one, a folder or a Hub name; or a family from scratch, such as `marian` or
            `marian:layers=3,hidden_size=256,vocab_size=8000`.
        record: further settings for `eyas.json`.

    Raises:
        EyasError: invalid input, raised before any training step.
    """
    _check_one_process()
    settings = with_known_arguments(settings)
    sizes = scratch_sizes(model)
    data = load_pairs(source, columns)
    if sizes is None:
        started, tokenizer = load_seq2seq(model)
        weights: Any = fingerprint(TextGenerator(started, tokenizer), "")
        usual = {"steps": PRETRAINED_STEPS, "learning_rate": learning_rate(started.config.hidden_size)}
    else:
        set_seed(settings.seed)
        texts = [*data["train"]["source"], *data["train"]["target"]]
        started, tokenizer = from_scratch(*sizes, texts, settings.max_length)
        weights, usual = asdict(sizes[1]), SCRATCH
    about = {"command": "finetune", "model": model, "model_files": weights, **(record or {}), **asdict(settings)}
    return _train(started, tokenizer, data, out, settings, about, overwrite, callbacks, HardLabels(), None, usual)


@without_bars()
def distill(
    teacher: str,
    source: Any,
    out: str | Path,
    settings: DistillSettings,
    columns: Columns | None = None,
    dtype: str | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    record: dict[str, Any] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Distill an encoder-decoder into a smaller one of its family; an interrupted run resumes with the same bits.

    Args:
        teacher: a folder or a Hub name.
        dtype: the teacher's precision, "float32" or "bfloat16"; by default the fastest on this machine.
        cache: folder of the teacher's distributions or texts; by default found by fingerprint.
        record: further settings for `eyas.json`.

    Raises:
        EyasError: invalid input, raised before any training step.
    """
    _check_one_process()
    settings = replace(with_known_arguments(settings), recipe=str(settings.recipe or DEFAULT_RECIPE))
    check_settings(settings)
    recipe = make_recipe(str(settings.recipe), settings.recipe_options)
    model, tokenizer = load_seq2seq(teacher)
    opened = TextGenerator(model.requires_grad_(False), tokenizer)
    check_lengths(opened.model, settings.student.max_length)
    opened.max_length = min(opened.max_length, settings.student.max_length)
    dtype = dtype or fastest_dtype(opened.model.device)
    about = {"command": "distill", **(record or {}), **asdict(settings), "teacher": fingerprint(opened, dtype)}
    data = load_pairs(source, columns)
    set_seed(settings.seed)
    student = student_of(opened.model, settings.student)
    student.generation_config = copy.deepcopy(opened.model.generation_config)
    limit_length(opened.model, settings.student.max_length)  # it writes targets that the student can write
    asked = partial(_ask, recipe, student, opened, dtype, cache)
    return _train(student, tokenizer, data, out, settings, about, overwrite, callbacks, recipe, asked, {})


def _train(
    model: Any,
    tokenizer: Any,
    data: DatasetDict,
    out: str | Path,
    settings: FinetuneSettings | DistillSettings,
    about: dict[str, Any],
    overwrite: bool,
    callbacks: Sequence[TrainerCallback],
    recipe: Recipe,
    ask: Callable[[dict[str, EncodedPairs]], Any] | None,
    usual: dict[str, Any],
) -> Path:
    """Train `model` and write its folder.

    Args:
        ask: what the recipe reads of the teacher, for these pairs.
        usual: as for `arguments_for`.
    """
    most = settings.max_length if isinstance(settings, FinetuneSettings) else settings.student.max_length
    check_lengths(model, most)
    tokenizer.model_max_length = min(tokenizer.model_max_length, most)
    pairs = {name: EncodedPairs(data[name], tokenizer, most, most) for name in ("train", "validation")}
    about["data"] = [hashlib.sha256(pairs[name].ids.tobytes()).hexdigest() for name in pairs]
    output = OutputFolder(out, about, overwrite)
    if output.is_finished:
        return output.path
    with output as folder:
        teacher = ask(pairs) if ask else None
        arguments = arguments_for(settings, len(pairs["train"]), folder / WORK, **usual)
        limit_length(model, most)
        stopping = early_stopping(arguments, len(pairs["train"]), settings.patience, False)
        trainer = GenerationTrainer(
            model, arguments, pairs["train"], pairs["validation"], tokenizer, recipe, teacher, [*callbacks, *stopping]
        )
        trainer.train(resume_from_checkpoint=True)
        history = [{"stage": 0, **entry} for entry in trainer.state.log_history]
        sources = data["validation"].select_columns(["source"]).rename_column("source", "text")
        write_result(model.eval(), tokenizer, sources, history, folder)
    return output.path


def arguments_for(
    settings: FinetuneSettings | DistillSettings, rows: int, work: Path, steps: int = STUDENT_STEPS, **suited: Any
) -> DistillationArguments:
    """The training arguments.

    Args:
        rows: number of training pairs.
        work: folder of the checkpoints.
        steps: of a training whose length is not set.
        suited: defaults of this kind of training.
    """
    is_gru = isinstance(settings, DistillSettings) and settings.student.architecture == GRU
    suited |= GRU_ARGUMENTS if is_gru else fast_precision(settings.arguments)
    chosen = {**ARGUMENTS, **suited, **settings.arguments}
    arguments = DistillationArguments(output_dir=str(work), seed=settings.seed, **chosen)
    if not LENGTHS & settings.arguments.keys():
        arguments.num_train_epochs = passes_for(arguments, rows, steps, FEWEST_EPOCHS, MOST_EPOCHS)
    return arguments


def _ask(
    recipe: Recipe, student: Any, opened: TextGenerator, dtype: str, cache: Any, pairs: dict[str, EncodedPairs]
) -> Any:
    """What the recipe needs of the teacher; of its texts, they become the targets."""
    recipe.prepare(student, opened.model)
    if recipe.needs == "outputs":
        settings = {"beams": recipe.beams}
        for name, part in pairs.items():
            own = Path(cache) / name if cache else None
            part.targets = cached(opened, part, settings, dtype, own).texts(part.ids)
            part.lengths = np.array([len(ids) for ids in part.targets])
            cut = sum(ids[-1:] != [opened.model.config.eos_token_id] for ids in part.targets)
            if cut:
                logger.warning(
                    "%d of the %d texts that the teacher writes for %s reach the limit of %d tokens and have no end: "
                    "the student learns that too. Raise max_length (--max-length).",
                    cut, len(part), name, opened.model.generation_config.max_length - 1,
                )  # fmt: skip
        return None
    if recipe.needs == "distributions":
        return cached(opened, pairs["train"], {"top_k": recipe.top_k}, dtype, cache)
    return opened.model if recipe.needs == "live" else None


def check_settings(settings: DistillSettings) -> None:
    """Raise ModelError for a recipe or settings of other students."""
    recipe = make_recipe(str(settings.recipe or DEFAULT_RECIPE), settings.recipe_options)
    check_writer(settings)
    if settings.student.architecture == GRU and isinstance(recipe, FeatureAlignment):
        raise ModelError(f"The recipe {settings.recipe} compares layers, which a gru lacks: choose word-kd or imitkd.")


def _check_one_process() -> None:
    if processes.count() > 1:
        raise EyasError("Models that write are trained in one process. Run it without torchrun.")
