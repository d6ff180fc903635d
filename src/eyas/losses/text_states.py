"""Losses against one vector per text: the first token's state, or the mean of the tokens."""

import logging
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.losses.base import Fields, Loss
from eyas.losses.hidden_states import HiddenStateLoss, StateLoss
from eyas.losses.layer_mapping import Fixed, LayerMapping, Pairs, normalized
from eyas.losses.schedules import Schedule
from eyas.models.inside import mean_of_tokens
from eyas.tasks import Task

logger = logging.getLogger("eyas")

# Targets of different texts with a larger cosine are taken for the same.
CONSTANT = 0.995


class PKDLoss(HiddenStateLoss):
    """Mean squared error of one vector per text, scaled to norm 1: the first token's state.

    As in the authors' code, the mean is over the states' elements, so the loss is smaller for larger hidden sizes. The
    first training batch is checked: if the teacher's vectors are nearly the same for all texts, a warning says that
    they teach nothing.

    Args:
        normalize: scale the states to norm 1; ALP-KD does not.
        pooling: "first" token, as in the paper, or the "mean" of the tokens, for teachers that were trained with it.
    """

    paper = "Patient KD, Sun et al. 2019, eq. 7"
    of_whole_texts = True

    def __init__(
        self,
        mapping: str | LayerMapping | Pairs = "skip",
        normalize: bool = True,
        weight: float | Schedule = 1.0,
        *,
        pooling: Literal["first", "mean"] = "first",
    ) -> None:
        super().__init__(mapping, weight)
        self.normalize, self.pooling = normalize, pooling
        self._is_checked = False

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        if not self._is_checked and torch.is_grad_enabled():
            self._is_checked = True
            self._check_targets(teacher["hidden_states"][1:], len(student["hidden_states"]) - 1, batch)
        return super().forward(student, teacher, batch, progress)

    def _check_targets(self, states: Sequence[Tensor], student_layers: int, batch: Fields) -> None:
        """Warn if the targets of this batch are nearly the same for all texts."""
        mask, count = batch["attention_mask"].bool(), len(states[0])
        fixed = self.mapping.pairs(student_layers, len(states)) if isinstance(self.mapping, Fixed) else []
        taught = sorted({layer for _, layer in fixed}) or range(1, len(states) + 1)
        constant = []
        for layer in taught if count > 1 else ():
            vectors = normalized(self.seen(states[layer - 1].detach(), mask).float())
            mean_cosine = (vectors.sum(0).square().sum() - count) / (count * (count - 1))
            constant += [layer] if float(mean_cosine) > CONSTANT else []
        if constant:
            seen, hint = "mean of the tokens", ""
            if self.pooling == "first":
                seen, hint = "first token", " Compare the mean of the tokens instead (pooling=mean)."
            logger.warning(
                "%s: in %d of the %d layers that teach (%s), the teacher's %s is nearly the same for every text, so "
                "there is nothing to learn from it.%s",
                type(self).__name__, len(constant), len(taught), ", ".join(map(str, constant)), seen, hint,
            )  # fmt: skip

    def seen(self, states: Tensor, mask: Tensor) -> Tensor:
        return states[:, 0] if self.pooling == "first" else mean_of_tokens(states, mask)

    def scaled(self, states: Tensor) -> Tensor:
        return normalized(states) if self.normalize else states

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return F.mse_loss(student, teacher)


