"""Scores, retention and agreement."""

from understudy.evaluation.classifier import Classifier
from understudy.evaluation.evaluate import evaluate, predict_dataset
from understudy.evaluation.metrics import classification_metrics

__all__ = ["Classifier", "classification_metrics", "evaluate", "predict_dataset"]
