"""One distillation run, stage by stage."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    TrainerCallback,
    set_seed,
)

from eyas.compression import compress, learns_curvature, merge, parse_methods
from eyas.data.datasets import labeled_rows
from eyas.data.task_data import TaskData
from eyas.errors import ModelError
from eyas.models import EnsembleForSequenceClassification
from eyas.models.loading import task_of_config
from eyas.settings import DistillSettings
from eyas.tasks import COMPRESSION
from eyas.teachers import AlignedTeacher
from eyas.training.callbacks import CurvatureCallback, early_stopping
from eyas.training.encoded import EncodedTexts, encoded_for
from eyas.training.ensembles import finish
from eyas.training.folders import WORK, write_result
from eyas.training.recipes import Stage
from eyas.training.recipes.base import Transform
from eyas.training.steps import LENGTHS, stage_arguments
from eyas.training.students import SAMPLE_TEXTS, create_student
from eyas.training.theseus import Replacing
from eyas.training.trainer import MODEL_INPUTS, DistillationTrainer
from eyas.transfer import blend_of, chosen_texts

logger = logging.getLogger("eyas")

# A model and its tokenizer.
Start = tuple[PreTrainedModel, Any]


class DistillationRun:
    """The models and data that all stages share.

    Args:
        teacher: live, aligned with the data's labels.
        data: train and validation.
        transfer_set: as from `eyas.transfer.transfer_set`.
        start: the student to start from; by default a new one, made from `settings.student`.
    """

    def __init__(
        self,
        teacher: AlignedTeacher,
        data: TaskData,
        settings: DistillSettings,
        stages: Sequence[Stage],
        transfer_set: Dataset,
        start: Start | None = None,
    ) -> None:
        self.teacher, self.data, self.settings, self.stages = teacher, data, settings, list(stages)
        self.transfer_set, self.start = transfer_set, start
        self.labeled: AlignedTeacher | None = None

    def prepare(self, cache: str | Path | None = None) -> None:
        """Compute the teacher's logits if a stage or the selection of texts needs them, and select the texts."""
        asks = any(stage.needs_teacher and not stage.needs_layers for stage in self.stages)
        transfer = self.settings.transfer
        if transfer.select or (asks and not self.settings.live and not transfer.smoothing):
            self.labeled = self.teacher.label(self.transfer_set, cache)
        if transfer.select and self.labeled is not None:
            self.transfer_set = chosen_texts(self.transfer_set, self.data, self.labeled, transfer)

    def train(self, label_names: list[str], folder: Path, callbacks: Sequence[TrainerCallback] = ()) -> None:
        """Train the student through all stages, and write it to `folder` with the labels `label_names`."""
        set_seed(self.settings.seed)
        reads = [loss.student_fields for stage in self.stages for loss in stage.losses]
        student, tokenizer = self.start or create_student(
            self.settings.student, self.teacher, self.transfer_set, label_names, any("token_states" in f for f in reads)
        )
        methods = self.settings.student.compress
        if not methods:  # of a start that was compressed, whose weights are free now
            vars(student.config).pop(COMPRESSION, None)
        compress(student, parse_methods(methods), self._batches(student, tokenizer) if methods else ())
        history: list[dict[str, Any]] = []
        encoded: dict[int, EncodedTexts] = {}  # texts are tokenized once for all stages
        for number, stage in enumerate(self.stages):
            if len(self.stages) > 1:
                terms = ", ".join(loss.title for loss in stage.losses)
                logger.info("Stage %d of %d: %s.", number + 1, len(self.stages), terms)
            student = transformed(student, stage.before, number)
            with frozen(student, stage.frozen):
                work = folder / WORK / f"stage-{number}"
                trainer = self._trainer(student, tokenizer, stage, work, encoded, callbacks)
                trainer.train(resume_from_checkpoint=True)
            student = transformed(student, stage.finish, number)
            history += [{"stage": number, **entry} for entry in trainer.state.log_history]
        validation = self.data["validation"]
        if type(student) is EnsembleForSequenceClassification:
            student = finish(student, tokenizer, validation)
        factors = merge(student)
        check_loadable(student)
        write_result(student, tokenizer, validation, history, folder, factors)

    @cached_property
    def labeled_rows(self) -> Dataset:
        """The training texts that have a label: all that a stage without a teacher can learn from."""
        return labeled_rows(self.data["train"])

    def _batches(self, student: Any, tokenizer: Any) -> list[dict[str, Tensor]]:
        """Inputs of some texts of the transfer set, one each."""
        rows = np.linspace(0, len(self.transfer_set) - 1, min(SAMPLE_TEXTS, len(self.transfer_set))).astype(int)
        encoded = encoded_for(student, tokenizer, self.transfer_set.select(rows), training=True)
        return [{name: encoded[row][name] for name in MODEL_INPUTS if name in encoded[row]} for row in range(len(rows))]

    def _trainer(
        self,
        student: Any,
        tokenizer: Any,
        stage: Stage,
        work: Path,
        encoded: dict[int, EncodedTexts],
        callbacks: Sequence[TrainerCallback],
    ) -> DistillationTrainer:
        train = self.transfer_set if stage.needs_teacher else self.labeled_rows
        for dataset, training in ((train, True), (self.data["validation"], False)):
            if id(dataset) not in encoded:
                encoded[id(dataset)] = encoded_for(student, tokenizer, dataset, training=training)
        teacher_model = self.teacher.teacher.model
        width = int(getattr(teacher_model.config, "hidden_size", 0))
        replacing = [Replacing(student, teacher_model, stage.replacing)] if stage.replacing else []
        arguments = stage_arguments(stage, self.settings, len(train), work, width)
        may_stop = not stage.is_scheduled and not LENGTHS & {*stage.arguments, *self.settings.arguments}
        curvature = [CurvatureCallback()] if learns_curvature(student) else []
        stopping = early_stopping(arguments, len(train), self.settings.patience, may_stop)
        return DistillationTrainer(
            student,
            arguments,
            train_dataset=encoded[id(train)],
            eval_dataset=encoded[id(self.data["validation"])],
            processing_class=tokenizer,
            losses=stage.losses,
            teacher=self._teacher_of(stage),
            callbacks=[*callbacks, *replacing, *stopping, *curvature],
            blend=blend_of(self.settings.transfer, self.teacher, tokenizer, stage.needs_teacher),
        )

    def _teacher_of(self, stage: Stage) -> AlignedTeacher | None:
        """None, the cached logits, or the live teacher."""
        if not stage.needs_teacher:
            return None
        # The objective of a stage below the head is also computed on validation texts, of which no logits are kept.
        live = self.settings.live or stage.needs_layers or stage.is_below_head
        return self.teacher if live or self.labeled is None else self.labeled


