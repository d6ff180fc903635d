"""Students that tag words."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import TokenClassifierOutput

from eyas.models.characters import CharacterVectors
from eyas.models.configuration import StudentConfig
from eyas.models.crf import CRF
from eyas.models.objective import task_loss
from eyas.models.student import Student, TokenEncoder
from eyas.spans import continuations


class StudentForTokenClassification(Student):
    """A student that gives each word one of `num_labels` tags.

    A word's tag is predicted at its first subword. In eval mode, its other subwords get the same tag, with `I-X` for
    `B-X`. With a CRF, logits are log-probabilities of the tags given the sentence in training. In eval mode they are
    scores of the best sequence through each tag, whose argmax is the Viterbi path.
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        size = config.embedding_size
        if config.char_embedding_size:
            self.characters = CharacterVectors(config.vocab_size, config.char_vocab_size, config.char_embedding_size)
            size += self.characters.output_size
        self.encoder: TokenEncoder = self.encoder_class(config, size)
        self.classifier = nn.Linear(self.encoder.output_size, self.num_labels)
        self.dropout = nn.Dropout(config.dropout)
        if config.crf:
            self.crf = CRF(self.num_labels)
        self.register_buffer("continues", torch.zeros(config.vocab_size, dtype=torch.bool))
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> TokenClassifierOutput:
        """Tag a batch of texts.

        Args:
            input_ids: [batch, length] int, padded on the right.
            attention_mask: [batch, length], 1 = text; by default everything but the padding token.
            token_type_ids: ignored.
            labels: [batch, length] int, -100 = none.

        Returns:
            `logits` [batch, length, num_labels]; `loss` if labels are given: cross-entropy, or with a CRF the
            negative log-likelihood of the sequence, per word.
        """
        input_ids = self.without_padding(input_ids, attention_mask)
        mask = input_ids != self.config.pad_token_id
        x = self.embeddings(input_ids)
        if self.config.char_embedding_size:
            x = torch.cat([x, self.characters(input_ids) * mask.unsqueeze(-1).to(x.dtype)], -1)
        states = self.encoder.states(self.dropout(x), mask)
        logits: Tensor = self.classifier(self.dropout(states))
        if torch.compiler.is_exporting():
            return TokenClassifierOutput(logits=logits)
        loss = None
        if self.config.crf:
            loss = None if labels is None else self._sequence_loss(logits, input_ids, mask, labels)
            logits = self._crf_logits(logits, input_ids, mask)
        elif labels is not None:
            loss = task_loss(self.task, logits, labels)
        return TokenClassifierOutput(loss=loss, logits=logits if self.training else self._by_word(logits, input_ids))

    def _words(self, emissions: Tensor, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First subwords of words, packed to the left: (positions, mask, emissions)."""
        starts = mask & ~self.get_buffer("continues")[input_ids]
        starts[:, 0] = False  # the special token at the start is not a word
        places, inside = _leftmost(starts)
        return places, inside, emissions.gather(1, places.unsqueeze(-1).expand(-1, -1, emissions.shape[-1])).float()

    def _sequence_loss(self, emissions: Tensor, input_ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        places, inside, chosen = self._words(emissions, input_ids, mask)
        known = labels.gather(1, places)
        return -self.crf.log_likelihood(chosen, inside, known).sum() / (known >= 0).sum().clamp(min=1)

    def _crf_logits(self, emissions: Tensor, input_ids: Tensor, mask: Tensor) -> Tensor:
        """The CRF's scores at the first subword of each word; elsewhere the emissions."""
        places, inside, chosen = self._words(emissions, input_ids, mask)
        scores = (self.crf.posteriors if self.training else self.crf.max_marginals)(chosen, inside)
        scores = torch.where(inside.unsqueeze(-1), scores, chosen)
        return emissions.float().scatter(1, places.unsqueeze(-1).expand_as(scores), scores)

    def _by_word(self, logits: Tensor, input_ids: Tensor) -> Tensor:
        """Give all subwords of a word the logits of its first."""
        inner = self.get_buffer("continues")[input_ids]
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        starts = positions.masked_fill(inner, 0).cummax(1).values
        logits = logits.gather(1, starts.unsqueeze(-1).expand_as(logits))
        return torch.where(inner.unsqueeze(-1), continuation_logits(logits, self.task.labels, torch.maximum), logits)


def continuation_logits(
    logits: Tensor, labels: Any, join: Callable[[Tensor, Tensor], Tensor] = torch.logaddexp
) -> Tensor:
    """Logits of a word -> logits of its next subword: `I-X` takes over `B-X`, which gets the lowest logit.

    Args:
        logits: [..., tags].
        labels: the tags' names.
        join: combines the logits of `B-X` and `I-X`: `logaddexp` keeps probabilities, `maximum` the decision.
    """
    following = torch.from_numpy(np.asarray(continuations(labels))).to(logits.device)
    own = torch.arange(len(labels), device=logits.device)
    begins = following != own
    both = join(logits[..., begins], logits[..., following[begins]])
    result = logits.clone()
    result[..., following[begins]] = both
    result[..., begins] = logits.amin(-1, keepdim=True)
    return result


def _leftmost(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Positions where `chosen` [batch, length] is true, packed to the left, and their mask; both [batch, most]."""
    counts = chosen.sum(1)
    most = max(int(counts.max()), 1)
    places = torch.argsort((~chosen).to(torch.int8), dim=1, stable=True)[:, :most]
    return places, torch.arange(most, device=chosen.device) < counts.unsqueeze(1)
