"""From a teacher and a data set to a student folder."""

import copy
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from transformers import TrainerCallback, set_seed

from eyas.data.datasets import (
    check_validation,
    data_fingerprint,
    is_pair,
    label_names,
    task_of,
)
from eyas.data.labels import are_generic
from eyas.data.tokenization import marks_both_ends
from eyas.errors import ModelError
from eyas.models import EnsembleForSequenceClassification
from eyas.models.transformer import TRANSFORMERS
from eyas.outputs import OutputFolder
from eyas.tasks import Task
from eyas.teachers import AlignedTeacher, Teacher, align
from eyas.teachers.aligned import AnyTeacher, live, with_labels_of_teacher
from eyas.training.arguments import DistillationArguments, steps_of_a_pass, with_precision
from eyas.training.checks import prepare_for
from eyas.training.ensembles import finish
from eyas.training.folders import WORK, write_history, write_model_folder
from eyas.training.recipes import Stage, default_recipe, make_stages
from eyas.training.student_settings import StudentSettings, check_student, is_folder
from eyas.training.students import create_student, planned_config
from eyas.training.theseus import Replacing
from eyas.training.trainer import DistillationTrainer
from eyas.transfer import TransferSettings, chosen_texts, transfer_set
from eyas.transfer.augmentation import identity

logger = logging.getLogger("eyas")


# How long a student learns where nobody says: about this many steps, but no fewer and no more passes.
STEPS, FEWEST_PASSES, MOST_PASSES = 4000, 4, 30
# What suits a small transformer, where our own students want more.
TRANSFORMER_ARGUMENTS: dict[str, Any] = {
    "learning_rate": 5e-4,
    "weight_decay": 0.01,
    "warmup_steps": 0.1,
    "max_grad_norm": 1.0,
}
# Layers that were the teacher's know something already.
COPIED_LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class DistillSettings:
    """How a student is made.

    Args:
        student: what it is like.
        recipe: the method, a key of `RECIPES`; by default dist, and logit-mse for a CRF and where there are only
            two things to choose from, or numbers.
        recipe_options: arguments of the recipe's function.
        transfer: what the student is trained on beside the training texts.
        arguments: fields of `DistillationArguments`; they win over the recipe's. Without `num_train_epochs`, a
            student learns for about 4,000 steps, in 4 to 30 passes over the texts.
        seed: for weights, order and dropout.
        live: ask the teacher in every step instead of labelling once (slow; for comparison).
        label_map: {teacher's label name: data's label name}, where they can't be matched otherwise.
    """

    student: StudentSettings = field(default_factory=StudentSettings)
    recipe: str = ""
    recipe_options: dict[str, Any] = field(default_factory=dict)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    arguments: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    live: bool = False
    label_map: dict[str, str] | None = None


