"""Exported models in production: no torch here."""

from understudy.runtime.openvino import OpenVINOPredictor
from understudy.runtime.predictor import Predictor

__all__ = ["OpenVINOPredictor", "Predictor"]
