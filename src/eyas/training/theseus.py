"""BERT-of-Theseus: while it learns, the student's layers stand in for the teacher's, one by one."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from eyas.errors import ModelError
from eyas.losses.schedules import Schedule
from eyas.models.inside import layers_of


class Replacing(TrainerCallback):
    """In training, each layer of the student gives way to the teacher's layers that it replaces, at random.

    Xu et al. 2020, section 3: module replacing, with a curriculum.

    Args:
        teacher: its layers are used as they are, without dropout.
        rate: how often a student's own layer is used, 0 to 1, by the training's progress.

    Raises:
        ModelError: the student is of another width, or its layers do not divide the teacher's.
    """

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel, rate: Schedule) -> None:
        self.layers, replaced = layers_of(student), layers_of(teacher)
        if student.config.hidden_size != teacher.config.hidden_size:
            raise ModelError(
                f"theseus puts layers of the student among the teacher's, but they are {student.config.hidden_size} "
                f"and {teacher.config.hidden_size} wide. Use --student bert with --layers."
            )
        times, rest = divmod(len(replaced), len(self.layers))
        if rest:
            raise ModelError(
                f"theseus lets each layer of the student replace equally many of the teacher's {len(replaced)}; "
                f"{len(self.layers)} do not divide them. Change --layers."
            )
        self.blocks = [replaced[start : start + times] for start in range(0, len(replaced), times)]
        if len(set(getattr(teacher.config, "layer_types", None) or ())) > 1:
            raise ModelError(
                f"{teacher.config.model_type} has layers of several kinds, which can't stand in for each other. Choose "
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
            layer.register_forward_hook(self._give_way(place), with_kwargs=True)
            for place, layer in enumerate(self.layers)
        ]

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        rate = self.rate(state.global_step / max(state.max_steps, 1))
        self.own = (torch.rand(len(self.layers)) < rate).tolist()
        if not any(self.own):  # one must learn
            self.own[int(torch.randint(len(self.own), ()))] = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for hook in self.hooks:
            hook.remove()

    def _give_way(self, place: int) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if not layer.training or self.own[place]:
                return output
            states: Tensor = args[0]
            for replaced_layer in self.blocks[place]:
                result = replaced_layer(states, *args[1:], **kwargs)
                states = result[0] if isinstance(result, tuple) else result
            return (states, *output[1:]) if isinstance(output, tuple) else states

        return hook
