"""Fine-tune a pretrained encoder into a teacher."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, set_seed

from eyas import processes
from eyas.data.datasets import labeled_rows
from eyas.data.task_data import TaskData
from eyas.encoders import find_encoder
from eyas.models import is_student
from eyas.models.loading import load_encoder
from eyas.outputs import OutputFolder
from eyas.settings import FIELD_MODELS, FinetuneSettings, StudentSettings
from eyas.training.arguments import (
    DistillationArguments,
    fast_precision,
    passes_for,
    shared_batches,
    with_known_arguments,
)
from eyas.training.callbacks import early_stopping
from eyas.training.domains import MetaLesson
from eyas.training.folders import WORK, write_result
from eyas.training.student_checks import check_student
from eyas.training.students import create_student
from eyas.training.trainer import DistillationTrainer
from eyas.transfer.augmentation import identity
from eyas.verbosity import without_bars

logger = logging.getLogger("eyas")

# Default length of a training: about STEPS steps, within these bounds on epochs.
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 1000, 3, 20
# Defaults for pretrained transformers (Devlin et al. 2019, appendix A.3).
DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 32,
    "weight_decay": 0.01,
    "warmup_steps": 0.1,
    "max_grad_norm": 1.0,
}
# The learning rate for the width of BERT-base. Narrower encoders need a higher one (docs/decisions/0024), up to the
# highest that Turc et al. 2019 try for small models.
LEARNING_RATE, WIDTH, HIGHEST = 5e-5, 768, 3e-4
# An encoder whose chance-corrected score on validation stays below NOTHING has learned nothing: a failed run, as
# Mosbach et al. 2021 (arXiv 2006.04884) call those at the score of the largest class. It starts again, SLOWER.
NOTHING, SLOWER = 0.05, 0.25


def learning_rate(hidden_size: int) -> float:
    """The default for an encoder: inversely proportional to the square of its hidden size, below that of BERT-base."""
    return min(LEARNING_RATE * max(WIDTH / hidden_size, 1.0) ** 2, HIGHEST)


def learned_nothing(trainer: Any) -> bool:
    """Whether the best validation score of a training is about that of chance; the chance-corrected one if there is."""
    scores = [e.get("eval_matthews", e["eval_score"]) for e in trainer.state.log_history if "eval_score" in e]
    return bool(scores) and max(scores) < NOTHING


def arguments_for(model: Any, settings: FinetuneSettings, rows: int, out: Path) -> tuple[DistillationArguments, bool]:
    """The training arguments, and whether training may stop early: unless its length is given.

    Args:
        rows: number of training texts.
        out: folder of the checkpoints.
    """
    suited: dict[str, Any] = {}
    if not is_student(model):
        rate = learning_rate(getattr(model.config, "hidden_size", WIDTH))
        suited = {**DEFAULTS, "learning_rate": rate, **fast_precision(settings.arguments)}
    arguments = {**suited, **settings.arguments}
    arguments |= shared_batches(arguments)
    training = DistillationArguments(output_dir=str(out), seed=settings.seed, **arguments)
    may_stop = not {"num_train_epochs", "max_steps"} & arguments.keys()
    if may_stop:
        training.num_train_epochs = passes_for(training, rows, STEPS, FEWEST_EPOCHS, MOST_EPOCHS)
    return training, may_stop


@without_bars()
def finetune(
    model: str | Path,
    data: TaskData,
    out: str | Path,
    settings: FinetuneSettings | None = None,
    overwrite: bool = False,
    record: dict[str, Any] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    request: dict[str, Any] | None = None,
    domains: Mapping[str, TaskData] | None = None,
) -> Path:
    """Fine-tune a pretrained encoder: AdamW, linear warm-up and decay, the best checkpoint on validation.

    An interrupted run resumes, as with `distill`.

    Args:
        model: folder or Hub name of a pretrained encoder, which gets a new head; for rows of fields one of
            `FIELD_MODELS`, which is new.
        data: as from `load_data`.
        callbacks: as in transformers.
        request: as for `OutputFolder`.
        domains: of which `data` is joined, for a meta-teacher (Meta-KD): its training texts are weighted by their
            prototype scores, and `MetaTeacher` reads what is written beside the weights.

    Returns:
        `out`, a Hugging Face model folder.
    """
    settings = with_known_arguments(settings or FinetuneSettings())
    data.check_validation()
    is_new = str(model) in FIELD_MODELS
    if is_new:
        check_student(StudentSettings(str(model)), data.task)
    shared_batches({**DEFAULTS, **settings.arguments})
    described = {
        **processes.recorded(),
        **asdict(settings),
        "data": [data.fingerprint(name) for name in ("train", "validation")],
        "labels": data.labels,
        "model_files": [] if is_new else identity(find_encoder(str(model))),
        **({"domains": {name: part.fingerprint("train") for name, part in domains.items()}} if domains else {}),
    }
    output = OutputFolder(
        out, {"command": "finetune", "model": str(model), **(record or {}), **described}, overwrite, request=request
    )
    if output.is_finished:
        return output.path
    with output as folder:
        # The loss of a meta-teacher knows texts without a label.
        rows = data["train"] if domains else labeled_rows(data["train"])

        def train(work: Path, speed: float) -> tuple[Any, Any, DistillationTrainer, MetaLesson | None]:
            set_seed(settings.seed)
            meta = MetaLesson(model, domains, settings.max_length) if domains else None
            set_seed(settings.seed)
            encoder, tokenizer = (
                create_student(str(model), None, data["train"])
                if is_new
                else load_encoder(model, data.task, data.is_pair)
            )
            if not is_student(encoder):
                tokenizer.model_max_length = min(tokenizer.model_max_length, settings.max_length)
            training, may_stop = arguments_for(encoder, settings, len(rows), work)
            training.learning_rate *= speed
            trainer = DistillationTrainer(
                encoder,
                training,
                train_dataset=rows,
                eval_dataset=data["validation"],
                processing_class=tokenizer,
                max_length=settings.max_length,
                losses=meta.losses if meta else None,
                teacher=meta.teacher if meta else None,
                callbacks=[*callbacks, *early_stopping(training, len(rows), settings.patience, may_stop)],
            )
            trainer.train(resume_from_checkpoint=True)
            return encoder, tokenizer, trainer, meta

        slower = folder / WORK / "slower"
        begun = slower.exists()  # by a call that was interrupted
        encoder, tokenizer, trainer, meta = train(slower, SLOWER) if begun else train(folder / WORK, 1.0)
        fixed = is_new or is_student(encoder) or "learning_rate" in settings.arguments
        if not (begun or fixed) and learned_nothing(trainer):
            rate = trainer.args.learning_rate
            logger.warning(
                "%s learned nothing at a learning rate of %.2g: it does not beat chance on validation. It starts again "
                "at %.2g. To set the rate, give learning_rate (--learning-rate).",
                model, rate, rate * SLOWER,
            )  # fmt: skip
            slower.mkdir(parents=True, exist_ok=True)
            encoder, tokenizer, trainer, meta = train(slower, SLOWER)
        history = [{"stage": 0, **entry} for entry in trainer.state.log_history]
        if meta and processes.is_first():
            meta.write(folder)
        write_result(encoder, tokenizer, data["validation"], history, folder)
    return output.path
