"""The one trainer: `transformers.Trainer` with a teacher, a list of losses, and checkpoints that hold."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from eyas.data.datasets import is_pair
from eyas.data.labels import ordered_names
from eyas.errors import EyasError
from eyas.evaluation.metrics import task_metrics
from eyas.losses import HardLabelLoss, Loss
from eyas.models import is_student
from eyas.models.inside import run
from eyas.models.loading import input_length
from eyas.models.objective import task_loss
from eyas.models.tokens import go_on
from eyas.settings import MAX_LENGTH
from eyas.teachers import AlignedTeacher, Teacher, aligned_by_name
from eyas.teachers.aligned import Teaches
from eyas.training.arguments import DistillationArguments
from eyas.training.callbacks import ProgressCallback
from eyas.training.checkpoints import newest_whole, publish
from eyas.training.checks import (
    check_blended_fields,
    check_fields,
    check_same_tokens,
    prepare_losses,
    without_ends,
)
from eyas.training.encoded import EncodedTexts, LengthGroupedSampler, already_batched, encoded_for
from eyas.training.folders import write_model_folder
from eyas.training.optimizer import LazyAdamW, clip_gradients, set_sparse_embeddings, sparse_parameters
from eyas.training.terms import Term, TermMeans, numbered
from eyas.transfer.blending import Blend, check_blend

logger = logging.getLogger("eyas")

MEMBER_LOGITS = "member_logits"
# The name under which the student carries, while it learns, losses that learn or remember something.
LOSSES = "losses"
MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class DistillationTrainer(Trainer):
    """Trains a student on the weighted sum of `losses`.

    Args:
        model: the student.
        args: settings; see `DistillationArguments`.
        train_dataset: as from `load_data`; rows with label -1 are unlabelled.
        eval_dataset: what the student is scored on, of the same form.
        processing_class: the student's tokenizer.
        losses: the terms of the objective; by default the hard labels alone.
        teacher: live or cached; may be left out when no loss reads it. Its labels are matched by name; where that is
            not enough, an `AlignedTeacher` says which is which.
        callbacks: as in transformers.
        max_length: tokens of a text that are read; a student has its own number.
        blend: makes of each batch what the student reads; see `eyas.transfer.blending`.

    Raises:
        ModelError: a loss needs what student or teacher can't give; says which.
        LabelError: student and teacher have labels of different names, and the teacher is not aligned.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments | None = None,
        *,
        train_dataset: Dataset | EncodedTexts,
        eval_dataset: Dataset | EncodedTexts | None = None,
        processing_class: Any,
        losses: Sequence[Loss] | None = None,
        teacher: Teaches | AlignedTeacher | None = None,
        callbacks: list[TrainerCallback] | None = None,
        max_length: int = MAX_LENGTH,
        blend: Blend | None = None,
    ) -> None:
        self.losses = list(losses) if losses is not None else [HardLabelLoss()]
        names = ordered_names(model.config.id2label or {})
        self.teacher = None if teacher is None else aligned_by_name(teacher, names)
        source = None if self.teacher is None else self.teacher.teacher
        self.teacher_fields = _needed(self.losses, "teacher_fields")
        self.student_fields = _needed(self.losses, "student_fields")
        check_fields(self.teacher_fields, self.losses, source)
        length = input_length(model, processing_class, max_length)
        encoded = encoded_for(model, processing_class, train_dataset, max_length, training=True)
        validation = None
        if eval_dataset is not None:
            validation = encoded_for(model, processing_class, eval_dataset, max_length)
        self.validation = None if validation is None else validation.dataset
        self.task = encoded.task
        prepare_losses(self.losses, model, source, self.task)
        learning = [loss for loss in self.losses if loss.state_dict()]
        if learning:  # optimized and checkpointed with the student, until the training ends
            model.add_module(LOSSES, nn.ModuleList(learning))
        self.terms = TermMeans()
        self.blend = blend
        if blend is not None:
            check_blend(self.task, is_pair(encoded.dataset))
            check_blended_fields(self.student_fields | self.teacher_fields)
        if args is not None and args.remove_unused_columns:
            args = replace(args, remove_unused_columns=False)  # True would drop example_id
        reads = (
            *(self.teacher.reads if self.teacher is not None and self.teacher_fields else ()),
            *(blend.reads if blend else ()),
        )
        if self.teacher is not None and isinstance(source, Teacher) and self.teacher_fields - {"logits"}:
            # Layers are compared token by token.
            self.teacher = AlignedTeacher(source.reading(length), self.teacher.order)
        super().__init__(
            model=model,
            args=args or DistillationArguments(),
            data_collator=cast(Any, already_batched),
            train_dataset=encoded.handing(_texts(reads)),
            eval_dataset=validation,
            processing_class=processing_class,
            compute_metrics=self._score,
            callbacks=[*(callbacks or []), ProgressCallback(self.task.metric)],
        )
        self.remove_callback(PrinterCallback)
        if isinstance(source, Teacher):
            cast(Any, source.model).to(self.args.device)
        # Our losses are means over the batch, whatever the model's forward accepts.
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False

    # --- the objective -----------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The weighted sum of the losses in training; outside it the plain task loss, without the teacher."""
        student_inputs = {name: inputs[name] for name in MODEL_INPUTS if name in inputs}
        if not model.training:
            outputs = model(**student_inputs)
            loss = task_loss(self.task, outputs.logits, inputs["labels"])
            outputs = {"loss": loss, "logits": outputs.logits}
            return (loss, outputs) if return_outputs else loss
        if self._has_crf:
            student_inputs["labels"] = inputs["labels"]
        batch = {**inputs, "task": self.task}
        teacher = {} if self.blend is not None and self.blend.brings_teacher else self._ask_teacher(inputs)
        parts: list[Any] = [(1.0, teacher, batch)]
        if self.blend is not None:
            student_inputs, parts = self.blend(batch, teacher, cast(Any, self.model).get_input_embeddings())
        student = run(model, student_inputs, self.student_fields, create_graph=True)
        terms: dict[str, Any] = {}
        for share, *fields in parts:
            for name, value in numbered(self._objective(student, *fields)):
                terms[name] = terms.get(name, 0.0) + share * value
        self.terms.add(terms)
        total = sum(terms.values())
        return (total, student) if return_outputs else total

    def _objective(self, student: Any, teacher: dict[str, Any], batch: dict[str, Any]) -> list[Term]:
        """The losses' terms."""
        student, teacher, batch = self._fields(student, teacher, batch)
        progress = self.state.global_step / max(self.state.max_steps, 1)
        members = student.get(MEMBER_LOGITS)
        each = [student] if members is None else [{**student, "logits": logits} for logits in members]
        terms: list[Term] = []
        for loss in self.losses:
            # An ensemble's members are taught one by one; only losses between them see all at once.
            taught = [student] if MEMBER_LOGITS in loss.student_fields else each
            of_each = [loss.terms(one, teacher, batch, progress) for one in taught]
            terms += [(one[0][0], sum(value for _, value in one) / len(taught)) for one in zip(*of_each, strict=True)]
        return terms

    def log(self, logs: dict[str, float], *args: Any, **options: Any) -> None:
        """Beside the loss its terms, weighted: `loss/DISTLoss` and so on."""
        super().log({**logs, **self.terms.take()} if "loss" in logs else logs, *args, **options)

    @property
    def _has_crf(self) -> bool:
        return bool(getattr(cast(Any, self.model).config, "crf", False))

    def _fields(self, student: Any, teacher: dict[str, Any], batch: dict[str, Any]) -> tuple[Any, Any, Any]:
        """What the losses see: in tagging, a row is a word that is read, wherever its sentence stands."""
        if not self.task.is_tagging:
            return student, teacher, batch
        read = batch["words"] >= 0
        sequence = {"sequence_loss": student.get("loss")} if self._has_crf and (batch["labels"] >= 0).any() else {}
        student = {**student, "logits": student["logits"][read], **sequence}
        if "logits" in teacher:
            counts = batch["word_counts"]
            rows = (counts.cumsum(0) - counts).unsqueeze(1) + batch["words"]
            logits = teacher["logits"][rows[read]]
            logits = torch.where(batch["inner"][read].unsqueeze(1), go_on(logits, self.task.labels), logits)
            teacher = {**teacher, "logits": logits}
        return student, teacher, {**batch, "labels": batch["labels"][read], "posteriors": self._has_crf}

    def _score(self, prediction: EvalPrediction) -> dict[str, float]:
        """The task's metrics, and as `score` the one that chooses."""
        logits, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        lengths = None
        if self.task.is_tagging:
            read = labels != -100
            logits, labels, lengths = logits[read], labels[read], read.sum(1)
        scores = task_metrics(self.task, logits, labels, lengths)
        return {**scores, "score": scores[self.task.metric]}

    def _ask_teacher(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if self.teacher is None or not self.teacher_fields:
            return {}
        outputs = self.teacher.outputs(inputs, self.teacher_fields)
        if "attention_mask" in outputs:
            if is_student(cast(nn.Module, self.model)):
                outputs = without_ends(outputs, inputs["attention_mask"])
            else:
                check_same_tokens(inputs["attention_mask"], outputs["attention_mask"])
        return {name: _to_device(value, self.args.device) for name, value in outputs.items()}

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> Any:
        known = {name: value for name, value in inputs.items() if name in (*MODEL_INPUTS, "labels")}
        return super().prediction_step(model, known, prediction_loss_only, ignore_keys)

    # --- speed: what a step of a tiny student should not pay for -------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedSampler:
        assert isinstance(self.train_dataset, EncodedTexts)
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        return LengthGroupedSampler(self.train_dataset.lengths, self.args.train_batch_size, seed)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None and self.model is not None and sparse_parameters(self.model):
            self.optimizer = LazyAdamW(self.model, self.args.learning_rate, self.args.weight_decay)
            return self.optimizer
        return super().create_optimizer(model)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        if sparse_parameters(model):
            return clip_gradients(model, self.args.max_grad_norm)
        return super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # transformers would walk over all parameters in every step

    # --- checkpoints ---------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **options: Any) -> Any:
        """Train; `True` goes on from the newest whole checkpoint in `output_dir`, if there is one."""
        if resume_from_checkpoint is True:
            found = newest_whole(Path(str(self.args.output_dir)))
            if found is not None:
                logger.info("Going on from %s.", found.name)
            resume_from_checkpoint = None if found is None else str(found)
        model = cast(nn.Module, self.model)
        lazy = is_student(model) and self.args.device.type == "cpu" and self.args.world_size == 1
        try:
            set_sparse_embeddings(model, lazy)
            return super().train(resume_from_checkpoint, *args, **options)
        finally:
            set_sparse_embeddings(model, False)
            if hasattr(model, LOSSES):
                delattr(model, LOSSES)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write model, tokenizer and, for parity checks, a sample of the validation texts."""
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        assert isinstance(self.model, PreTrainedModel)
        write_model_folder(self.model, self.processing_class, None if _internal_call else self.validation, folder)

    def _get_output_dir(self, trial: Any) -> str:
        return self._staging or super()._get_output_dir(trial)

    _staging: str | None = None

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(super()._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.world_size > 1:
            super()._save_checkpoint(model, trial)
            return
        staging = folder / ".staging"
        shutil.rmtree(staging, ignore_errors=True)
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(folder / name)
        self._staging = str(staging)
        try:
            super()._save_checkpoint(model, trial)
            if self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(folder / name)
                self.state.save_to_json(str(staging / name / "trainer_state.json"))
            publish(staging / name, folder / name)
        except Exception as error:
            if _is_full_disk(error):
                raise EyasError(
                    f"No space left on the disk of {folder}. The last whole checkpoint is untouched: make room and "
                    "run the same command again to go on from there."
                ) from error
            raise
        finally:
            self._staging = None
            shutil.rmtree(staging, ignore_errors=True)
        rotate_checkpoints(
            output_dir=str(folder),
            save_total_limit=self.args.save_total_limit,
            best_model_checkpoint=self.state.best_model_checkpoint,
            use_mtime=False,
        )


def _needed(losses: Sequence[Loss], side: str) -> frozenset[str]:
    return frozenset().union(*(getattr(loss, side) for loss in losses))


def _texts(reads: Sequence[str]) -> list[str]:
    return [name for name in reads if name in ("text", "text_pair", "tokens")]


def _to_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, tuple):
        return tuple(_to_device(part, device) for part in value)
    return value.to(device) if isinstance(value, Tensor) else value


def _is_full_disk(error: BaseException | None) -> bool:
    while error is not None:
        if getattr(error, "errno", None) in (27, 28, 122) or "No space left" in str(error):
            return True
        if "PytorchStreamWriter failed" in str(error) or "unexpected pos" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
