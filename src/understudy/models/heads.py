"""What turns an encoder into a Hugging Face model: word vectors below, a classifier above."""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from understudy.models.configuration import StudentConfig


class Encoder(nn.Module):
    """Word vectors -> one vector a text. Subclasses set `output_size`."""

    output_size: int

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [batch, length, embedding_size], zeros at padding; mask [batch, length] -> [batch, output_size]."""
        raise NotImplementedError


class StudentForSequenceClassification(PreTrainedModel):
    """A student that gives each text, or each pair of texts, one of `num_labels` labels.

    Pairs are encoded apart by the same weights and compared as [u; v; |u - v|; u * v] (Tang et al. 2019).
    """

    config_class = StudentConfig
    config: StudentConfig
    encoder_class: ClassVar[type[Any]]
    base_model_prefix = "student"
    main_input_name = "input_ids"

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.num_labels: int = config.num_labels or 2
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder: Encoder = self.encoder_class(config)
        size = self.encoder.output_size
        if config.pair:
            self.comparison = nn.Linear(4 * size, config.hidden_size)
            size = config.hidden_size
        self.classifier = nn.Linear(size, self.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Classify a batch of texts.

        Args:
            input_ids: [batch, length] int, padded on the right.
            attention_mask: [batch, length], 1 = text; by default everything but the padding token.
            token_type_ids: [batch, length], 0 = first text, 1 = second; needed for pairs, else ignored.
            labels: [batch] int, -100 = none.

        Returns:
            `logits` [batch, num_labels]; `loss` where labels are given.
        """
        padding = self.config.pad_token_id
        if attention_mask is not None:
            input_ids = input_ids.masked_fill(attention_mask == 0, padding)
        if self.config.pair:
            if token_type_ids is None:
                raise ValueError("This student compares two texts: token_type_ids must say which is which.")
            first, second = _split_pair(input_ids, token_type_ids, padding)
            both = self.encode(torch.cat([first, second]))
            u, v = both.view(2, -1, both.shape[-1]).unbind()
            compared = torch.cat([u, v, (u - v).abs(), u * v], -1)
            vector = F.relu(self.comparison(self.dropout(compared)))
        else:
            vector = self.encode(input_ids)
        logits = self.classifier(self.dropout(vector))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def encode(self, input_ids: Tensor) -> Tensor:
        """[batch, length] -> [batch, encoder.output_size]."""
        input_ids = input_ids[:, : self.config.max_length]
        x = self.dropout(self.embeddings(input_ids))
        vector: Tensor = self.encoder(x, input_ids != self.config.pad_token_id)
        return vector

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
            init.normal_(module.weight, std=0.25)
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
    """Whether `model` is one of ours: it finds padding and cuts long texts itself."""
    return isinstance(model, StudentForSequenceClassification)


def _split_pair(input_ids: Tensor, token_type_ids: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Move the second text to the front of a batch of its own; both padded on the right."""
    second = (token_type_ids == 1) & input_ids.ne(padding)
    first = input_ids.masked_fill(token_type_ids == 1, padding)
    start = (first != padding).sum(1, keepdim=True)
    positions = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
    moved = input_ids.gather(1, (positions + start).clamp(max=input_ids.shape[1] - 1))
    return first, moved.masked_fill(positions >= second.sum(1, keepdim=True), padding)
