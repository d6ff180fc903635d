"""The students: ordinary Hugging Face models. `import eyas.models` registers them with the Auto classes."""

from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from eyas.models.bilstm import BiLSTMForSequenceClassification, BiLSTMForTokenClassification
from eyas.models.cnn import CNNForSequenceClassification, CNNForTokenClassification
from eyas.models.cnn_lstm import CNNLSTMForSequenceClassification, CNNLSTMForTokenClassification
from eyas.models.configuration import (
    BiLSTMConfig,
    CINConfig,
    CNNConfig,
    CNNLSTMConfig,
    DAGFMConfig,
    EnsembleConfig,
    FamilyConfig,
    StaticConfig,
    StudentConfig,
    TasksConfig,
)
from eyas.models.ensemble import MEMBERS, EnsembleForSequenceClassification
from eyas.models.family import TAGGERS, FamilyForSequenceClassification
from eyas.models.fields import (
    FIELD_MODELS,
    CINForSequenceClassification,
    DAGFMForSequenceClassification,
    FieldsForSequenceClassification,
)
from eyas.models.gru import GRUConfig, GRUForConditionalGeneration
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
_others: tuple[Any, ...] = (
    EnsembleForSequenceClassification,
    FamilyForSequenceClassification,
    TasksForSequenceClassification,
    *dict.fromkeys(FIELD_MODELS.values()),
)
for _other in _others:
    AutoConfig.register(_other.config_class.model_type, _other.config_class)
    AutoModelForSequenceClassification.register(_other.config_class, _other)
AutoConfig.register(GRUConfig.model_type, GRUConfig)
AutoModelForSeq2SeqLM.register(GRUConfig, GRUForConditionalGeneration)

__all__ = [
    "FIELD_MODELS",
    "STUDENTS",
    "TAGGERS",
    "BiLSTMConfig",
    "BiLSTMForSequenceClassification",
    "BiLSTMForTokenClassification",
    "CINConfig",
    "CINForSequenceClassification",
    "CNNConfig",
    "CNNForSequenceClassification",
    "CNNForTokenClassification",
    "CNNLSTMConfig",
    "CNNLSTMForSequenceClassification",
    "CNNLSTMForTokenClassification",
    "DAGFMConfig",
    "DAGFMForSequenceClassification",
    "EnsembleConfig",
    "EnsembleForSequenceClassification",
    "FamilyConfig",
    "FamilyForSequenceClassification",
    "FieldsForSequenceClassification",
    "GRUConfig",
    "GRUForConditionalGeneration",
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
