"""Terms of the objective: one class each, in the file of its kind."""

from understudy.losses import schedules
from understudy.losses.base import Loss
from understudy.losses.labels import HardLabelLoss
from understudy.losses.logits import LogitMSELoss, SoftTargetLoss

__all__ = ["HardLabelLoss", "LogitMSELoss", "Loss", "SoftTargetLoss", "schedules"]
