"""The head for texts and pairs of texts."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SequenceClassifierOutput

from understudy.models.configuration import StudentConfig
from understudy.models.objective import task_loss
from understudy.models.student import Student, TextEncoder


class StudentForSequenceClassification(Student):
    """A student that gives each text, or each pair of texts, its label, labels, aspects or number.

    Pairs are encoded apart by the same weights and compared as [u; v; |u - v|; u * v] (Tang et al. 2019).
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.encoder: TextEncoder = self.encoder_class(config, config.embedding_size)
        size = self.encoder.output_size
        if config.pair:
            self.comparison = nn.Linear(4 * size, config.hidden_size)
            size = config.hidden_size
        self.classifier = nn.Linear(size, self.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Classify a batch of texts.

        Args:
            input_ids: [batch, length] int, padded on the right.
            attention_mask: [batch, length], 1 = text; by default everything but the padding token.
            token_type_ids: [batch, length], 0 = first text, 1 = second; needed for pairs, else ignored.
            labels: as `understudy.models.objective.task_loss` reads them.
            inputs_embeds: [batch, length, embedding_size] word vectors in place of `input_ids`, with an
                attention_mask; not for pairs.

        Returns:
            `logits` [batch, num_labels]; `loss` where labels are given.
        """
        if inputs_embeds is not None:
            if attention_mask is None or self.config.pair:
                raise ValueError("inputs_embeds need an attention_mask, and a student of single texts.")
            return self._classified(self._encoded(inputs_embeds, attention_mask != 0), labels)
        if input_ids is None:
            raise ValueError("Neither input_ids nor inputs_embeds were given.")
        padding = self.config.pad_token_id
        input_ids = self.without_padding(input_ids, attention_mask)
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
        return self._classified(vector, labels)

    def _classified(self, vector: Tensor, labels: Tensor | None) -> SequenceClassifierOutput:
        logits = self.classifier(self.dropout(vector))
        loss = None if labels is None else task_loss(self.task, logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def encode(self, input_ids: Tensor) -> Tensor:
        """[batch, length] -> [batch, encoder.output_size]."""
        input_ids = input_ids[:, : self.config.max_length]
        return self._encoded(self.embeddings(input_ids), input_ids != self.config.pad_token_id)

    def _encoded(self, x: Tensor, mask: Tensor) -> Tensor:
        """Word vectors [batch, length, size], mask [batch, length] -> [batch, encoder.output_size]."""
        length = self.config.max_length
        vector: Tensor = self.encoder(self.dropout(x[:, :length]), mask[:, :length])
        return vector


def _split_pair(input_ids: Tensor, token_type_ids: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Move the second text to the front of a batch of its own; both padded on the right."""
    second = (token_type_ids == 1) & input_ids.ne(padding)
    first = input_ids.masked_fill(token_type_ids == 1, padding)
    start = (first != padding).sum(1, keepdim=True)
    positions = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
    moved = input_ids.gather(1, (positions + start).clamp(max=input_ids.shape[1] - 1))
    return first, moved.masked_fill(positions >= second.sum(1, keepdim=True), padding)
