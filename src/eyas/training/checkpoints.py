"""What all our trainers share: atomic checkpoints, resuming, progress, batches of similar lengths.

Checkpoints are written to a staging folder, synced, listed in a manifest, then renamed.
"""

import hashlib
import json
import logging
import math
import os
import shutil
from pathlib import Path
from typing import Any, cast

from torch import nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput, rotate_checkpoints

from eyas.errors import EyasError
from eyas.outputs import write_atomically
from eyas.training.callbacks import ProgressCallback

logger = logging.getLogger("eyas")

MANIFEST, TRAINER_STATE = "manifest.json", "trainer_state.json"


class ResumableTrainer(Trainer):
    """A trainer with atomic checkpoints, from which it resumes, and with its own batches.

    Of several processes, each writes its part of a checkpoint, and the first publishes them.
    """

    _staging: str | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.remove_callback(PrinterCallback)
        # Our losses are means over the batch, whatever the model's forward accepts.
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **options: Any) -> Any:
        """Train; `True` resumes from the newest intact checkpoint in `output_dir`, if there is one."""
        if resume_from_checkpoint is True:
            found = newest_whole(Path(str(self.args.output_dir)))
            if found is not None:
                logger.info("Resuming from %s.", found.name)
            resume_from_checkpoint = None if found is None else str(found)
        try:
            if resume_from_checkpoint:
                checkpoint = Path(str(resume_from_checkpoint))
                if self.is_world_process_zero():
                    relocate(checkpoint)
                self.accelerator.wait_for_everyone()
                if has_ended(checkpoint, self._planned_steps()):
                    return self._finish(checkpoint)
            return super().train(resume_from_checkpoint, *args, **options)
        finally:
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, ProgressCallback):
                    callback.close()

    def _planned_steps(self) -> int:
        """Steps of the whole training by its arguments."""
        updates = math.ceil(len(self.train_batches()) / self.args.gradient_accumulation_steps)
        return self.args.max_steps if self.args.max_steps > 0 else math.ceil(updates * self.args.num_train_epochs)

    def _finish(self, checkpoint: Path) -> TrainOutput:
        """Load what a training that ended at this checkpoint has made."""
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE))
        best = self.state.best_model_checkpoint
        if not self.args.load_best_model_at_end or best is None:
            self._load_from_checkpoint(str(checkpoint))
            return TrainOutput(self.state.global_step, 0.0, {})
        if not Path(best).is_dir():
            raise EyasError(
                f"{best}, the best checkpoint of this training, is missing. Put it back, or train anew with "
                "overwrite=True (--overwrite)."
            )
        self._load_best_model()
        return TrainOutput(self.state.global_step, 0.0, {})

    def train_batches(self) -> Any:
        """The batch sampler."""
        raise NotImplementedError

    def get_train_dataloader(self) -> DataLoader[Any]:
        loader: DataLoader[Any] = DataLoader(
            cast(Any, self.train_dataset),
            batch_sampler=self.train_batches(),
            collate_fn=cast(Any, self.data_collator),
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return cast(DataLoader[Any], self.accelerator.prepare(loader))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # transformers would walk over all parameters in every step

    def _get_output_dir(self, trial: Any) -> str:
        return self._staging or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(super()._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staging = folder / ".staging"
        if self.is_world_process_zero():
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(folder / name)
        self._staging = str(staging)
        try:
            super()._save_checkpoint(model, trial)
            if self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(folder / name)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                self.state.save_to_json(str(staging / name / TRAINER_STATE))
                publish(staging / name, folder / name)
        except Exception as error:
            if _is_full_disk(error):
                raise EyasError(
                    f"No space left on the disk of {folder}. The last checkpoint is intact: free some space and run "
                    "the same command again to resume."
                ) from error
            raise
        finally:
            self._staging = None
            if self.is_world_process_zero():
                shutil.rmtree(staging, ignore_errors=True)
        if self.is_world_process_zero():
            rotate_checkpoints(
                output_dir=str(folder),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=False,
            )
        self.accelerator.wait_for_everyone()


def relocate(checkpoint: Path) -> None:
    """Name the best checkpoint by its place beside this one, if it is there: a run may be moved, then resumed."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE))
    if state.best_model_checkpoint is None:
        return
    beside = str(checkpoint.parent / Path(state.best_model_checkpoint).name)
    if beside != state.best_model_checkpoint and Path(beside).is_dir():
        state.best_model_checkpoint = beside
        state.save_to_json(str(checkpoint / TRAINER_STATE))
        _write_manifest(checkpoint)


def publish(staged: Path, final: Path) -> None:
    """Sync the files in `staged`, write their manifest, and rename the folder to `final`."""
    _write_manifest(staged)
    if final.exists():
        shutil.rmtree(final)
    os.replace(staged, final)
    _sync_folder(final.parent)


def _write_manifest(staged: Path) -> None:
    """Sync the files of a checkpoint, and write their checksums."""
    checksums = {}
    for path in sorted(p for p in staged.rglob("*") if p.is_file() and p.name != MANIFEST):
        with open(path, "rb") as file:
            checksums[str(path.relative_to(staged))] = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    write_atomically(staged / MANIFEST, json.dumps(checksums, indent=2))


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint in `folder` whose files match its manifest; others are skipped with a warning."""
    numbered = {
        int(path.name.rsplit("-", 1)[1]): path
        for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.name.rsplit("-", 1)[1].isdigit()
    }
    for _, path in sorted(numbered.items(), reverse=True):
        problem = _problem(path)
        if problem is None:
            return path
        logger.warning("Skipping checkpoint %s: %s.", path, problem)
    return None


def has_ended(checkpoint: Path, planned: int) -> bool:
    """Whether a training of so many steps ended at this checkpoint: with its last step, or by early stopping."""
    whole = json.loads((checkpoint / TRAINER_STATE).read_text())
    if planned > whole["max_steps"]:  # it is to be longer
        return False
    if whole["global_step"] >= whole["max_steps"] > 0:
        return True
    state = whole["stateful_callbacks"].get("EarlyStoppingCallback")
    if not isinstance(state, dict):
        return False
    waited = state["attributes"]["early_stopping_patience_counter"]
    return bool(waited >= state["args"]["early_stopping_patience"])


def _problem(checkpoint: Path) -> str | None:
    try:
        checksums = json.loads((checkpoint / MANIFEST).read_text())
    except (OSError, ValueError):
        return f"its {MANIFEST} is missing or broken"
    for name, expected in checksums.items():
        try:
            with open(checkpoint / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return f"{name} is missing"
        if found != expected:
            return f"{name} is damaged"
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_full_disk(error: BaseException | None) -> bool:
    while error is not None:
        if getattr(error, "errno", None) in (27, 28, 122) or "No space left" in str(error):
            return True
        if "PytorchStreamWriter failed" in str(error) or "unexpected pos" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
