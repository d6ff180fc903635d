"""Train models that write texts: teachers, and students of them."""

import copy
import hashlib
import json
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import TrainerCallback, set_seed

from eyas import processes
from eyas.errors import EyasError, ModelError
from eyas.generation.data import EncodedPairs, load_pairs
from eyas.generation.models import TextGenerator, check_lengths, from_scratch, limit_length, scratch_sizes, student_of
from eyas.generation.recipes import HardLabels, Recipe, make_recipe
from eyas.generation.teachers import cached, fingerprint
from eyas.generation.trainer import GenerationTrainer
from eyas.models.loading import load_seq2seq
from eyas.outputs import OutputFolder
from eyas.settings import Columns, DistillSettings, FinetuneSettings, StudentSettings, TransferSettings
from eyas.teachers.live import fastest_dtype
from eyas.training.arguments import DistillationArguments, fast_precision, steps_of_a_pass
from eyas.training.callbacks import early_stopping
from eyas.training.finetune import learning_rate
from eyas.training.folders import SAMPLE_FILE, SAMPLE_ROWS, WORK, write_history
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
# Steps of a training whose length is not set, within these bounds on epochs.
PRETRAINED_STEPS, STUDENT_STEPS, SCRATCH_STEPS = 1000, 4000, 8000
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
            `marian:layers=6,hidden_size=256,vocab_size=8000`.
        record: further settings for `eyas.json`.

    Raises:
        EyasError: invalid input, raised before any training step.
    """
    _check_one_process()
    sizes = scratch_sizes(model)
    data = load_pairs(source, columns)
    if sizes is None:
        started, tokenizer = load_seq2seq(model)
        weights: Any = fingerprint(TextGenerator(started, tokenizer), "")
        suited = {"learning_rate": learning_rate(started.config.hidden_size)}
        length = PRETRAINED_STEPS
    else:
        set_seed(settings.seed)
        texts = [*data["train"]["source"], *data["train"]["target"]]
        started, tokenizer = from_scratch(*sizes, texts, settings.max_length)
        weights, suited, length = asdict(sizes[1]), {"label_smoothing_factor": 0.1}, SCRATCH_STEPS
    about = {"command": "finetune", "model": model, "model_files": weights, **(record or {}), **asdict(settings)}
    return _train(started, tokenizer, data, out, settings, suited, length, about, overwrite, callbacks)


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
    settings = replace(settings, recipe=str(settings.recipe or DEFAULT_RECIPE))
    recipe = make_recipe(str(settings.recipe), settings.recipe_options)
    _check_settings(settings)
    model, tokenizer = load_seq2seq(teacher)
    opened = TextGenerator(model.requires_grad_(False), tokenizer)
    opened.max_length = min(opened.max_length, settings.student.max_length)
    dtype = dtype or fastest_dtype(opened.model.device)
    about = {"command": "distill", **(record or {}), **asdict(settings), "teacher": fingerprint(opened, dtype)}
    data = load_pairs(source, columns)
    set_seed(settings.seed)
    student = student_of(opened.model, settings.student)
    student.generation_config = copy.deepcopy(opened.model.generation_config)
    limit_length(opened.model, settings.student.max_length)  # it writes targets that the student can write
    asked = (opened, dtype, cache)
    return _train(
        student, tokenizer, data, out, settings, {}, STUDENT_STEPS, about, overwrite, callbacks, recipe, asked
    )


def _train(
    model: Any,
    tokenizer: Any,
    data: DatasetDict,
    out: str | Path,
    settings: FinetuneSettings | DistillSettings,
    suited: dict[str, Any],
    length: int,
    about: dict[str, Any],
    overwrite: bool,
    callbacks: Sequence[TrainerCallback],
    recipe: Recipe | None = None,
    asked: tuple[TextGenerator, str, Any] | None = None,
) -> Path:
    """Train `model` and write its folder.

    Args:
        suited: arguments of this kind of training, `length`: its steps by default.
        asked: the teacher, its precision and its cache.
    """
    most = settings.max_length if isinstance(settings, FinetuneSettings) else settings.student.max_length
    check_lengths(model, most)
    pairs = {name: EncodedPairs(data[name], tokenizer, most, most) for name in ("train", "validation")}
    about["data"] = [hashlib.sha256(pairs[name].ids.tobytes()).hexdigest() for name in pairs]
    output = OutputFolder(out, about, overwrite)
    if output.is_finished:
        logger.info("%s already exists, made with the same settings.", out)
        return output.path
    with output as folder:
        recipe, teacher = recipe or HardLabels(), None
        if asked is not None:
            teacher = _ask(recipe, model, pairs, *asked)
        chosen = {**ARGUMENTS, **suited, **fast_precision(settings.arguments), **settings.arguments}
        arguments = DistillationArguments(output_dir=str(folder / WORK), seed=settings.seed, **chosen)
        if not {"num_train_epochs", "max_steps"} & settings.arguments.keys():
            passes = math.ceil(length / steps_of_a_pass(arguments, len(pairs["train"])))
            arguments.num_train_epochs = min(max(passes, FEWEST_EPOCHS), MOST_EPOCHS)
        limit_length(model, most)
        stopping = early_stopping(arguments, len(pairs["train"]), settings.patience, False)
        trainer = GenerationTrainer(
            model, arguments, pairs["train"], pairs["validation"], tokenizer, recipe, teacher, [*callbacks, *stopping]
        )
        trainer.train()
        model.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _write_sample(data["validation"], folder)
        write_history([{"stage": 0, **entry} for entry in trainer.state.log_history], folder)
        shutil.rmtree(folder / WORK, ignore_errors=True)
    return output.path


def _ask(
    recipe: Recipe, student: Any, pairs: dict[str, EncodedPairs], opened: TextGenerator, dtype: str, cache: Any
) -> Any:
    """What the recipe needs of the teacher; of its texts, they become the targets."""
    recipe.prepare(student, opened.model)
    if recipe.needs == "outputs":
        settings = {"beams": recipe.beams}
        for name, part in pairs.items():
            own = Path(cache) / name if cache else None
            written = cached(opened, part, settings, dtype, own)
            part.targets = [written.words(example)[:, 0].tolist() for example in part.ids.tolist()]
            part.lengths = np.array([len(ids) for ids in part.targets])
        return None
    if recipe.needs == "distributions":
        return cached(opened, pairs["train"], {"top_k": recipe.top_k}, dtype, cache)
    return opened.model if recipe.needs == "live" else None


def _check_settings(settings: DistillSettings) -> None:
    """Raise ModelError for settings of other students."""
    student, usual = settings.student, StudentSettings()
    own = {"architecture", "layers", "decoder_layers", "hidden_size", "heads", "feed_forward", "init", "max_length"}
    wrong = [name for name, value in asdict(student).items() if value != getattr(usual, name)]
    wrong = [name for name in wrong if name not in own or (name == "architecture")]
    wrong += ["transfer"] if settings.transfer not in (TransferSettings(), TransferSettings(augment=())) else []
    wrong += [name for name in ("live", "label_map") if getattr(settings, name)]
    if wrong:
        raise ModelError(
            f"{wrong[0]} is set, but a student that writes is a smaller model of its teacher's family: only layers, "
            "decoder_layers, hidden_size, heads, feed_forward, init and max_length (--layers ...) are its settings. "
            "Leave it out."
        )


def _check_one_process() -> None:
    if processes.count() > 1:
        raise EyasError("Models that write are trained in one process. Run it without torchrun.")


def _write_sample(validation: Dataset, folder: Path) -> None:
    rows = np.linspace(0, len(validation) - 1, min(SAMPLE_ROWS, len(validation))).astype(int)
    texts = (json.dumps({"text": row["source"]}, ensure_ascii=False) for row in validation.select(rows))
    (folder / SAMPLE_FILE).write_text("".join(f"{line}\n" for line in texts))
