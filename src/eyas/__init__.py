"""eyas: distill a fine-tuned BERT into a tiny, fast student, and ship it.

Names are imported on first use, so `import eyas` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from eyas._register import register_students
from eyas._telemetry import switch_off_telemetry
from eyas._version import __version__

if TYPE_CHECKING:  # for type checkers, editors and the API reference; the same names as in `_HOMES`
    from eyas.api import compress, distill, distill_tasks, finetune, finetune_together, pretrain_student
    from eyas.data.datasets import load_data, load_unlabeled
    from eyas.data.task_data import TaskData
    from eyas.errors import EyasError
    from eyas.estimator import DistilledClassifier
    from eyas.evaluation.evaluate import evaluate
    from eyas.exam.plan import Plan
    from eyas.exam.results import load_exam
    from eyas.exam.run import run_exam
    from eyas.export import export_model
    from eyas.export.push import push_to_hub
    from eyas.losses import HardLabelLoss, LogitMSELoss, Loss, SoftTargetLoss
    from eyas.models import STUDENTS, TAGGERS
    from eyas.models.classifier import Classifier
    from eyas.serve import Predictor
    from eyas.settings import Columns, DistillSettings, FinetuneSettings, StudentSettings, TransferSettings
    from eyas.tasks import Task
    from eyas.teachers import (
        AlignedTeacher,
        CachedTeacher,
        CombinedTeacher,
        ExportedTeacher,
        FileTeacher,
        FunctionTeacher,
        Teacher,
        ZeroShotTeacher,
    )
    from eyas.trained import TrainedModel
    from eyas.training.arguments import DistillationArguments
    from eyas.training.recipes import RECIPES, Stage
    from eyas.training.students import create_student
    from eyas.training.trainer import DistillationTrainer
    from eyas.verbosity import set_verbosity_debug, set_verbosity_error, set_verbosity_info, set_verbosity_warning

_HOMES = {
    "eyas.api": ["compress", "distill", "distill_tasks", "finetune", "finetune_together", "pretrain_student"],
    "eyas.data.datasets": ["load_data", "load_unlabeled"],
    "eyas.data.task_data": ["TaskData"],
    "eyas.errors": ["EyasError"],
    "eyas.estimator": ["DistilledClassifier"],
    "eyas.evaluation.evaluate": ["evaluate"],
    "eyas.exam.plan": ["Plan"],
    "eyas.exam.results": ["load_exam"],
    "eyas.exam.run": ["run_exam"],
    "eyas.export": ["export_model"],
    "eyas.export.push": ["push_to_hub"],
    "eyas.losses": ["HardLabelLoss", "LogitMSELoss", "Loss", "SoftTargetLoss"],
    "eyas.models": ["STUDENTS", "TAGGERS"],
    "eyas.models.classifier": ["Classifier"],
    "eyas.serve": ["Predictor"],
    "eyas.settings": ["Columns", "DistillSettings", "FinetuneSettings", "StudentSettings", "TransferSettings"],
    "eyas.tasks": ["Task"],
    "eyas.teachers": [
        "AlignedTeacher",
        "CachedTeacher",
        "CombinedTeacher",
        "ExportedTeacher",
        "FileTeacher",
        "FunctionTeacher",
        "Teacher",
        "ZeroShotTeacher",
    ],
    "eyas.trained": ["TrainedModel"],
    "eyas.training.arguments": ["DistillationArguments"],
    "eyas.training.recipes": ["RECIPES", "Stage"],
    "eyas.training.students": ["create_student"],
    "eyas.training.trainer": ["DistillationTrainer"],
    "eyas.verbosity": [
        "set_verbosity_debug",
        "set_verbosity_error",
        "set_verbosity_info",
        "set_verbosity_warning",
    ],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "RECIPES",
    "STUDENTS",
    "TAGGERS",
    "AlignedTeacher",
    "CachedTeacher",
    "Classifier",
    "Columns",
    "CombinedTeacher",
    "DistillSettings",
    "DistillationArguments",
    "DistillationTrainer",
    "DistilledClassifier",
    "ExportedTeacher",
    "EyasError",
    "FileTeacher",
    "FinetuneSettings",
    "FunctionTeacher",
    "HardLabelLoss",
    "LogitMSELoss",
    "Loss",
    "Plan",
    "Predictor",
    "SoftTargetLoss",
    "Stage",
    "StudentSettings",
    "Task",
    "TaskData",
    "Teacher",
    "TrainedModel",
    "TransferSettings",
    "ZeroShotTeacher",
    "__version__",
    "compress",
    "create_student",
    "distill",
    "distill_tasks",
    "evaluate",
    "export_model",
    "finetune",
    "finetune_together",
    "load_data",
    "load_exam",
    "load_unlabeled",
    "pretrain_student",
    "push_to_hub",
    "run_exam",
    "set_verbosity_debug",
    "set_verbosity_error",
    "set_verbosity_info",
    "set_verbosity_warning",
]

switch_off_telemetry()
register_students()


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'eyas' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
