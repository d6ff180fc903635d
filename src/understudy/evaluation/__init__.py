"""Scores, retention and agreement."""

from understudy.evaluation.classifier import Classifier
from understudy.evaluation.evaluate import evaluate, predict_dataset
from understudy.evaluation.metrics import task_metrics

__all__ = ["Classifier", "evaluate", "predict_dataset", "task_metrics"]
