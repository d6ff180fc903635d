"""Losses against the teacher's attributions, token by token."""

from torch import Tensor

from eyas.errors import ModelError
from eyas.losses.base import Fields, Loss
from eyas.losses.hidden_states import masked_mean
from eyas.losses.layer_mapping import normalized
from eyas.losses.schedules import Schedule
from eyas.tasks import Task


class AttributionLoss(Loss):
    """Squared error of attribution maps, one per label, each scaled to norm 1 over its text.

    The mean over tokens and the sum over labels, as in the authors' code; the two maps of a binary decision are the
    same, and count once. A token's attribution is the norm of gradient times input, [batch, labels, length, size].
    The input is the word vector, which students of every architecture have; the authors take the embedding layer's
    output. Each step costs one backward pass per label through both models. The student must tokenize like the teacher.

    Args:
        dimensions: use only this many of the teacher's dimensions, the largest per token; None = all.
    """

    paper = "AD-KD, Wu et al. 2023, eq. 5 to 8"
    student_fields = frozenset({"logits", "attributions"})
    teacher_fields = frozenset({"attributions"})
    of_whole_texts = True

    def __init__(self, dimensions: int | None = None, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.dimensions = dimensions

    def check(self, task: Task) -> None:
        """Raises ModelError for taggers and for tasks with several decisions per text."""
        super().check(task)
        if len(task.groups) > 1:
            raise ModelError(
                f"AttributionLoss needs one decision per text; this is {task.describe()}. Choose another recipe."
            )

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        student_mask = batch["attention_mask"]
        mask = (student_mask.bool() & teacher.get("attention_mask", student_mask).bool()).unsqueeze(1)
        target = teacher["attributions"].abs()
        if self.dimensions is not None and self.dimensions < target.shape[-1]:
            target = target.topk(self.dimensions, -1).values
        maps, target = (normalized(self._norm(values) * mask) for values in (student["attributions"], target))
        labels = maps.shape[1]
        return masked_mean((maps - target).square(), mask.expand_as(maps)) * (1 if labels == 2 else labels)

    @staticmethod
    def _norm(values: Tensor) -> Tensor:
        # The square root has no gradient at zero, the value of padding.
        return (values.float().square().sum(-1) + 1e-24).sqrt()
