"""Losses against the hard labels."""

from torch import Tensor

from eyas.losses.base import Fields, Loss
from eyas.models.objective import task_loss


class HardLabelLoss(Loss):
    """The task's standard loss with the gold labels, averaged over the labeled rows; 0 if there are none.

    Cross-entropy (averaged over aspects), squared error or binary cross-entropy. A student with a CRF computes its own:
    the negative log-likelihood of the sequence.
    """

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        if student.get("sequence_loss") is not None:
            loss: Tensor = student["sequence_loss"]
            return loss
        return task_loss(self.task_of(batch, student), student["logits"], batch["labels"])