class RandomLayerLoss(Loss):
    """Distance of the mean of the tokens, for as many random teacher layers as the student has, in order.

    The layers are drawn anew in each epoch. Both sides are projected to a common size and scaled to norm 1; the norm of
    the difference is averaged over texts and layers.

    Args:
        size: of the projections.
        joined: project the concatenated layers together instead of each on its own.
    """

    paper = "RAIL-KD, Haidar et al. 2022, eq. 3 to 6"
    student_fields = frozenset({"hidden_states"})
    teacher_fields = frozenset({"hidden_states"})
    of_whole_texts = True

    def __init__(self, size: int = 128, joined: bool = False, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.size, self.joined = size, joined
        self.student_projections, self.teacher_projections = nn.ModuleList(), nn.ModuleList()

    def check_models(self, student: Any, teacher: Any) -> None:
        """Raises ModelError if the student has more layers than the teacher."""
        super().check_models(student, teacher)
        if student.num_hidden_layers > teacher.num_hidden_layers:
            raise ModelError(
                f"rail-kd draws a teacher layer for each of the student's, but the student has "
                f"{student.num_hidden_layers} layers and the teacher {teacher.num_hidden_layers}. Lower layers "
                "(--layers)."
            )

    def prepare(self, student: Any, teacher: Any) -> None:
        """Create the projections of both sides."""
        super().prepare(student, teacher)
        count = 1 if self.joined else student.num_hidden_layers
        factor = student.num_hidden_layers if self.joined else 1

        def projections(size: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Linear(size * factor, self.size) for _ in range(count))

        self.student_projections = projections(student.hidden_size)
        self.teacher_projections = projections(teacher.hidden_size)

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        ours, theirs = student["hidden_states"][1:], teacher["hidden_states"][1:]
        generator = torch.Generator().manual_seed(torch.initial_seed() % 2**32 + int(batch.get("epoch", 0)))
        drawn = torch.randperm(len(theirs), generator=generator)[: len(ours)].sort().values.tolist()
        return self.compare(ours, [theirs[layer] for layer in drawn], batch["attention_mask"].bool())

    def compare(self, student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
        """The loss of pairs of layers, [batch, length, size] each."""
        sides = ((self.student_projections, student), (self.teacher_projections, teacher))
        ours, theirs = (self._projected(projections, states, mask) for projections, states in sides)
        return torch.stack([(a - b).norm(dim=-1).mean() for a, b in zip(ours, theirs, strict=True)]).mean()

    def _projected(self, projections: nn.ModuleList, states: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
        means = [mean_of_tokens(layer, mask) for layer in states]
        means = [torch.cat(means, -1)] if self.joined else means
        return [normalized(project(mean)) for project, mean in zip(projections, means, strict=True)]


class LastStateLoss(StateLoss):
    """Mean squared error of the input of a reused head: the last layer's first token.

    If the teacher's head pools by mean (`classifier_pooling`, ModernBERT), the mean of the last layer's tokens.
    """

    paper = "SimKD, Chen et al. 2022, eq. 4"
    of_whole_texts = True
    needs = "as wide as the teacher"
    projects = False

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.mean = False

    def check_models(self, student: Any, teacher: Any) -> None:
        """Raises ModelError if the hidden sizes differ, because the student gets the teacher's head."""
        if student.hidden_size != teacher.hidden_size:
            raise ModelError(
                f"simkd gives the student the teacher's head: expected hidden size {teacher.hidden_size}, got "
                f"{student.hidden_size}. Use --student bert with --layers."
            )

    def prepare(self, student: Any, teacher: Any) -> None:
        self.mean = getattr(teacher, "classifier_pooling", None) == "mean"

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].unsqueeze(-1)

        def read(states: Tensor) -> Tensor:
            return (states * mask).sum(1) / mask.sum(1) if self.mean else states[:, 0]

        return F.mse_loss(read(student["hidden_states"][-1]), read(teacher["hidden_states"][-1]))


class TeacherCasesLoss(Loss):
    """Cross-entropy of four cases, told by the student's first token: is the teacher right, and is it sure?

    Texts without a label are left out.

    Args:
        sure_right: the probability above which a right teacher is sure.
        sure_wrong: the same of a wrong one.
    """

    paper = "Pea-KD, Cho & Kang 2022, section 3.3 (pretraining with the teacher's predictions)"
    student_fields = frozenset({"hidden_states"})
    teacher_fields = frozenset({"logits"})
    of_whole_texts = True

    def __init__(self, sure_right: float = 0.95, sure_wrong: float = 0.75, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        for name, value in (("sure_right", sure_right), ("sure_wrong", sure_wrong)):
            if not 0 < value < 1:
                raise ModelError(f"{name} is {value}, expected a probability between 0 and 1.")
        self.sure_right, self.sure_wrong = sure_right, sure_wrong
        self.head: nn.Module = nn.Identity()  # until `prepare`

    @property
    def reads_layers(self) -> bool:
        return True  # so that `prepare` makes the head

    def check(self, task: Task) -> None:
        super().check(task)
        if not task.is_single_label:
            raise ModelError(
                f"TeacherCasesLoss needs one label per text, got {task.describe()}. Choose another recipe."
            )

    def prepare(self, student: Any, teacher: Any) -> None:
        self.head = nn.Linear(student.hidden_size, 4)

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        labels = batch["labels"]
        cases = self.cases(teacher["logits"], labels).masked_fill(labels < 0, -100)
        logits = self.head(student["hidden_states"][-1][:, 0].float())
        return F.cross_entropy(logits, cases, reduction="sum") / (cases >= 0).sum().clamp_min(1)

    def cases(self, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        """[texts] 0: right and sure, 1: right, 2: wrong and sure, 3: wrong."""
        sure, found = teacher_logits.float().softmax(-1).max(-1)
        right = found == labels
        return torch.where(right, (sure <= self.sure_right).long(), 2 + (sure <= self.sure_wrong).long())
