"""Losses against the hard labels."""

from torch import Tensor
from torch.nn import functional as F

from understudy.losses.base import Fields, Loss


class HardLabelLoss(Loss):
    """Cross-entropy with the gold labels, mean over the labelled rows; 0 in a batch without any."""

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        labels = batch["labels"]
        total = F.cross_entropy(student["logits"], labels, reduction="sum")
        mean: Tensor = total / (labels != -100).sum().clamp(min=1)
        return mean
