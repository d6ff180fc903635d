"""The base classes of students: word vectors, an encoder and a head, as a Hugging Face model."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from eyas.data.labels import ordered_names
from eyas.models.configuration import StudentConfig
from eyas.tasks import Task, task_of_model


class TextEncoder(nn.Module, ABC):
    """Word vectors -> one vector per text. Subclasses set `output_size`."""

    output_size: int

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [batch, length, input size], zeros at padding; mask [batch, length] -> [batch, output_size]."""


class TokenEncoder(nn.Module, ABC):
    """Word vectors -> a state for each token. Subclasses set `output_size`."""

    output_size: int

    @abstractmethod
    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [batch, length, input size], zeros at padding; mask [batch, length] -> [batch, length, output_size]."""


class Student(PreTrainedModel):
    """Word vectors and an encoder; a subclass adds the head and `forward`."""

    config_class = StudentConfig
    config: StudentConfig
    encoder_class: ClassVar[type[Any]]
    base_model_prefix = "student"
    main_input_name = "input_ids"
    # Whether the model finds padding and truncates long texts itself.
    reads_alone: bool = True
    # Standard deviation of new word vectors.
    scale: ClassVar[float] = 0.25

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.num_labels: int = config.num_labels or 2
        self.task: Task = task_of_model(config, ordered_names(config.id2label or {}))
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)

    def without_padding(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """`input_ids` with the padding token wherever `attention_mask` is 0."""
        return (
            input_ids
            if attention_mask is None
            else input_ids.masked_fill(attention_mask == 0, self.config.pad_token_id)
        )

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings = cast(nn.Embedding, value)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.scale)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                module.weight[module.padding_idx].zero_()
        elif isinstance(module, nn.LSTM):
            for name, parameter in module.named_parameters():
                if name.startswith("weight_ih"):
                    init.xavier_uniform_(parameter)
                elif name.startswith("weight_hh"):
                    init.orthogonal_(parameter)
                else:
                    init.zeros_(parameter)


def is_student(model: nn.Module) -> bool:
    """Whether `model` is a student: it finds padding and truncates long texts itself."""
    return isinstance(model, Student) and model.reads_alone
