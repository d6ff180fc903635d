"""A teacher from a pretrained encoder."""

import logging
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from transformers import EarlyStoppingCallback, set_seed

from understudy.data.datasets import check_validation, data_fingerprint, label_names
from understudy.models.loading import MAX_LENGTH, load_encoder
from understudy.outputs import OutputFolder
from understudy.teachers.live import has_fast_bfloat16
from understudy.training.arguments import DistillationArguments
from understudy.training.folders import WORK, write_model_folder
from understudy.training.trainer import DistillationTrainer

logger = logging.getLogger("understudy")

# What suits a pretrained transformer (Devlin et al. 2019, appendix A.3), where students want more.
DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 32,
    "learning_rate": 5e-5,
    "weight_decay": 0.01,
    "warmup_steps": 0.1,
    "max_grad_norm": 1.0,
}


@dataclass(frozen=True)
class FinetuneSettings:
    """How a teacher is made.

    Args:
        arguments: fields of `DistillationArguments`; they win over the defaults.
        seed: for the new head, the order and dropout.
        patience: validations without a better accuracy after which training stops.
        max_length: tokens of a text that are read.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    patience: int = 2
    max_length: int = MAX_LENGTH


def finetune(
    model: str | Path,
    data: DatasetDict,
    out: str | Path,
    settings: FinetuneSettings | None = None,
    overwrite: bool = False,
    record: dict[str, Any] | None = None,
) -> Path:
    """Fine-tune a pretrained encoder: AdamW, linear warm-up and decay, the best checkpoint on validation.

    Continues where it was interrupted, like `distill`.

    Args:
        model: folder or Hub name of a pretrained encoder; its head is made anew.
        data: as from `load_data`.

    Returns:
        `out`, a Hugging Face model folder.
    """
    settings = settings or FinetuneSettings()
    check_validation(data)
    described = {
        **asdict(settings),
        "data": [data_fingerprint(data[name]) for name in ("train", "validation")],
        "labels": label_names(data),
    }
    output = OutputFolder(out, {"command": "finetune", "model": str(model), **(record or {}), **described}, overwrite)
    if output.is_finished:
        logger.info("%s is there already, made with the same settings.", out)
        return output.path
    names = label_names(data)
    with output as folder:
        set_seed(settings.seed)
        encoder, tokenizer = load_encoder(
            model,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: index for index, name in enumerate(names)},
        )
        tokenizer.model_max_length = min(tokenizer.model_max_length, settings.max_length)
        arguments = {**DEFAULTS, "bf16": has_fast_bfloat16(encoder.device), **settings.arguments}
        trainer = DistillationTrainer(
            model=encoder,
            processing_class=tokenizer,
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            max_length=settings.max_length,
            args=DistillationArguments(output_dir=str(folder / WORK), seed=settings.seed, **arguments),
            callbacks=[EarlyStoppingCallback(settings.patience)],
        )
        trainer.train(resume_from_checkpoint=True)
        write_model_folder(encoder, tokenizer, data["validation"], folder)
        shutil.rmtree(folder / WORK)  # the checkpoints
    return output.path
