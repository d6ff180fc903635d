"""Students for texts and pairs of texts: word vectors, an encoder and a head."""

from abc import abstractmethod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SequenceClassifierOutput

from eyas.models.configuration import StudentConfig
from eyas.models.objective import task_loss
from eyas.models.student import Student, TextEncoder


class TextHead(nn.Module):
    """Text vectors -> logits.

    The texts of a pair are encoded separately with shared weights, and compared as [u; v; |u - v|; u * v] (Tang et al.
    2019).

    Args:
        size: size of a text vector.
        labels: number of outputs.
    """

    def __init__(self, size: int, config: StudentConfig, labels: int) -> None:
        super().__init__()
        self.pair = config.pair
        if config.pair:
            self.comparison = nn.Linear(4 * size, config.hidden_size)
            size = config.hidden_size
        self.classifier = nn.Linear(size, labels)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, vector: Tensor) -> Tensor:
        """[texts, size] -> [batch, labels]; of pairs, all second texts last."""
        if self.pair:
            u, v = vector.view(2, -1, vector.shape[-1]).unbind()
            compared = torch.cat([u, v, (u - v).abs(), u * v], -1)
            vector = F.relu(self.comparison(self.dropout(compared)))
        logits: Tensor = self.classifier(self.dropout(vector))
        return logits


class EncoderAndHead(nn.Module):
    """Word vectors -> logits.

    Args:
        labels: number of outputs.
    """

    def __init__(self, encoder: TextEncoder, config: StudentConfig, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = TextHead(encoder.output_size, config, labels)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [texts, length, size], mask [texts, length] -> [batch, labels]."""
        logits: Tensor = self.head(self.encoder(self.dropout(x), mask))
        return logits


class TextStudent(Student):
    """A student for texts or pairs of texts, for every task except tagging."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Classify a batch of texts.

        Args:
            input_ids: [batch, length] int, padded on the right.
            attention_mask: [batch, length], 1 = text; by default everything but the padding token.
            token_type_ids: [batch, length], 0 = first text, 1 = second; needed for pairs, else ignored.
            labels: as `eyas.models.objective.task_loss` reads them.
            inputs_embeds: [batch, length, embedding_size] word vectors in place of `input_ids`, with an
                attention_mask; not for pairs.
            return_dict: ignored; accepted for compatibility with transformers.

        Returns:
            `logits` [batch, num_labels]; `loss` if labels are given.
        """
        if inputs_embeds is not None:
            if attention_mask is None or self.config.pair:
                raise ValueError("inputs_embeds needs an attention_mask, and does not work for pairs.")
            inside = attention_mask != 0
            output = self.answer(*self._truncate(inputs_embeds * inside.unsqueeze(-1), inside))
        elif input_ids is None:
            raise ValueError("Expected input_ids or inputs_embeds, got neither.")
        else:
            output = self.answer(*self.read(self.without_padding(input_ids, attention_mask), token_type_ids))
        if labels is not None:
            output["loss"] = task_loss(self.task, cast(Tensor, output.logits), labels)
        return output

    @abstractmethod
    def answer(self, x: Tensor, mask: Tensor) -> SequenceClassifierOutput:
        """Logits for the output of `read`."""

    def read(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Word vectors [texts, length, size] and mask [texts, length]; of pairs, all second texts last."""
        padding = self.config.pad_token_id
        if self.config.pair:
            if token_type_ids is None:
                raise ValueError("This student compares two texts: pass token_type_ids (0 = first text, 1 = second).")
            input_ids = torch.cat(_split_pair(input_ids, token_type_ids, padding))
        input_ids = input_ids[:, : self.config.max_length]
        return self.embeddings(input_ids), input_ids != padding

    def _truncate(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, : self.config.max_length], mask[:, : self.config.max_length]


class StudentForSequenceClassification(TextStudent):
    """One encoder and its head."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.encoder: TextEncoder = self.encoder_class(config, config.embedding_size)
        self.head = TextHead(self.encoder.output_size, config, self.num_labels)
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()  # type: ignore[no-untyped-call]

    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        """Word vectors [texts, length, size] and mask [texts, length] -> text vectors [texts, output size]."""
        vectors: Tensor = self.encoder(self.dropout(x), mask)
        return vectors

    def answer(self, x: Tensor, mask: Tensor) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=self.head(self.encode(x, mask)))


def _split_pair(input_ids: Tensor, token_type_ids: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Split into a batch of first texts and a batch of second texts, both padded on the right."""
    second = (token_type_ids == 1) & input_ids.ne(padding)
    first = input_ids.masked_fill(token_type_ids == 1, padding)
    start = (token_type_ids == 1).int().argmax(1, keepdim=True)
    positions = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
    end = ((positions + 1) * second).amax(1, keepdim=True)  # a text may have a literal [PAD] in it
    moved = input_ids.gather(1, (positions + start).clamp(max=input_ids.shape[1] - 1))
    return first, moved.masked_fill(positions >= end - start, padding)
