"""`transformers.Trainer` with a teacher, a list of losses and atomic checkpoints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import EvalPrediction, PreTrainedModel, TrainerCallback, TrainingArguments, set_seed

from eyas.data.datasets import is_pair
from eyas.errors import ModelError
from eyas.evaluation.metrics import task_metrics
from eyas.losses import Loss
from eyas.models import is_student
from eyas.models.inside import run
from eyas.models.loading import input_length
from eyas.models.objective import task_loss
from eyas.models.several_tasks import Several, student_of
from eyas.settings import MAX_LENGTH
from eyas.teachers import AlignedTeacher
from eyas.teachers.aligned import Teaches
from eyas.training.arguments import OBJECTIVE, DistillationArguments
from eyas.training.batches import MixedTexts, batches_of
from eyas.training.callbacks import ProgressCallback
from eyas.training.checkpoints import ResumableTrainer
from eyas.training.checks import check_blended_fields
from eyas.training.encoded import EncodedTexts, already_batched, encoded_for
from eyas.training.folders import write_model_folder
from eyas.training.lesson import Lesson
from eyas.training.optimizer import LazyAdamW, clip_gradients, set_sparse_embeddings, sparse_parameters, word_table
from eyas.training.terms import TermMeans, numbered
from eyas.training.theseus import Replacing
from eyas.transfer.blending import Blend, check_blend
from eyas.verbosity import without_bars

# Attribute of the student that holds losses with a state while it trains.
LOSSES = "losses"
MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class DistillationTrainer(ResumableTrainer):
    """Trains a student on the weighted sum of `losses`.

    Several data sets are passed as {name: data set}, with their losses and teachers under the same names, as in
    sentence-transformers' trainer.

    Args:
        model: the student.
        args: settings; see `DistillationArguments`.
        train_dataset: as from `load_data`; rows with label -1 are unlabeled.
        eval_dataset: validation data in the same form. With several data sets, the mean score selects the checkpoint.
        processing_class: the student's tokenizer.
        losses: the terms of the objective; by default hard labels alone.
        teacher: live or cached; optional if no loss reads it. Its labels are matched by name; if the names differ, pass
            an `AlignedTeacher`.
        callbacks: as in transformers.
        max_length: maximum number of tokens per text; our own students have their own.
        blend: blends the texts of each batch; see `eyas.transfer.blending`.

    Raises:
        ModelError: a loss needs an output that the student or teacher does not have.
        LabelError: the label names of student and teacher differ, and the teacher is not aligned.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments | None = None,
        *,
        train_dataset: Dataset | EncodedTexts | Mapping[str, Dataset | EncodedTexts],
        eval_dataset: Dataset | EncodedTexts | Mapping[str, Dataset | EncodedTexts] | None = None,
        processing_class: Any,
        losses: Sequence[Loss] | Mapping[str, Sequence[Loss]] | None = None,
        teacher: Teaches | AlignedTeacher | Mapping[str, Teaches | AlignedTeacher | None] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        max_length: int = MAX_LENGTH,
        blend: Blend | None = None,
    ) -> None:
        if args is not None:
            set_seed(args.seed)  # learned parts of losses start alike, whatever ran before
        length = input_length(model, processing_class, max_length)
        train = {
            name: encoded_for(student_of(model, name), processing_class, part, max_length, training=True)
            for name, part in _by_name(train_dataset).items()
        }
        scored = {
            name: encoded_for(student_of(model, name), processing_class, part, max_length)
            for name, part in _by_name(eval_dataset).items()
        }
        self.lessons = {
            name: Lesson(
                student_of(model, name), part.task, _of(losses, name, "losses"), _of(teacher, name, "teacher"), length
            )
            for name, part in train.items()
        }
        self.validation = next((part.dataset for part in scored.values()), None)
        learning = [loss for lesson in self.lessons.values() for loss in lesson.losses if loss.state_dict()]
        if learning:  # optimized and checkpointed with the student, until the training ends
            model.add_module(LOSSES, nn.ModuleList(dict.fromkeys(learning)))
            # They are used outside the model's forward, where DDP does not expect them; see `training_step`.
            own = {f"{LOSSES}.{name}" for name, _ in model.get_submodule(LOSSES).named_parameters()}
            cast(Any, model)._ddp_params_and_buffers_to_ignore = own
        self.terms = TermMeans()
        self._comparable: dict[str, np.ndarray] = {}
        self.blend = blend
        if blend is not None:
            _check_blended(self.lessons, train)
        if args is not None and args.remove_unused_columns:
            args = replace(args, remove_unused_columns=False)  # True would drop example_id
        for name, part in train.items():
            reads = (*self.lessons[name].reads, *(blend.reads if blend else ()))
            train[name] = part.handing([column for column in reads if column != "example_id"], name)
        for name, part in scored.items():
            reads = self.lessons[name].reads if args is not None and args.metric_for_best_model == OBJECTIVE else ()
            scored[name] = part.handing([column for column in reads if column != "example_id"], name)
        self._scored_task, self._scored_name = next(iter(self.lessons.values())).task, ""
        super().__init__(
            model=model,
            args=args or DistillationArguments(),
            data_collator=cast(Any, already_batched),
            train_dataset=train[""] if "" in train else MixedTexts(train),
            eval_dataset=cast(Any, scored.get("", scored or None)),
            processing_class=processing_class,
            compute_metrics=self._score,
            callbacks=[*(callbacks or []), ProgressCallback({name: part.task.metric for name, part in scored.items()})],
        )
        for lesson in self.lessons.values():
            lesson.to(self.args.device)

    # --- the objective -----------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """In training the weighted sum of the losses; in evaluation the plain task loss, without a teacher."""
        name = inputs.get("dataset_name", "") if model.training else self._scored_name
        student_inputs = self._student_inputs(inputs, name)
        if not model.training:
            outputs = model(**student_inputs)
            loss = task_loss(self._scored_task, outputs.logits, inputs["labels"])
            outputs = {"loss": loss, "logits": outputs.logits}
            return (loss, outputs) if return_outputs else loss
        lesson = self.lessons[name]
        if lesson.crf:
            student_inputs["labels"] = inputs["labels"]
        batch = self._batch(inputs, lesson)
        asks_itself = self.blend is not None and self.blend.brings_teacher
        teacher = {} if asks_itself else lesson.ask(inputs, self.args.device)
        parts: list[Any] = [(1.0, teacher, batch)]
        if self.blend is not None:
            student_inputs, parts = self.blend(batch, teacher, cast(Any, self.model).get_input_embeddings())
        student = run(model, student_inputs, lesson.student_fields, create_graph=True)
        terms: dict[str, Any] = {}
        for share, *fields in parts:
            for term, value in numbered(lesson.terms(student, fields[0], fields[1], self._progress)):
                key = f"{name}/{term}" if name else term
                terms[key] = terms.get(key, 0.0) + share * value
        self.terms.add(terms, 1 / getattr(self, "current_gradient_accumulation_steps", 1))
        total = sum(terms.values())
        return (total, student) if return_outputs else total

    def _student_inputs(self, inputs: dict[str, Any], name: str) -> dict[str, Any]:
        """What the student reads of a batch of the data set `name`."""
        found = {column: inputs[column] for column in MODEL_INPUTS if column in inputs}
        return {**found, "task": name} if isinstance(self.model, Several) else found

    def training_step(self, *args: Any, **options: Any) -> Tensor:
        loss: Tensor = super().training_step(*args, **options)
        if self.args.world_size > 1 and hasattr(self.model, LOSSES):
            for parameter in cast(nn.Module, self.model).get_submodule(LOSSES).parameters():
                if parameter.grad is not None:
                    parameter.grad = cast(Tensor, self.accelerator.reduce(parameter.grad, "mean"))
        return loss

    def _batch(self, inputs: dict[str, Any], lesson: Lesson) -> dict[str, Any]:
        return {**inputs, "task": lesson.task, "epoch": int(self.state.epoch or 0)}

    @property
    def _progress(self) -> float:
        return self.state.global_step / max(self.state.max_steps, 1)

    @torch.no_grad()
    def _objective(self, encoded: EncodedTexts) -> float:
        """The mean objective of the validation texts that can be compared; without any, the last checkpoint is best.

        Schedules stand at their middle and random numbers are the same each time, so that checkpoints compare.
        """
        model, lesson = cast(nn.Module, self.model).eval(), self.lessons[encoded.name]
        size = min(self.args.train_batch_size, self.args.eval_batch_size)  # layers of both models are in memory
        if encoded.name not in self._comparable:
            self._comparable[encoded.name] = lesson.comparable(encoded, size)
        rows, total = self._comparable[encoded.name], 0.0
        with torch.random.fork_rng():
            torch.manual_seed(self.args.seed)
            for start in range(0, len(rows), size):
                part = rows[start : start + size].tolist()
                inputs = cast(Any, self._prepare_inputs(encoded.__getitems__(part)))
                student_inputs = self._student_inputs(inputs, encoded.name)
                teacher = lesson.ask(inputs, self.args.device)
                with self.compute_loss_context_manager():
                    student = run(model, student_inputs, lesson.student_fields)
                    terms = lesson.terms(student, teacher, self._batch(inputs, lesson), progress=0.5)
                total += len(part) * float(sum(value for _, value in terms))
        return total / len(rows) if len(rows) else -float(self.state.global_step)

    def log(self, logs: dict[str, float], *args: Any, **options: Any) -> None:
        """Log the weighted terms next to the loss, as `loss/DISTLoss` and so on."""
        if "loss" in logs:
            means = {name: torch.tensor(mean, device=self.args.device) for name, mean in self.terms.take().items()}
            reduced: Any = self.accelerator.reduce(means, "mean")  # over the processes
            logs = {**logs, **{name: float(mean) for name, mean in reduced.items()}}
        super().log(logs, *args, **options)

    def _score(self, prediction: EvalPrediction) -> dict[str, float]:
        """The task's metrics; `score` is the one that selects the checkpoint."""
        logits, labels, task = np.asarray(prediction.predictions), np.asarray(prediction.label_ids), self._scored_task
        lengths = None
        if task.is_tagging:
            read = labels != -100
            logits, labels, lengths = logits[read], labels[read], read.sum(1)
        scores = task_metrics(task, logits, labels, lengths)
        return {**scores, "score": scores[task.metric]}

    def evaluate(self, eval_dataset: Any = None, *args: Any, **options: Any) -> dict[str, float]:
        """As in transformers; with several data sets also the means of their metrics, such as `eval_score`."""
        metrics: dict[str, float] = super().evaluate(eval_dataset, *args, **options)
        if isinstance(self.eval_dataset if eval_dataset is None else eval_dataset, dict):
            prefix = options.get("metric_key_prefix", "eval")
            for metric in ("score", *([OBJECTIVE] if self._by_objective else [])):
                values = [value for name, value in metrics.items() if name.endswith(f"_{metric}")]
                mean = {f"{prefix}_{metric}": float(np.mean(values))}
                metrics |= mean
                self.log(mean)
                self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, mean)
        return metrics

    @property
    def _by_objective(self) -> bool:
        return self.args.metric_for_best_model == OBJECTIVE

    def evaluation_loop(self, dataloader: Any, *args: Any, **options: Any) -> Any:
        self._scored_task, self._scored_name = dataloader.dataset.task, dataloader.dataset.name
        output: Any = super().evaluation_loop(dataloader, *args, **options)
        if self._by_objective:
            prefix = options.get("metric_key_prefix", "eval")
            output.metrics[f"{prefix}_{OBJECTIVE}"] = self._objective(dataloader.dataset)
        return output

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> Any:
        known = {name: value for name, value in inputs.items() if name in (*MODEL_INPUTS, "labels")}
        return super().prediction_step(model, known, prediction_loss_only, ignore_keys)

    # --- speed: little overhead in the steps of tiny students -----------------------------------------------

    def train_batches(self) -> Any:
        """The batch sampler."""
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        mixing: Any = getattr(self.args, "multi_dataset_batches", "proportional")
        return batches_of(cast(Any, self.train_dataset), self.args.train_batch_size, seed, mixing)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None and self.model is not None and sparse_parameters(self.model):
            self.optimizer = LazyAdamW(
                self.model,
                self.args.learning_rate,
                self.args.weight_decay,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
            )
            return self.optimizer
        return super().create_optimizer(model)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        if sparse_parameters(model):
            return clip_gradients(model, self.args.max_grad_norm)
        return super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        if grad_norm is None and sparse_parameters(model):  # max_grad_norm=0
            grad_norm = clip_gradients(model, math.inf)
        return super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]

    # --- the run -------------------------------------------------------------------------------------------

    @without_bars()
    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **options: Any) -> Any:
        model = cast(nn.Module, self.model)
        adam = self.args.optim in ("adamw_torch", "adamw_torch_fused")
        lazy = adam and self.args.device.type == "cpu" and self.args.world_size == 1
        # Of transformers only the word vectors: DeBERTa also multiplies by its table of relative positions.
        tables = list(model.modules()) if is_student(model) else [word_table(model)] if lazy else []
        try:
            set_sparse_embeddings(tables, lazy)
            return super().train(resume_from_checkpoint, *args, **options)
        finally:
            set_sparse_embeddings(tables, False)
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, Replacing):
                    callback.close()
            if hasattr(model, LOSSES):
                delattr(model, LOSSES)
                delattr(model, "_ddp_params_and_buffers_to_ignore")

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write model, tokenizer and, for parity checks, a sample of the validation texts."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        assert isinstance(self.model, PreTrainedModel)
        write_model_folder(self.model, self.processing_class, None if _internal_call else self.validation, folder)


def _by_name(given: Any) -> dict[str, Any]:
    """{name: data set}; a single data set gets the empty name."""
    if given is None:
        return {}
    return dict(given) if isinstance(given, Mapping) else {"": given}


def _of(given: Any, name: str, what: str) -> Any:
    """The losses or the teacher of a data set.

    Raises:
        ModelError: they are given by name, but not for this data set.
    """
    if not isinstance(given, Mapping):
        return given
    if name not in given:
        raise ModelError(f"{what} has no entry for the data set {name!r}, only for {', '.join(given)}.")
    return given[name]


def _check_blended(lessons: Mapping[str, Lesson], train: Mapping[str, EncodedTexts]) -> None:
    for name, lesson in lessons.items():
        check_blend(lesson.task, is_pair(train[name].dataset))
        check_blended_fields(lesson.student_fields | lesson.teacher_fields)
