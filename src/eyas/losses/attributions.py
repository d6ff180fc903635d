"""Losses against what the teacher's predictions rest on, token by token."""

from torch import Tensor

from eyas.errors import ModelError
from eyas.losses.base import Fields, Loss
from eyas.losses.hidden_states import masked_mean
from eyas.losses.layer_mapping import normalised
from eyas.losses.schedules import Schedule
from eyas.tasks import Task


class AttributionLoss(Loss):
    """Squared error of attribution maps, each of length 1 over its text (AD-KD, Wu et al. 2023, eq. 5 to 8).

    A token's attribution is the length of its gradient times input, [batch, labels, length, size]; there is a map for
    each label, and a step costs a pass back through both models for each of them. Any student has them that reads the
    teacher's tokens; one text at a time.

    Args:
        dimensions: of the teacher's, how many with the largest values count; None = all.
    """

    student_fields: frozenset[str] = frozenset({"logits", "attributions"})
    teacher_fields: frozenset[str] = frozenset({"attributions"})
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

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        ours_read = batch["attention_mask"]
        mask = (ours_read.bool() & teacher.get("attention_mask", ours_read).bool()).unsqueeze(1)
        theirs = teacher["attributions"].abs()
        if self.dimensions is not None and self.dimensions < theirs.shape[-1]:
            theirs = theirs.topk(self.dimensions, -1).values
        ours, theirs = (normalised(self._length(values) * mask) for values in (student["attributions"], theirs))
        return masked_mean((ours - theirs).square(), mask.expand_as(ours))

    @staticmethod
    def _length(values: Tensor) -> Tensor:
        # The root has no slope at zero, where padding is.
        return (values.float().square().sum(-1) + 1e-24).sqrt()
