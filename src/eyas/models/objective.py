"""The plain objective of each task: what a model's logits should be where the labels are known."""

import torch
from torch import Tensor
from torch.nn import functional as F

from eyas.tasks import Task


def task_loss(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labelled rows; 0 in a batch without any.

    Args:
        logits: [rows, outputs], for tagging [..., tags].
        labels: classification, tagging [...] int; aspects [rows, aspects] int, all -100 = none; regression [rows]
            float, NaN = none; multi-label [rows, labels] 0 or 1, below 0 = none; vectors [rows, outputs] float.

    Returns:
        Cross-entropy (over every aspect), mean squared error, binary cross-entropy, or one minus the cosine; a scalar.
    """
    if task.kind == "regression":
        known = torch.isfinite(labels)
        error = torch.where(known, logits.view(-1) - labels.nan_to_num(), 0.0) ** 2
        return error.sum() / known.sum().clamp(min=1)
    if task.kind == "vectors":
        return 1 - F.cosine_similarity(logits, labels, dim=-1).mean()
    if task.kind == "multi-label":
        mask = (labels >= 0).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).to(logits.dtype), mask, reduction="sum")
        return loss / mask.sum().clamp(min=1)
    if task.kind == "aspects":
        terms = []
        for number, columns in enumerate(task.groups):
            local = labels[:, number] - columns[0]
            terms.append(_cross_entropy(logits[:, columns], torch.where(local >= 0, local, -100)))
        return torch.stack(terms).mean()
    return _cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    total = F.cross_entropy(logits, labels, reduction="sum", ignore_index=-100)
    return total / (labels != -100).sum().clamp(min=1)


def distributions(task: Task, logits: Tensor) -> list[Tensor]:
    """Logits of each decision's choices, [rows, choices] each: softmax over them is what the model believes.

    Multi-label gives one [rows, labels, 2], absent and there; regression and vectors none.
    """
    if not task.decides:
        return []
    if task.kind == "multi-label":
        return [torch.stack([torch.zeros_like(logits), logits], -1)]
    return [logits[..., columns] for columns in task.groups] if task.kind == "aspects" else [logits]
