"""Losses against the teacher's logits (the soft targets)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import Fields, Loss
from eyas.losses.schedules import Schedule, at
from eyas.models.objective import distributions
from eyas.tasks import Task

# Lower than any logit, and finite.
CLOSED = -1e9


class LogitMSELoss(Loss):
    """Mean squared error of raw logits, without temperature (Ba & Caruana 2014; Tang et al. 2019, eq. 2).

    The mean is over classes and batch. A CRF has no logits but log-probabilities of tags given the sentence: they are
    matched by Kullback-Leibler divergence instead (Wang et al. 2020, "Structure-level KD", token posteriors).
    """

    teacher_fields: frozenset[str] = frozenset({"logits"})

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        if batch.get("posteriors"):
            return _divergence(student["logits"], teacher["logits"])
        return F.mse_loss(student["logits"], teacher["logits"])


class _DistributionLoss(Loss):
    """Compares, for every decision about a text, the two distributions over its choices."""

    teacher_fields: frozenset[str] = frozenset({"logits"})

    def _mean(
        self, student: Fields, teacher: Fields, batch: Fields, distance: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Mean `distance` (of logits [..., choices]) over the decisions; a regression's squared error."""
        task = self.task_of(batch, student)
        pairs = zip(distributions(task, student["logits"]), distributions(task, teacher["logits"]), strict=True)
        terms = [distance(ours, theirs) for ours, theirs in pairs]
        return torch.stack(terms).mean() if terms else F.mse_loss(student["logits"], teacher["logits"])


