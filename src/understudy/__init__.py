"""understudy: distil a fine-tuned BERT into a tiny, fast student, and ship it.

Names are imported when they are first used, so `import understudy` costs nothing.
"""

import importlib
from typing import Any

from understudy._register import register_students
from understudy._version import __version__

_HOMES = {
    "understudy.data.datasets": ["load_data", "load_unlabelled"],
    "understudy.data.sources": ["Columns"],
    "understudy.errors": ["UnderstudyError"],
    "understudy.evaluation": ["Classifier", "evaluate"],
    "understudy.export": ["export_model"],
    "understudy.losses": ["HardLabelLoss", "LogitMSELoss", "Loss", "SoftTargetLoss"],
    "understudy.models": ["STUDENTS", "TAGGERS"],
    "understudy.serve": ["Predictor"],
    "understudy.tasks": ["Task"],
    "understudy.teachers": ["CachedTeacher", "Teacher"],
    "understudy.training.arguments": ["DistillationArguments"],
    "understudy.training.distill": ["DistillSettings", "distill"],
    "understudy.training.finetune": ["FinetuneSettings", "finetune"],
    "understudy.training.recipes": ["RECIPES", "Stage"],
    "understudy.training.student_settings": ["StudentSettings"],
    "understudy.training.students": ["create_student"],
    "understudy.training.trainer": ["DistillationTrainer"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]

register_students()


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'understudy' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
