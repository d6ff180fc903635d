"""Fine-tune several encoders at once under one head."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback, set_seed

from eyas import processes
from eyas.data.task_data import TaskData
from eyas.encoders import find_encoder
from eyas.errors import ModelError
from eyas.models import is_student
from eyas.models.loading import load_encoder
from eyas.models.shared_head import SharedHead
from eyas.outputs import OutputFolder
from eyas.settings import FinetuneSettings
from eyas.training.arguments import with_known_arguments
from eyas.training.callbacks import early_stopping
from eyas.training.encoded import encoded_for
from eyas.training.finetune import arguments_for
from eyas.training.folders import WORK, write_history, write_model_folder
from eyas.training.trainer import DistillationTrainer
from eyas.transfer.augmentation import identity
from eyas.verbosity import without_bars


def names_of(models: Sequence[str | Path]) -> dict[str, str]:
    """The models by their names, or those of their folders.

    Raises:
        ModelError: fewer than two models, or two of one name.
    """
    names = [Path(model).resolve().name for model in models]
    if len(names) < 2:
        raise ModelError("A shared head needs several models (--model), each given once.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ModelError(f"Two models are called {twice} (--model), and each gets a folder of its name. Rename one.")
    return dict(zip(names, map(str, models), strict=True))


@without_bars()
def finetune_together(
    models: Sequence[str | Path],
    data: TaskData,
    out: str | Path,
    settings: FinetuneSettings | None = None,
    overwrite: bool = False,
    record: dict[str, Any] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Path]:
    """Fine-tune encoders under one pooling and output layer (MT-BERT, Wu et al. 2021, section 3.2).

    Each batch is read by one of them. The mean of their scores on validation chooses the checkpoint.

    Args:
        models: folders or Hub names of encoders of one family and hidden size.
        data: as from `load_data`.
        out: gets a folder for each, of its name.
        callbacks: as in transformers.

    Returns:
        The folder of each teacher, an ordinary Hugging Face model, by its name.

    Raises:
        ModelError: other sizes, fewer than two models, or two of one name.
    """
    settings, named = with_known_arguments(settings or FinetuneSettings()), names_of(models)
    data.check_validation()
    described = {
        **processes.recorded(),
        **asdict(settings),
        "data": [data.fingerprint(name) for name in ("train", "validation")],
        "labels": data.labels,
        "models": {name: identity(find_encoder(model)) for name, model in named.items()},
    }
    output = OutputFolder(out, {"command": "finetune", **(record or {}), **described}, overwrite)
    folders = {name: output.path / name for name in named}
    if output.is_finished:
        return folders
    with output as folder:
        set_seed(settings.seed)
        loaded = {name: load_encoder(model, data.task, data.is_pair) for name, model in named.items()}
        for name, (model, tokenizer) in loaded.items():
            if is_student(model):
                raise ModelError(f"{name} is a student (--model): a head is shared by pretrained transformers.")
            tokenizer.model_max_length = min(tokenizer.model_max_length, settings.max_length)
        shared = SharedHead({name: model for name, (model, _) in loaded.items()})
        texts = {
            split: {
                name: encoded_for(model, tokenizer, data[split], settings.max_length, training=split == "train")
                for name, (model, tokenizer) in loaded.items()
            }
            for split in ("train", "validation")
        }
        rows = len(data["train"]) * len(loaded)
        training, may_stop = arguments_for(shared, settings, rows, folder / WORK)
        tokenizers = [tokenizer for _, tokenizer in loaded.values()]
        trainer = DistillationTrainer(
            shared,
            training,
            train_dataset=texts["train"],
            eval_dataset=texts["validation"],
            processing_class=tokenizers[0],
            max_length=settings.max_length,
            callbacks=[*callbacks, *early_stopping(training, rows, settings.patience, may_stop)],
        )
        trainer.train(resume_from_checkpoint=True)
        PartialState().wait_for_everyone()
        if processes.is_first():
            for name, (model, tokenizer) in loaded.items():
                write_model_folder(model, tokenizer, data["validation"], folder / name)
            write_history([{"stage": 0, **entry} for entry in trainer.state.log_history], folder)
            shutil.rmtree(folder / WORK)
    return folders
