"""eyas: distil a fine-tuned BERT into a tiny, fast student, and ship it.

Names are imported when they are first used, so `import eyas` costs nothing.
"""

import importlib
from typing import Any

from eyas._register import register_students
from eyas._version import __version__

_HOMES = {
    "eyas.api": ["TrainedModel", "distill", "finetune", "pretrain_student"],
    "eyas.data.datasets": ["load_data", "load_unlabelled"],
    "eyas.errors": ["EyasError"],
    "eyas.evaluation": ["Classifier", "evaluate"],
    "eyas.export": ["export_model"],
    "eyas.losses": ["HardLabelLoss", "LogitMSELoss", "Loss", "SoftTargetLoss"],
    "eyas.models": ["STUDENTS", "TAGGERS"],
    "eyas.serve": ["Predictor"],
    "eyas.tasks": ["Task"],
    "eyas.teachers": ["AlignedTeacher", "CachedTeacher", "Teacher"],
    "eyas.training.arguments": ["DistillationArguments"],
    "eyas.settings": ["Columns", "DistillSettings", "FinetuneSettings", "StudentSettings", "TransferSettings"],
    "eyas.training.recipes": ["RECIPES", "Stage"],
    "eyas.training.students": ["create_student"],
    "eyas.training.trainer": ["DistillationTrainer"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]

register_students()


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'eyas' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
