"""BERT-of-Theseus: in training, student layers replace blocks of teacher layers."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from eyas.errors import ModelError
from eyas.losses.schedules import Schedule
from eyas.models.inside import layers_of


class Replacing(TrainerCallback):
    """In training, run each student layer or the teacher layers that it replaces, at random.

    Xu et al. 2020, section 3: module replacing, with a curriculum.

    Args:
        teacher: its layers run unchanged, without dropout.
        rate: probability of running the student's layer, as a schedule over the training.

    Raises:
        ModelError: the hidden sizes differ, the number of teacher layers is not a multiple of the student's, or the
            teacher has layers of several types.
    """

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel, rate: Schedule) -> None:
        self.layers, replaced = layers_of(student), layers_of(teacher)
        if student.config.hidden_size != teacher.config.hidden_size:
            raise ModelError(
                "theseus mixes layers of student and teacher, so they need the same hidden size, got "
                f"{student.config.hidden_size} and {teacher.config.hidden_size}. Use --student bert with --layers."
            )
        times, rest = divmod(len(replaced), len(self.layers))
        if rest:
            raise ModelError(
                f"theseus needs a number of student layers that divides the teacher's {len(replaced)}, got "
                f"{len(self.layers)}. Change layers (--layers)."
            )
        self.blocks = [replaced[start : start + times] for start in range(0, len(replaced), times)]
        if len(set(getattr(teacher.config, "layer_types", None) or ())) > 1:
            raise ModelError(
                f"theseus needs a teacher with layers of one type, but {teacher.config.model_type} has several. Choose "
                "another recipe."
            )
        self.rate = rate
        self.own = [True] * len(self.layers)  # which layers are the student's in this step
        self.hooks: list[Any] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        device = next(self.layers.parameters()).device
        for block in self.blocks:
            block.to(device)
        self.hooks = [
            layer.register_forward_hook(self._replace(place), with_kwargs=True)
            for place, layer in enumerate(self.layers)
        ]

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        rate = self.rate(state.global_step / max(state.max_steps, 1))
        self.own = (torch.rand(len(self.layers)) < rate).tolist()
        if not any(self.own):  # at least one must learn
            self.own[int(torch.randint(len(self.own), ()))] = True

    def close(self) -> None:
        """Give the student its layers back, after a training or one that was interrupted."""
        for hook in self.hooks:
            hook.remove()

    def _replace(self, place: int) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if not layer.training or self.own[place]:
                return output
            states: Tensor = args[0]
            for replaced_layer in self.blocks[place]:
                result = replaced_layer(states, *args[1:], **kwargs)
                states = result[0] if isinstance(result, tuple) else result
            return (states, *output[1:]) if isinstance(output, tuple) else states

        return hook
