"""The students: ordinary Hugging Face models. `import eyas.models` registers them with the Auto classes."""

from typing import Any

from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

from eyas.models.bilstm import BiLSTMForSequenceClassification, BiLSTMForTokenClassification
from eyas.models.cnn import CNNForSequenceClassification, CNNForTokenClassification
from eyas.models.cnn_lstm import CNNLSTMForSequenceClassification, CNNLSTMForTokenClassification
from eyas.models.configuration import (
    BiLSTMConfig,
    CNNConfig,
    CNNLSTMConfig,
    EnsembleConfig,
    FamilyConfig,
    StaticConfig,
    StudentConfig,
    TasksConfig,
)
from eyas.models.ensemble import MEMBERS, EnsembleForSequenceClassification
from eyas.models.family import TAGGERS, FamilyForSequenceClassification
from eyas.models.sequence import StudentForSequenceClassification
from eyas.models.several_tasks import TasksForSequenceClassification
from eyas.models.static import StaticForSequenceClassification, StaticForTokenClassification
from eyas.models.student import Student, is_student
from eyas.models.tokens import StudentForTokenClassification

STUDENTS: dict[str, type[StudentForSequenceClassification]] = MEMBERS
"""The students for whole texts, by the name for `--student`."""
for _name, _model in STUDENTS.items():
    _config: Any = _model.config_class
    AutoConfig.register(_config.model_type, _config)
    AutoModelForSequenceClassification.register(_config, _model)
    AutoModelForTokenClassification.register(_config, TAGGERS[_name])
for _several in (EnsembleForSequenceClassification, FamilyForSequenceClassification, TasksForSequenceClassification):
    AutoConfig.register(_several.config_class.model_type, _several.config_class)
    AutoModelForSequenceClassification.register(_several.config_class, _several)

__all__ = [
    "STUDENTS",
    "TAGGERS",
    "BiLSTMConfig",
    "BiLSTMForSequenceClassification",
    "BiLSTMForTokenClassification",
    "CNNConfig",
    "CNNForSequenceClassification",
    "CNNForTokenClassification",
    "CNNLSTMConfig",
    "CNNLSTMForSequenceClassification",
    "CNNLSTMForTokenClassification",
    "EnsembleConfig",
    "EnsembleForSequenceClassification",
    "FamilyConfig",
    "FamilyForSequenceClassification",
    "StaticConfig",
    "StaticForSequenceClassification",
    "StaticForTokenClassification",
    "Student",
    "StudentConfig",
    "StudentForSequenceClassification",
    "StudentForTokenClassification",
    "TasksConfig",
    "TasksForSequenceClassification",
    "is_student",
]
