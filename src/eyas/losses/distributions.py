"""Losses against the teacher's predicted distributions (the soft targets)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import CLOSED, Distance, Fields, Loss, kl_divergences, mean_over_decisions
from eyas.losses.schedules import Schedule, at, linear
from eyas.tasks import Task


class DistributionLoss(Loss):
    """Compares the predicted distributions of each decision."""

    teacher_fields = frozenset({"logits"})

    def over_decisions(self, student: Fields, teacher: Fields, batch: Fields, distance: Distance) -> Tensor:
        """Mean `distance` over the decisions; squared error for tasks without decisions."""
        return mean_over_decisions(self.task_of(batch, student), student["logits"], teacher["logits"], distance)


class SoftTargetLoss(DistributionLoss):
    """Kullback-Leibler divergence of softened predictions, times temperature squared.

    The mean is over the batch and the decisions of each text (several for aspects and multi-label). Regression uses
    squared error.

    Args:
        temperature: a number or a schedule, above 0.
        per_class: also divide by the number of classes, as the code of Patient KD, TinyBERT, BERT-EMD and MLKD-BERT
            does.
    """

    paper = "Hinton et al. 2015, section 2.1"

    def __init__(
        self, temperature: float | Schedule = 2.0, weight: float | Schedule = 1.0, *, per_class: bool = False
    ) -> None:
        super().__init__(weight)
        self.temperature, self.per_class = temperature, per_class

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        temperature = at(self.temperature, progress)

        def distance(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
            found = self.softened(student_logits / temperature, teacher_logits / temperature, temperature)
            return found / student_logits.shape[-1] if self.per_class else found

        return self.over_decisions(student, teacher, batch, distance)

    def softened(self, student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        """The distance of logits that are divided by the temperature."""
        return _divergence(student_logits, teacher_logits) * temperature**2


class SoftCrossEntropyLoss(SoftTargetLoss):
    """Cross-entropy with the teacher's softened predictions, not multiplied by temperature squared.

    Its gradient is that of `SoftTargetLoss` divided by the temperature squared.
    """

    paper = "TinyBERT, Jiao et al. 2020, eq. 10"

    def __init__(
        self, temperature: float | Schedule = 1.0, weight: float | Schedule = 1.0, *, per_class: bool = False
    ) -> None:
        super().__init__(temperature, weight, per_class=per_class)

    def softened(self, student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        return _cross_entropy(student_logits, teacher_logits)


class LogitStandardizationLoss(SoftTargetLoss):
    """`SoftTargetLoss` of z-scored logits: compares their shape, not their scale.

    As in the authors' code, the standard deviation is the unbiased one.
    """

    paper = "Logit Standardization, Sun et al. 2024, eq. 11"

    def check(self, task: Task) -> None:
        """Raises ModelError for decisions between two classes: their z-scores are always 1 and -1."""
        if any(len(group) == 2 for group in task.groups):
            raise ModelError(
                f"{type(self).__name__} needs at least three classes per decision; this is {task.describe()}. Choose "
                "another loss."
            )

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        temperature = at(self.temperature, progress)

        def distance(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
            student_scores, teacher_scores = _z_scores(student_logits), _z_scores(teacher_logits)
            return self.softened(student_scores / temperature, teacher_scores / temperature, temperature)

        return self.over_decisions(student, teacher, batch, distance)


class JensenShannonLoss(DistributionLoss):
    """Jensen-Shannon divergence of the predictions: symmetric, at most log 2."""

    paper = "Lin 1991"

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        return self.over_decisions(student, teacher, batch, _jensen_shannon)


class DKDLoss(DistributionLoss):
    """Divergence of the target class against the rest, plus divergence within the rest, weighted separately.

    The target is the label of a text with one label, otherwise (unlabeled, aspects, multi-label) the teacher's
    prediction.

    Args:
        temperature: of both parts.
        target_weight: of the first part (1 in the paper).
        rest_weight: of the second part. With two classes, this part is 0.
    """

    paper = "Decoupled Knowledge Distillation, Zhao et al. 2022, eq. 7"

    def __init__(
        self,
        temperature: float | Schedule = 4.0,
        target_weight: float | Schedule = 1.0,
        rest_weight: float | Schedule = 8.0,
        weight: float | Schedule = 1.0,
    ) -> None:
        super().__init__(weight)
        self.temperature, self.target_weight, self.rest_weight = temperature, target_weight, rest_weight

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        labels = batch.get("labels")
        choices = student["logits"].shape[-1]
        temperature = at(self.temperature, progress)
        target_weight, rest_weight = at(self.target_weight, progress), at(self.rest_weight, progress)

        def distance(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
            target = teacher_logits.argmax(-1)
            if labels is not None and labels.shape == target.shape and student_logits.shape[-1] == choices:
                target = torch.where(labels >= 0, labels, target)
            chosen = F.one_hot(target, student_logits.shape[-1]).bool()
            student_logits, teacher_logits = student_logits / temperature, teacher_logits / temperature
            binary = _divergence(_against_rest(student_logits, chosen), _against_rest(teacher_logits, chosen))
            rest = _divergence(student_logits.masked_fill(chosen, CLOSED), teacher_logits.masked_fill(chosen, CLOSED))
            return (target_weight * binary + rest_weight * rest) * temperature**2

        return self.over_decisions(student, teacher, batch, distance)


class DISTLoss(DistributionLoss):
    """One minus Pearson's correlation of predictions, over classes and over the batch.

    Args:
        temperature: of both predictions.
        class_weight: of the correlation over the batch, class by class.
    """

    paper = "Knowledge Distillation from a Stronger Teacher, Huang et al. 2022, eq. 9"

    def __init__(
        self, temperature: float | Schedule = 1.0, class_weight: float = 1.0, weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(weight)
        self.temperature, self.class_weight = temperature, class_weight

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        temperature = at(self.temperature, progress)

        def distance(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
            student_probs, teacher_probs = (
                (logits / temperature).softmax(-1) for logits in (student_logits, teacher_logits)
            )
            between = (1 - _pearson(student_probs, teacher_probs)).mean()
            within = (1 - _pearson(student_probs.transpose(0, -1), teacher_probs.transpose(0, -1))).mean()
            return (between + self.class_weight * within) * temperature**2

        return self.over_decisions(student, teacher, batch, distance)


class AdaKDLoss(DistributionLoss):
    """Soft targets and labels, weighted per text by its difficulty for the teacher.

    The soft targets' weight is exp(-1 / sqrt(d)) with d = exp(-slope * (x - mean x)), where x is the teacher's
    cross-entropy on the text, and the mean is over the batch. A positive slope trusts the teacher on easy texts, a
    negative one on hard texts; at 0 all weights are 0.37. The weight is 1 for unlabeled texts.

    Args:
        temperature: of the soft targets.
        slope: by default from 1 to -1, so that the teacher teaches easy texts first.
    """

    paper = "AdaKD, Ganguly et al. 2024"

    def __init__(
        self,
        temperature: float | Schedule = 2.0,
        slope: float | Schedule | None = None,
        weight: float | Schedule = 1.0,
    ) -> None:
        super().__init__(weight)
        self.temperature = temperature
        self.slope: float | Schedule = linear(1.0, -1.0) if slope is None else slope

    def check(self, task: Task) -> None:
        """Raises ModelError for tasks other than classification and tagging."""
        if not task.is_single_label:
            raise ModelError(f"AdaKDLoss needs one label per text; this is {task.describe()}. Use soft-targets.")

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        student_logits, teacher_logits, labels = student["logits"], teacher["logits"], batch["labels"]
        known = labels >= 0
        target = labels.clamp(min=0)
        errors = F.cross_entropy(teacher_logits, target, reduction="none")
        mean = (errors * known).sum() / known.sum().clamp(min=1)
        # exp(-1 / sqrt(d)) of d = exp(-slope * (error - mean))
        share = torch.where(known, torch.exp(-torch.exp(at(self.slope, progress) * (errors - mean) / 2)), 1.0)
        temperature = at(self.temperature, progress)
        soft = kl_divergences(student_logits / temperature, teacher_logits / temperature) * temperature**2
        hard = F.cross_entropy(student_logits, target, reduction="none") * known
        loss: Tensor = (share * soft + (1 - share) * hard).mean()
        return loss


def _divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return kl_divergences(student_logits, teacher_logits).mean()


def _cross_entropy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return -(teacher_logits.softmax(-1) * F.log_softmax(student_logits, -1)).sum(-1).mean()


def _jensen_shannon(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    student, teacher = F.log_softmax(student_logits, -1), F.log_softmax(teacher_logits, -1)
    middle = torch.logaddexp(student, teacher) - math.log(2)
    to_student, to_teacher = (side.exp() * (side - middle) for side in (student, teacher))
    return (to_student.sum(-1) + to_teacher.sum(-1)).mean() / 2


def _against_rest(logits: Tensor, chosen: Tensor) -> Tensor:
    """[..., choices] -> [..., 2]: the chosen class, and all others together."""
    rest = logits.masked_fill(chosen, CLOSED).logsumexp(-1)
    return torch.stack([logits[chosen].view(rest.shape), rest], -1)


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    a, b = (values - values.mean(-1, keepdim=True) for values in (a, b))
    correlation: Tensor = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + 1e-8)
    return correlation


def _z_scores(logits: Tensor) -> Tensor:
    scores: Tensor = (logits - logits.mean(-1, keepdim=True)) / (logits.std(-1, keepdim=True) + 1e-7)
    return scores