def distill(
    teacher: AnyTeacher,
    data: DatasetDict,
    out: str | Path,
    settings: DistillSettings | None = None,
    unlabelled: Dataset | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    record: dict[str, Any] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Label the texts with the teacher (once), train a student on them, write it to `out`.

    An interrupted call goes on where it stopped when it is made again with the same arguments, and ends with the
    same weights.

    Args:
        data: as from `load_data`.
        unlabelled: more texts for the transfer set, as from `load_unlabelled`.
        cache: the folder for the teacher's logits; by default found by fingerprint.
        record: what to note in `eyas.json` about where teacher and data came from.
        callbacks: as in transformers.

    Returns:
        `out`, a Hugging Face model folder.

    Raises:
        EyasError: bad input, said before any training step.
    """
    settings = settings or DistillSettings()
    data = with_labels_of_teacher(data, teacher, settings.label_map)
    settings = _with_defaults(settings, task_of(data["train"]))
    stages = make_stages(settings.recipe, settings.recipe_options)
    check_validation(data)
    check_student(settings.student, task_of(data["train"]))
    _check_start(settings, stages, task_of(data["train"]), live(teacher))
    settings = _reading_alike(settings, stages, live(teacher), is_pair(data["train"]))
    settings.transfer.check(task_of(data["train"]), is_pair(data["train"]))
    data, aligned = align(teacher, data, settings.label_map)
    texts = transfer_set(data, aligned, unlabelled, settings.transfer)
    output = OutputFolder(
        out,
        {
            "command": "distill",
            **(record or {}),
            **asdict(settings),
            "teacher_fingerprint": live(teacher).fingerprint,
            "transfer_set": data_fingerprint(texts),
            "transfer_sources": settings.transfer.sources(),
            "init": identity(settings.student.init or ""),
            "validation": data_fingerprint(data["validation"]),
            "labels": label_names(data),
        },
        overwrite,
    )
    if output.is_finished:
        logger.info("%s is there already, made with the same settings.", out)
        return output.path
    with output as folder:
        lesson = Lesson.of(aligned, data, settings, stages, texts, cache)
        names = label_names(data)
        student_names = aligned.label_names if are_generic(names) else names
        lesson.teach(stages, student_names, folder, callbacks)
    return output.path


@dataclass(frozen=True)
class Lesson:
    """What all stages share: who teaches what, `texts`, and their logits where they are kept."""

    teacher: AlignedTeacher
    data: DatasetDict
    settings: DistillSettings
    texts: Dataset
    labelled: AlignedTeacher | None

    @classmethod
    def of(
        cls,
        teacher: AlignedTeacher,
        data: DatasetDict,
        settings: DistillSettings,
        stages: Sequence[Stage],
        texts: Dataset,
        cache: str | Path | None,
    ) -> "Lesson":
        """Label the texts, where a stage or a selection asks for logits alone, and choose among them."""
        asks = any(stage.needs_teacher and not stage.needs_layers for stage in stages)
        live = settings.live or bool(settings.transfer.smoothing)
        if not settings.transfer.select and (live or not asks):
            return cls(teacher, data, settings, texts, None)
        labelled = teacher.label(texts, cache)
        chosen = chosen_texts(texts, data, labelled, settings.transfer)
        return cls(teacher, data, settings, chosen, labelled)

    def teach(
        self, stages: Sequence[Stage], names: list[str], folder: Path, callbacks: Sequence[TrainerCallback]
    ) -> None:
        """Train a new student, who calls the labels `names`, through `stages`; write it to `folder`."""
        set_seed(self.settings.seed)
        student, tokenizer = create_student(self.settings.student, self.teacher, self.texts, names)
        history: list[dict[str, Any]] = []
        for number, stage in enumerate(stages):
            work = folder / WORK / f"stage-{number}"
            trainer = self.trainer(student, tokenizer, stage, work, len(stages), callbacks)
            trainer.train(resume_from_checkpoint=True)
            history += [{"stage": number, **entry} for entry in trainer.state.log_history]
        validation = self.data["validation"]
        if isinstance(student, EnsembleForSequenceClassification):
            student = finish(student, tokenizer, validation)
        write_model_folder(student, tokenizer, validation, folder)
        write_history(history, folder)
        shutil.rmtree(folder / WORK)  # the checkpoints

    def trainer(
        self, student: Any, tokenizer: Any, stage: Stage, work: Path, stages: int, callbacks: Sequence[TrainerCallback]
    ) -> DistillationTrainer:
        """For one of `stages`."""
        rows = self.texts if stage.needs_teacher else self.data["train"]
        for name, parameter in student.named_parameters():
            if not set(stage.frozen).isdisjoint(name.split(".")):
                parameter.requires_grad_(False)
        replacing = [Replacing(student, self.teacher.teacher.model, stage.replacing)] if stage.replacing else []
        return DistillationTrainer(
            model=student,
            processing_class=tokenizer,
            train_dataset=rows,
            eval_dataset=self.data["validation"],
            losses=stage.losses,
            teacher=self._asked(stage),
            args=_arguments(stage, self.settings, len(rows), work, stages, _width(self.teacher.teacher)),
            callbacks=[*callbacks, *replacing],
            blend=self.settings.transfer.blend(self.teacher, tokenizer, stage.needs_teacher),
        )

    def _asked(self, stage: Stage) -> AlignedTeacher | None:
        """Nobody, the logits on disk, or the teacher itself."""
        if not stage.needs_teacher:
            return None
        return self.teacher if self.settings.live or stage.needs_layers or self.labelled is None else self.labelled


def _width(teacher: Teacher) -> int:
    return int(getattr(teacher.model.config, "hidden_size", 0))


def _check_start(settings: DistillSettings, stages: Sequence[Stage], task: Task, teacher: Teacher) -> None:
    """Refuse what would fail, or go wrong, after the texts are labelled.

    Raises:
        ModelError: a loss is not for the task or the student, a transformer's sizes do not fit the teacher's, or a head
            stays as it is that was never the teacher's.
    """
    losses = [loss for stage in stages for loss in stage.losses]
    for loss in losses:
        loss.check(task)
    student, width = settings.student, _width(teacher)
    if student.architecture not in TRANSFORMERS:
        if any(stage.is_for_transformers for stage in stages):
            raise ModelError(
                f"{settings.recipe} looks at the teacher's layers, and {student.architecture} has none like them. "
                "Choose a transformer, such as --student bert-tiny, or a recipe that reads logits."
            )
        return
    start = student.start(width)
    other = is_folder(start) or (start == "random" and student.is_as_wide(width))  # of another width they say more
    if any(stage.frozen for stage in stages) and other:
        why = f"--init {start}" if student.init else f"--embeddings {student.embeddings}"
        raise ModelError(
            f"{settings.recipe} leaves the student's head as it is, so it must be the teacher's: {why} makes "
            "another one. Choose layers of the teacher, or another recipe."
        )
    if not is_folder(start):
        # On copies: a projection is made with the student, behind its seed.
        prepare_for(planned_config(student, teacher.model), copy.deepcopy(losses), teacher)


def _reading_alike(settings: DistillSettings, stages: Sequence[Stage], teacher: Teacher, pair: bool) -> DistillSettings:
    """Where student and teacher are compared token by token, the student reads no more than the teacher.

    Raises:
        ModelError: one of our own students would read other tokens.
    """
    student = settings.student
    if not any(stage.needs_layers for stage in stages):
        return settings
    if student.architecture not in TRANSFORMERS:
        said = f"{settings.recipe} compares student and teacher token by token, and {student.architecture} "
        if pair:
            raise ModelError(f"{said}reads the two texts of a pair apart. Choose a transformer, or another recipe.")
        if not student.reads_as_teacher:
            raise ModelError(f"{said}would read others: leave --vocab-size, --init and --embeddings FILE out.")
        if not marks_both_ends(teacher.tokenizer):
            raise ModelError(f"{said}expects marks at both ends of a text, which the teacher's tokenizer does not set.")
    if teacher.max_length < student.max_length:
        logger.info("The student reads %d tokens of a text, as its teacher does.", teacher.max_length)
        return replace(settings, student=replace(student, max_length=teacher.max_length))
    return settings


def _with_defaults(settings: DistillSettings, task: Task) -> DistillSettings:
    arguments = with_precision(settings.arguments, settings.student.architecture)
    return replace(settings, recipe=settings.recipe or default_recipe(task, settings.student.crf), arguments=arguments)


def training_steps(settings: DistillSettings, texts: int, train: int | None = None) -> int:
    """How many steps the recipe's stages take together.

    Args:
        texts: of the transfer set, for the stages that ask the teacher.
        train: training texts, for the others; by default all are.
    """
    stages = make_stages(settings.recipe, settings.recipe_options)
    total = 0
    for stage in stages:
        rows = texts if stage.needs_teacher or train is None else train
        arguments = _arguments(stage, settings, rows, Path(WORK), len(stages))
        passes = math.ceil(steps_of_a_pass(arguments, rows) * arguments.num_train_epochs)
        total += arguments.max_steps if arguments.max_steps > 0 else passes
    return total


def _arguments(
    stage: Stage, settings: DistillSettings, rows: int, work: Path, stages: int, width: int = 0
) -> DistillationArguments:
    """The stage's settings and the user's; passes by the number of rows where neither says.

    Steps and passes are those of the whole training, of which each of `stages` has its share. The learning rate depends
    on the `width` of the teacher's layers: a transformer as wide starts from them.
    """
    suited = dict(TRANSFORMER_ARGUMENTS) if settings.student.architecture in TRANSFORMERS else {}
    if suited and settings.student.copies_layers(width):
        suited["learning_rate"] = COPIED_LEARNING_RATE
    chosen = {**suited, **stage.arguments, **settings.arguments}
    arguments = DistillationArguments(output_dir=str(work), seed=settings.seed, **chosen)
    if "num_train_epochs" not in chosen and "max_steps" not in chosen:
        steps = steps_of_a_pass(arguments, rows)
        arguments.num_train_epochs = min(max(math.ceil(STEPS / steps), FEWEST_PASSES), MOST_PASSES)
    share = stage.share or 1 / stages
    arguments.num_train_epochs *= share
    if arguments.max_steps > 0:
        arguments.max_steps = max(round(arguments.max_steps * share), 1)
    return arguments
