"""Losses against the teacher's raw logits."""

from torch import Tensor
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import RawLogitLoss, mean_over_decisions
from eyas.losses.schedules import Schedule, at
from eyas.tasks import Task


class LogitMSELoss(RawLogitLoss):
    """Mean squared error of raw logits, over classes and batch."""

    paper = "Ba & Caruana 2014; Tang et al. 2019, eq. 2"

    def distance(self, student_logits: Tensor, target: Tensor, task: Task, progress: float) -> Tensor:
        return F.mse_loss(student_logits, target)


class HuberLogitLoss(RawLogitLoss):
    """Squared error of raw logits up to `delta`, absolute error beyond."""

    paper = "Huber 1964"

    def __init__(self, delta: float = 1.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.delta = delta

    def distance(self, student_logits: Tensor, target: Tensor, task: Task, progress: float) -> Tensor:
        return F.huber_loss(student_logits, target, delta=self.delta)


class CosineLogitLoss(RawLogitLoss):
    """One minus the cosine of the logits or sentence vectors: compares directions, not norms."""

    paper = "Wu et al. 2020 (SRA), section 3.2"

    def check(self, task: Task) -> None:
        """Raises ModelError for multi-label tasks, which have a single logit per decision."""
        if task.has_binary_outputs:
            raise ModelError(
                f"{type(self).__name__} needs several logits per decision; this is {task.describe()}. Choose another "
                "loss."
            )

    def distance(self, student_logits: Tensor, target: Tensor, task: Task, progress: float) -> Tensor:
        if task.kind == "vectors":
            return _cosine_distance(student_logits, target)
        return mean_over_decisions(task, student_logits, target, _cosine_distance)


class AnnealedMSELoss(RawLogitLoss):
    """Mean squared error to the teacher's logits times a factor that grows to 1.

    Args:
        factor: a schedule; `schedules.annealing(highest)` is the paper's.
    """

    paper = "Annealing-KD, Jafari et al. 2021, eq. 2"

    def __init__(self, factor: float | Schedule, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.factor = factor

    def target(self, teacher_logits: Tensor, progress: float) -> Tensor:
        return at(self.factor, progress) * teacher_logits

    def distance(self, student_logits: Tensor, target: Tensor, task: Task, progress: float) -> Tensor:
        return F.mse_loss(student_logits, target)


class ContinuationLoss(AnnealedMSELoss):
    """Annealed squared error of each text, minus a margin; 0 below it.

    Args:
        margin: multiplied by the factor at each step.
    """

    paper = "Continuation-KD, Jafari et al. 2022, eq. 4"

    def __init__(self, factor: float | Schedule, margin: float = 1.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(factor, weight)
        self.margin = margin

    def distance(self, student_logits: Tensor, target: Tensor, task: Task, progress: float) -> Tensor:
        return self.reduce((student_logits - target).square().sum(-1), progress)

    def reduce(self, errors: Tensor, progress: float) -> Tensor:
        return F.relu(errors - self.margin * at(self.factor, progress)).mean()


def _cosine_distance(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return (1 - F.cosine_similarity(student_logits, teacher_logits, dim=-1)).mean()