class SoftTargetLoss(_DistributionLoss):
    """Kullback-Leibler divergence of softened predictions, times temperature squared (Hinton et al. 2015, 2.1).

    The mean is over the batch, and over the decisions where a text needs several (aspects, labels that are there or
    not); a regression, which has none, is taught by squared error. Patient KD's code divides by the classes as well:
    its weights are on another scale.

    Args:
        temperature: a number or a schedule, above 0.
    """

    def __init__(self, temperature: float | Schedule = 2.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        temperature = at(self.temperature, progress)

        def distance(ours: Tensor, theirs: Tensor) -> Tensor:
            return _divergence(ours / temperature, theirs / temperature) * temperature**2

        return self._mean(student, teacher, batch, distance)


class SoftCrossEntropyLoss(SoftTargetLoss):
    """Cross-entropy with the teacher's softened predictions (TinyBERT, Jiao et al. 2020, eq. 10), not scaled.

    Its gradient is that of `SoftTargetLoss` divided by the temperature squared.
    """

    def __init__(self, temperature: float | Schedule = 1.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(temperature, weight)

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        temperature = at(self.temperature, progress)
        return self._mean(
            student, teacher, batch, lambda ours, theirs: _cross_entropy(ours / temperature, theirs / temperature)
        )


class JensenShannonLoss(_DistributionLoss):
    """Jensen-Shannon divergence of the predictions: symmetric, at most log 2 (Lin 1991)."""

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        return self._mean(student, teacher, batch, _jensen_shannon)


class CosineLogitLoss(_DistributionLoss):
    """One minus the cosine of the logits, or of sentence vectors: their direction, not their length."""

    def check(self, task: Task) -> None:
        """Raises ModelError for several labels: one logit has a sign and no other direction."""
        if task.kind == "multi-label":
            raise ModelError(f"{type(self).__name__} compares the logits of a choice; this is {task.describe()}.")

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        if batch.get("posteriors"):
            return _divergence(student["logits"], teacher["logits"])
        if self.task_of(batch, student).kind == "vectors":
            return _angle(student["logits"], teacher["logits"])
        return self._mean(student, teacher, batch, _angle)


def _angle(ours: Tensor, theirs: Tensor) -> Tensor:
    return (1 - F.cosine_similarity(ours, theirs, dim=-1)).mean()


class HuberLogitLoss(Loss):
    """Squared error of raw logits up to `delta`, absolute error beyond (Huber 1964)."""

    teacher_fields: frozenset[str] = frozenset({"logits"})

    def __init__(self, delta: float = 1.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.delta = delta

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        if batch.get("posteriors"):
            return _divergence(student["logits"], teacher["logits"])
        return F.huber_loss(student["logits"], teacher["logits"], delta=self.delta)


class DecoupledLoss(_DistributionLoss):
    """Target class against the rest, and the rest among themselves, weighted apart (DKD, Zhao et al. 2022, eq. 7).

    The target is the label, or where there is none the teacher's choice.

    Args:
        temperature: of both.
        target_weight: of the first part (1 there).
        rest_weight: of the second (2 to 8 there), which is 0 with two classes.
    """

    def __init__(
        self,
        temperature: float | Schedule = 2.0,
        target_weight: float | Schedule = 1.0,
        rest_weight: float | Schedule = 4.0,
        weight: float | Schedule = 1.0,
    ) -> None:
        super().__init__(weight)
        self.temperature, self.target_weight, self.rest_weight = temperature, target_weight, rest_weight

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        labels = batch.get("labels")
        choices = student["logits"].shape[-1]
        temperature = at(self.temperature, progress)
        weights = at(self.target_weight, progress), at(self.rest_weight, progress)

        def parts(ours: Tensor, theirs: Tensor) -> Tensor:
            target = theirs.argmax(-1)
            if labels is not None and labels.shape == target.shape and ours.shape[-1] == choices:
                target = torch.where(labels >= 0, labels, target)
            chosen = F.one_hot(target, ours.shape[-1]).bool()
            mine, yours = ((logits / temperature) for logits in (ours, theirs))
            binary = _divergence(_against_rest(mine, chosen), _against_rest(yours, chosen))
            rest = _divergence(mine.masked_fill(chosen, CLOSED), yours.masked_fill(chosen, CLOSED))
            return (weights[0] * binary + weights[1] * rest) * temperature**2

        return self._mean(student, teacher, batch, parts)


class PearsonLoss(_DistributionLoss):
    """One minus Pearson's correlation of predictions, over classes and over the batch (DIST, Huang et al. 2022, eq. 9).

    Args:
        temperature: of both predictions.
        class_weight: of the correlation over the batch, class by class.
    """

    def __init__(
        self, temperature: float | Schedule = 1.0, class_weight: float = 1.0, weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(weight)
        self.temperature, self.class_weight = temperature, class_weight

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        temperature = at(self.temperature, progress)

        def parts(ours: Tensor, theirs: Tensor) -> Tensor:
            mine, yours = ((logits / temperature).softmax(-1) for logits in (ours, theirs))
            between = (1 - _pearson(mine, yours)).mean()
            within = (1 - _pearson(mine.transpose(0, -1), yours.transpose(0, -1))).mean()
            return (between + self.class_weight * within) * temperature**2

        return self._mean(student, teacher, batch, parts)


class StandardisedLoss(SoftTargetLoss):
    """`SoftTargetLoss` of z-scored logits (Sun et al. 2024, "Logit Standardization", eq. 11): their shape, no scale."""

    def check(self, task: Task) -> None:
        """Raises ModelError where there are two things to choose from: their z-scores are always 1 and -1."""
        if any(len(group) == 2 for group in task.groups):
            raise ModelError(
                f"{type(self).__name__} needs three things or more to choose from; this is {task.describe()}. Choose "
                "another loss."
            )

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        temperature = at(self.temperature, progress)
        return self._mean(
            student,
            teacher,
            batch,
            lambda ours, theirs: (
                _divergence(_z_scores(ours) / temperature, _z_scores(theirs) / temperature) * temperature**2
            ),
        )


class AnnealedMSELoss(Loss):
    """Squared error with the teacher's logits times a factor that grows to 1 (Annealing-KD, Jafari et al. 2021, eq. 2).

    Args:
        factor: a schedule; `schedules.annealing(highest)` is the paper's.
    """

    teacher_fields: frozenset[str] = frozenset({"logits"})

    def __init__(self, factor: float | Schedule, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.factor = factor

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        target = at(self.factor, progress) * teacher["logits"]
        return (
            _divergence(student["logits"], target) if batch.get("posteriors") else F.mse_loss(student["logits"], target)
        )


class ContinuationLoss(AnnealedMSELoss):
    """Annealed squared error of each text, as far as it is above a margin (Continuation-KD, Jafari et al. 2022, eq. 4).

    Args:
        margin: times the factor, what a text may be off without being taught.
    """

    def __init__(self, factor: float | Schedule, margin: float = 1.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(factor, weight)
        self.margin = margin

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        factor = at(self.factor, progress)
        ours, target = student["logits"], factor * teacher["logits"]
        error = _divergences(ours, target) if batch.get("posteriors") else (ours - target).square().sum(-1)
        return F.relu(error - self.margin * factor).mean()


class AdaptiveLoss(_DistributionLoss):
    """Soft targets and labels, weighted for each text by how hard it is for the teacher (AdaKD, Ganguly et al. 2024).

    exp(-1 / sqrt(d)) is the soft targets' weight, d the teacher's own loss on the text; without a label it is 1.

    Args:
        temperature: of the soft targets.
    """

    def __init__(self, temperature: float | Schedule = 2.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def check(self, task: Task) -> None:
        """Raises ModelError for tasks other than classification and tagging."""
        if task.kind not in ("classification", "tagging"):
            raise ModelError(
                f"AdaptiveLoss weighs texts by their one label; this is {task.describe()}. Use soft-targets."
            )

    def __call__(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        ours, theirs, labels = student["logits"], teacher["logits"], batch["labels"]
        known = labels >= 0
        target = labels.clamp(min=0)
        difficulty = F.cross_entropy(theirs, target, reduction="none")
        share = torch.where(known, torch.exp(-difficulty.clamp(min=1e-6).rsqrt()), 1.0)
        temperature = at(self.temperature, progress)
        soft = _divergences(ours / temperature, theirs / temperature) * temperature**2
        hard = F.cross_entropy(ours, target, reduction="none") * known
        loss: Tensor = (share * soft + (1 - share) * hard).mean()
        return loss


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """The mean of `_divergences`."""
    return _divergences(ours, theirs).mean()


def _divergences(ours: Tensor, theirs: Tensor) -> Tensor:
    """KL(theirs || ours) of logits [..., choices], summed over choices: [...]."""
    mine, yours = F.log_softmax(ours, -1), F.log_softmax(theirs, -1)
    return F.kl_div(mine, yours, reduction="none", log_target=True).sum(-1)


def _cross_entropy(ours: Tensor, theirs: Tensor) -> Tensor:
    return -(theirs.softmax(-1) * F.log_softmax(ours, -1)).sum(-1).mean()


def _jensen_shannon(ours: Tensor, theirs: Tensor) -> Tensor:
    mine, yours = F.log_softmax(ours, -1), F.log_softmax(theirs, -1)
    middle = torch.logaddexp(mine, yours) - math.log(2)
    return ((mine.exp() * (mine - middle)).sum(-1) + (yours.exp() * (yours - middle)).sum(-1)).mean() / 2


def _against_rest(logits: Tensor, chosen: Tensor) -> Tensor:
    """[..., choices] -> [..., 2]: the chosen one, and all others together."""
    rest = logits.masked_fill(chosen, CLOSED).logsumexp(-1)
    return torch.stack([logits[chosen].view(rest.shape), rest], -1)


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True), dim=-1)


def _z_scores(logits: Tensor) -> Tensor:
    centred = logits - logits.mean(-1, keepdim=True)
    scores: Tensor = centred / centred.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
    return scores
