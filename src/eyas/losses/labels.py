"""Losses against the hard labels."""

from torch import Tensor

from eyas.losses.base import Fields, Loss
from eyas.models.objective import task_loss


class HardLabelLoss(Loss):
    """The task's own objective with the gold labels, mean over the labeled rows; 0 in a batch without any.

    Cross-entropy (over every aspect), squared error, or binary cross-entropy; of a student with a CRF the negative
    log-likelihood of the sequence, which it gives itself.
    """

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        if student.get("sequence_loss") is not None:
            loss: Tensor = student["sequence_loss"]
            return loss
        return task_loss(self.task_of(batch, student), student["logits"], batch["labels"])
