"""The students: ordinary Hugging Face models, known to the Auto classes after `import understudy.models`."""

from transformers import AutoConfig, AutoModelForSequenceClassification

from understudy.models.bilstm import BiLSTMForSequenceClassification
from understudy.models.cnn import CNNForSequenceClassification
from understudy.models.cnn_lstm import CNNLSTMForSequenceClassification
from understudy.models.configuration import (
    BiLSTMConfig,
    CNNConfig,
    CNNLSTMConfig,
    StaticConfig,
    StudentConfig,
)
from understudy.models.heads import StudentForSequenceClassification, is_student
from understudy.models.static import StaticForSequenceClassification

STUDENTS: dict[str, type[StudentForSequenceClassification]] = {
    "static": StaticForSequenceClassification,
    "cnn": CNNForSequenceClassification,
    "bilstm": BiLSTMForSequenceClassification,
    "cnn-lstm": CNNLSTMForSequenceClassification,
}

for _model in STUDENTS.values():
    AutoConfig.register(_model.config_class.model_type, _model.config_class)
    AutoModelForSequenceClassification.register(_model.config_class, _model)

__all__ = [
    "STUDENTS",
    "BiLSTMConfig",
    "BiLSTMForSequenceClassification",
    "CNNConfig",
    "CNNForSequenceClassification",
    "CNNLSTMConfig",
    "CNNLSTMForSequenceClassification",
    "StaticConfig",
    "StaticForSequenceClassification",
    "StudentConfig",
    "StudentForSequenceClassification",
    "is_student",
]
