"""The standard loss of each task on gold labels."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from eyas.kinds import Kind
from eyas.tasks import Task


def task_loss(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """Mean loss over the labeled rows; 0 if there are none.

    Args:
        logits: [rows, outputs], for tagging [..., tags].
        labels: classification, tagging, fields [...] int; aspects [rows, aspects] int, all -100 = none; regression
            [rows] float, NaN = none; multi-label [rows, labels] 0 or 1, below 0 = none; vectors [rows, outputs] float.

    Returns:
        A scalar: cross-entropy (averaged over aspects), mean squared error, binary cross-entropy, or one minus the
        cosine.
    """
    return OBJECTIVES[task.kind](task, logits, labels)


def _single_label(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    return _cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


def _squared_error(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    known = torch.isfinite(labels)
    error = torch.where(known, logits.view(-1) - labels.nan_to_num(), 0.0) ** 2
    return error.sum() / known.sum().clamp(min=1)


def _multi_label(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    mask = (labels >= 0).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).to(logits.dtype), mask, reduction="sum")
    return loss / mask.sum().clamp(min=1)


def _aspects(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    terms = []
    for number, columns in enumerate(task.groups):
        local = labels[:, number] - columns[0]
        terms.append(_cross_entropy(logits[:, columns], torch.where(local >= 0, local, -100)))
    return torch.stack(terms).mean()


def _cosine(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(logits, labels, dim=-1).mean()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    total = F.cross_entropy(logits, labels, reduction="sum", ignore_index=-100)
    return total / (labels != -100).sum().clamp(min=1)


OBJECTIVES: dict[Kind, Callable[[Task, Tensor, Tensor], Tensor]] = {
    "classification": _single_label,
    "tagging": _single_label,
    "regression": _squared_error,
    "multi-label": _multi_label,
    "aspects": _aspects,
    "fields": _single_label,
    "vectors": _cosine,
}


def distributions(task: Task, logits: Tensor) -> list[Tensor]:
    """Logits of each decision, [rows, choices] each; their softmax gives the predicted probabilities.

    Multi-label gives one tensor [rows, labels, 2], absent and present; regression and vectors give none.
    """
    if not task.decides:
        return []
    if task.has_binary_outputs:
        return [torch.stack([torch.zeros_like(logits), logits], -1)]
    return [logits] if task.is_single_label else [logits[..., columns] for columns in task.groups]
