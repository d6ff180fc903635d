"""What a recipe returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel

from eyas.losses import Loss
from eyas.losses.schedules import Schedule
from eyas.models.inside import LAYER_FIELDS

# Model in, model out, the same one changed or another; the same for the same model, so that a resumed run repeats it.
Transform = Callable[[PreTrainedModel], PreTrainedModel]


@dataclass(frozen=True)
class Stage:
    """One training run of a recipe.

    Args:
        losses: the terms of the objective.
        arguments: fields of `DistillationArguments` this stage sets; what the user sets wins.
        share: of the training's steps; by default all stages have the same.
        frozen: modules whose parameters stay as they are in this stage.
        replacing: how often the student's layers are used in place of the teacher's; see `eyas.training.theseus`.
        before: what happens to the student before this stage, such as a compression.
        finish: what happens to it after the stage, such as baking a parametrization into its weights.
    """

    losses: Sequence[Loss]
    arguments: dict[str, Any] = field(default_factory=dict)
    share: float | None = None
    frozen: tuple[str, ...] = ()
    replacing: Schedule | None = None
    before: Transform | None = None
    finish: Transform | None = None

    @property
    def needs_teacher(self) -> bool:
        return bool(self.teacher_fields)

    @property
    def teacher_fields(self) -> frozenset[str]:
        """What the teacher must give."""
        return frozenset().union(*(loss.teacher_fields for loss in self.losses))

    @property
    def needs_layers(self) -> bool:
        """Whether the teacher must run in every step: logits can be kept, layers are too large."""
        return bool(self.teacher_fields - {"logits"}) or self.replacing is not None

    @property
    def is_for_transformers(self) -> bool:
        """Whether the student must have layers like the teacher's."""
        return any(loss.student_fields & LAYER_FIELDS for loss in self.losses) or self.replacing is not None
