"""What a recipe returns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.losses import Loss


@dataclass(frozen=True)
class Stage:
    """One training run of a recipe.

    Args:
        losses: the terms of the objective.
        arguments: fields of `DistillationArguments` this stage sets; what the user sets wins.
    """

    losses: Sequence[Loss]
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def needs_teacher(self) -> bool:
        return any(loss.teacher_fields for loss in self.losses)
