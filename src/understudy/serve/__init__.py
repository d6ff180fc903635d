"""Exported models in production: no torch here."""

from understudy.runtime.predictor import Predictor

__all__ = ["Predictor"]
