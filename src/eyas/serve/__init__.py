"""Exported models in production: no torch here."""

from eyas.runtime.openvino import OpenVINOPredictor
from eyas.runtime.predictor import Predictor

__all__ = ["OpenVINOPredictor", "Predictor"]