def transformed(student: Any, transform: Transform | None, stage: int) -> Any:
    """The student after a stage's transform.

    Raises:
        ModelError: it returned no model.
    """
    result = student if transform is None else transform(student)
    if not isinstance(result, PreTrainedModel):
        name = getattr(transform, "__name__", transform)
        raise ModelError(f"{name}, a transform of stage {stage}, returned {type(result).__name__}, expected a model.")
    return result


def check_loadable(student: PreTrainedModel) -> None:
    """Raises ModelError if its Auto class does not load the student, as after a transform without `finish`."""
    tagging = task_of_config(student.config).is_tagging
    auto: Any = AutoModelForTokenClassification if tagging else AutoModelForSequenceClassification
    model, config = type(student), type(student.config)
    if auto._model_mapping.get(config, None) is not model:
        raise ModelError(
            f"{auto.__name__} does not load a {model.__name__} from a {config.__name__}. Register both in the recipe's "
            f"module: AutoConfig.register({config.__name__}.model_type, {config.__name__}) and "
            f"{auto.__name__}.register({config.__name__}, {model.__name__})."
        )
    with torch.device("meta"):
        expected = type(student)(student.config).state_dict()
    found = student.state_dict()
    differing = sorted(
        name
        for name in found.keys() | expected.keys()
        if name not in found or name not in expected or found[name].shape != expected[name].shape
    )
    if differing:
        raise ModelError(
            f"A {type(student).__name__} of this configuration does not load the trained weights ("
            f"{', '.join(differing[:4])}). Merge in Stage(finish=...) what Stage(before=...) added, or change the "
            "configuration with the weights."
        )


@contextmanager
def frozen(model: nn.Module, modules: Sequence[str]) -> Iterator[None]:
    """Freeze the parameters of modules with these names inside the context."""
    parameters = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not set(modules).isdisjoint(name.split("."))
    ]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
