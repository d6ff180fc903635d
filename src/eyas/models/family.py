"""Students pretrained together on an encoder, over one table of word vectors: what other students start from."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from eyas.errors import ModelError
from eyas.models.bilstm import BiLSTMForTokenClassification
from eyas.models.cnn import CNNForTokenClassification
from eyas.models.cnn_lstm import CNNLSTMForTokenClassification
from eyas.models.configuration import FamilyConfig
from eyas.models.ensemble import (
    MEMBERS,
    EnsembleForSequenceClassification,
    EnsembleOutput,
    member_config,
)
from eyas.models.sequence import EncoderAndHead
from eyas.models.static import StaticForTokenClassification
from eyas.models.student import Student, TokenEncoder
from eyas.models.tokens import StudentForTokenClassification

TAGGERS: dict[str, type[StudentForTokenClassification]] = {
    "static": StaticForTokenClassification,
    "cnn": CNNForTokenClassification,
    "bilstm": BiLSTMForTokenClassification,
    "cnn-lstm": CNNLSTMForTokenClassification,
}
"""The students that tag words, by the names of `STUDENTS`."""


@dataclass
class FamilyOutput(EnsembleOutput):
    """As of an ensemble; in training also the states of each token, [members, batch, length, labels]."""

    token_states: Tensor | None = None


class FamilyForSequenceClassification(EnsembleForSequenceClassification):
    """An ensemble whose logits are sentence vectors and, with `config.tokens`, as many encoders of tokens for taggers.

    A member that reads texts and words with the same encoder has it once.
    """

    config_class = FamilyConfig
    config: FamilyConfig

    def __init__(self, config: FamilyConfig) -> None:
        super().__init__(config)
        self.token_encoders, self.token_heads = nn.ModuleDict(), nn.ModuleDict()
        for name in config.members if config.tokens else ():
            of_member = member_config(name, config)
            if not _is_shared(name):
                self.token_encoders[name] = TAGGERS[name].encoder_class(of_member, config.embedding_size)
            self.token_heads[name] = nn.Linear(self.token_encoder(name).output_size, self.num_labels)
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()  # type: ignore[no-untyped-call]

    def encoder(self, name: str) -> nn.Module:
        """The encoder of texts of the member `name`."""
        return cast(EncoderAndHead, self.members[list(self.config.members).index(name)]).encoder

    def token_encoder(self, name: str) -> TokenEncoder:
        """Its encoder of tokens."""
        return cast(TokenEncoder, self.encoder(name) if _is_shared(name) else self.token_encoders[name])

    def student(self, tagging: bool, **settings: Any) -> Student:
        """Its only member as a student for texts or a tagger, or all members as an ensemble, with a new head.

        Args:
            settings: of the configuration.

        Raises:
            ModelError: it has several members or no encoders of tokens, and a tagger is wanted.
        """
        names = list(self.config.members)
        if tagging and (len(names) > 1 or not self.config.tokens):
            raise ModelError(
                f"This family of {', '.join(names)} cannot be fine-tuned for tagging. Distill a tagger that starts "
                "from one of them (--init), or pretrain a single student, with token states."
            )
        shared = ("vocab_size", "pad_token_id", "embedding_size", "max_length")
        sizes = {name: getattr(self.config, name) for name in shared}
        if self.config.hidden_size:
            sizes["hidden_size"] = self.config.hidden_size
        kind: Any = (TAGGERS if tagging else MEMBERS)[names[0]]
        if len(names) > 1:
            kind, sizes["members"] = EnsembleForSequenceClassification, names
        model = kind(kind.config_class(**sizes, **settings))
        model.embeddings.load_state_dict(self.embeddings.state_dict())
        for name, part in zip(names, [model] if len(names) == 1 else model.members, strict=True):
            encoder = self.token_encoder(name) if tagging else self.encoder(name)
            part.encoder.load_state_dict(encoder.state_dict())
        return cast(Student, model)

    def answer(self, x: Tensor, mask: Tensor) -> FamilyOutput:
        output = super().answer(x, mask)
        states = None
        if self.training and self.token_heads:
            read = [self.token_encoder(name).states(self.dropout(x), mask) for name in self.token_heads]
            states = torch.stack([head(own) for head, own in zip(self.token_heads.values(), read, strict=True)])
        return FamilyOutput(**output, token_states=states)


def _is_shared(name: str) -> bool:
    return TAGGERS[name].encoder_class is MEMBERS[name].encoder_class
