"""Losses against what the teacher's predictions rest on, token by token."""

from torch import Tensor

from eyas.errors import ModelError
from eyas.losses.base import Fields, Loss
from eyas.losses.hidden_states import masked_mean
from eyas.losses.layer_mapping import normalized
from eyas.losses.schedules import Schedule
from eyas.tasks import Task


class AttributionLoss(Loss):
    """Squared error of attribution maps, each of length 1 over its text.

    A token's attribution is the length of its gradient times input, [batch, labels, length, size]; there is a map for
    each label, and a step costs a pass back through both models for each of them. Any student has them that reads the
    teacher's tokens; one text at a time.

    Args:
        dimensions: of the teacher's, how many with the largest values count; None = all.
    """

    paper = "AD-KD, Wu et al. 2023, eq. 5 to 8"
    student_fields = frozenset({"logits", "attributions"})
    teacher_fields = frozenset({"attributions"})
    of_whole_texts = True

    def __init__(self, dimensions: int | None = None, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.dimensions = dimensions

    def check(self, task: Task) -> None:
        """Raises ModelError for taggers, and where a text needs several decisions."""
        super().check(task)
        if len(task.groups) > 1:
            raise ModelError(
                f"AttributionLoss is of one decision a text; this is {task.describe()}. Choose another recipe."
            )

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        student_mask = batch["attention_mask"]
        mask = (student_mask.bool() & teacher.get("attention_mask", student_mask).bool()).unsqueeze(1)
        target = teacher["attributions"].abs()
        if self.dimensions is not None and self.dimensions < target.shape[-1]:
            target = target.topk(self.dimensions, -1).values
        maps, target = (normalized(self._length(values) * mask) for values in (student["attributions"], target))
        return masked_mean((maps - target).square(), mask.expand_as(maps))

    @staticmethod
    def _length(values: Tensor) -> Tensor:
        # The root has no slope at zero, where padding is.
        return (values.float().square().sum(-1) + 1e-24).sqrt()
