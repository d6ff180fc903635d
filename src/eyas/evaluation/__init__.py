"""Scores, retention and agreement."""

from eyas.evaluation.evaluate import evaluate, predict_dataset
from eyas.evaluation.metrics import task_metrics
from eyas.models.classifier import Classifier

__all__ = ["Classifier", "evaluate", "predict_dataset", "task_metrics"]
