"""What a recipe returns."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel

from eyas.compression import Compress
from eyas.errors import ModelError
from eyas.losses import Loss
from eyas.losses.schedules import Schedule, at
from eyas.models.inside import FROM_CACHE, LAYER_FIELDS

# Takes a model and returns it changed, or a new one. Must be deterministic, so that a resumed run repeats it.
Transform = Callable[[PreTrainedModel], PreTrainedModel]


@dataclass(frozen=True)
class Stage:
    """One training run of a recipe.

    Args:
        losses: the terms of the objective.
        arguments: `DistillationArguments` fields that this stage sets; the user's settings take precedence.
        length: of the stage by default, relative to a training in one stage. Given steps or epochs are divided among a
            recipe's stages in proportion.
        frozen: names of modules whose parameters are frozen in this stage.
        replacing: probability of using a student layer in place of the teacher's; see `eyas.training.theseus`.
        before: applied to the student before this stage, such as a compression.
        finish: applied to the student after this stage, such as baking a parametrization into its weights.
        share: of given steps or epochs; `make_stages` sets it.
    """

    losses: Sequence[Loss]
    arguments: dict[str, Any] = field(default_factory=dict)
    length: float = 1.0
    frozen: tuple[str, ...] = ()
    replacing: Schedule | None = None
    before: Transform | None = None
    finish: Transform | None = None
    share: float = 1.0

    @property
    def needs_teacher(self) -> bool:
        return bool(self.teacher_fields)

    @property
    def teacher_fields(self) -> frozenset[str]:
        """The teacher outputs that the losses read."""
        return frozenset().union(*(loss.teacher_fields for loss in self.losses))

    @property
    def needs_layers(self) -> bool:
        """Whether the teacher must run in every step. Logits can be cached; layer outputs are too large."""
        return bool(self.teacher_fields - FROM_CACHE) or self.replacing is not None

    @property
    def is_below_head(self) -> bool:
        """Whether it leaves the predictions untrained. Its own objective then chooses the checkpoint, not the score."""
        trains_head = any("logits" in loss.student_fields for loss in self.losses)
        return self.needs_teacher and not self.frozen and not trains_head

    @property
    def is_scheduled(self) -> bool:
        """Whether the objective changes over the training, so that it must not stop early."""
        parts = [part for loss in self.losses for part in loss.modules()]
        return self.replacing is not None or any(inspect.isfunction(value) for p in parts for value in vars(p).values())

    @property
    def is_for_transformers(self) -> bool:
        """Whether the student must have layers like the teacher's."""
        return any(loss.student_fields & LAYER_FIELDS for loss in self.losses) or self.replacing is not None


def rest_of(hard_weight: float | Schedule) -> float | Schedule:
    """The weight of soft targets: 1 - `hard_weight`.

    Raises:
        ModelError: `hard_weight` exceeds 1 at some point.
    """
    highest = max(at(hard_weight, percent / 100) for percent in range(101))
    if highest > 1:
        raise ModelError(f"hard_weight={highest:g}, expected at most 1: soft targets get the rest.")
    return (lambda progress: 1 - hard_weight(progress)) if callable(hard_weight) else 1 - hard_weight


def compressed_by(stages: Sequence[Stage]) -> tuple[str, ...]:
    """The methods by which these stages compress, each as the last of them has it."""
    texts = [text for stage in stages if isinstance(stage.before, Compress) for text in stage.before.methods]
    return tuple({text.split(":")[0]: text for text in texts}.values())
