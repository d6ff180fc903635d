"""`ensemble:cnn,bilstm,cnn-lstm`: several students that share one table of word vectors (Lin et al. 2024)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from eyas.errors import ModelError
from eyas.models.bilstm import BiLSTMForSequenceClassification
from eyas.models.cnn import CNNForSequenceClassification
from eyas.models.cnn_lstm import CNNLSTMForSequenceClassification
from eyas.models.configuration import EnsembleConfig, StudentConfig
from eyas.models.sequence import EncoderAndHead, StudentForSequenceClassification, TextStudent
from eyas.models.static import StaticForSequenceClassification
from eyas.settings import PROBABILITIES
from eyas.tasks import Task

logger = logging.getLogger("eyas")

MEMBERS: dict[str, type[StudentForSequenceClassification]] = {
    "static": StaticForSequenceClassification,
    "cnn": CNNForSequenceClassification,
    "bilstm": BiLSTMForSequenceClassification,
    "cnn-lstm": CNNLSTMForSequenceClassification,
}
# A member with larger logits has diverged.
DIVERGED = 1e4


@dataclass
class EnsembleOutput(SequenceClassifierOutput):
    """The combined logits [batch, labels], and those of each member [members, batch, labels]."""

    member_logits: Tensor | None = None


class EnsembleForSequenceClassification(TextStudent):
    """Several encoders with heads over the same word vectors; their logits are combined.

    A member whose logits grow without bounds in training is reported and left out from then on.
    """

    config_class = EnsembleConfig
    config: EnsembleConfig

    def __init__(self, config: EnsembleConfig) -> None:
        super().__init__(config)
        self.members = nn.ModuleList(_member(name, config, self.num_labels) for name in config.members)
        count = len(config.members)
        self.register_buffer("weights", torch.full((count,), 1 / count))
        self.register_buffer("is_left_out", torch.zeros(count, dtype=torch.bool))
        self.post_init()  # type: ignore[no-untyped-call]

    def answer(self, x: Tensor, mask: Tensor) -> EnsembleOutput:
        left_out = () if torch.compiler.is_exporting() else self.left_out
        logits = {place: member(x, mask) for place, member in enumerate(self.members) if place not in left_out}
        if self.training:
            logits = self._drop_diverged(logits)
        places = list(logits)
        members = torch.stack(list(logits.values()))
        weights = self.get_buffer("weights")[places]
        combined = combine(self.task, members, weights / weights.sum(), self.config.combination)
        return EnsembleOutput(logits=combined, member_logits=members)

    @property
    def left_out(self) -> set[int]:
        """Members that diverged. A buffer, so that resumed training still leaves them out."""
        return set(self.get_buffer("is_left_out").nonzero().flatten().tolist())

    def _drop_diverged(self, logits: dict[int, Tensor]) -> dict[int, Tensor]:
        most = DIVERGED if self.task.decides else float("inf")  # regression outputs may be large
        bad = {place for place, own in logits.items() if not bool(own.detach().abs().max() < most)}
        for place in bad:
            logger.warning("%s, member %d, diverged and is left out.", self.config.members[place], place + 1)
            self.get_buffer("is_left_out")[place] = True
        if bad and bad == logits.keys():
            raise ModelError("All members diverged. Lower learning_rate (--learning-rate).")
        return {place: own for place, own in logits.items() if place not in bad}


def combine(task: Task, members: Tensor, weights: Tensor, combination: str) -> Tensor:
    """Combine the members' logits.

    Args:
        members: [members, batch, labels] logits.
        weights: [members], with sum 1.
        combination: "logits" or "weights" = the weighted mean of logits; "probabilities" = logits of the weighted mean
            of probabilities.

    Returns:
        [batch, labels].
    """
    shares = weights[:, None, None]
    if combination != PROBABILITIES or not task.decides:
        return (members * shares).sum(0)
    if task.has_binary_outputs:
        return torch.logit((members.sigmoid() * shares).sum(0), eps=1e-6)
    parts = [(members[..., columns].softmax(-1) * shares).sum(0).clamp(min=1e-12).log() for columns in task.groups]
    order = [column for columns in task.groups for column in columns]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)[:, torch.tensor(order).argsort()]


def subset(model: EnsembleForSequenceClassification, places: Sequence[int]) -> EnsembleForSequenceClassification:
    """An ensemble of only the members at `places`, with their weights rescaled to sum 1."""
    config = EnsembleConfig.from_dict({**model.config.to_dict(), "members": [model.config.members[p] for p in places]})
    smaller = EnsembleForSequenceClassification(config)
    smaller.embeddings.load_state_dict(model.embeddings.state_dict())
    for kept, place in zip(smaller.members, places, strict=True):
        kept.load_state_dict(model.members[place].state_dict())
    weights = model.get_buffer("weights")[list(places)]
    smaller.get_buffer("weights").copy_(weights / weights.sum())
    smaller.train(False)
    return smaller


def member_config(name: str, ensemble: EnsembleConfig) -> StudentConfig:
    """The configuration of an ensemble's member."""
    shared = ("embedding_size", "dropout", "max_length", "pair")
    settings = {setting: getattr(ensemble, setting) for setting in shared}
    if ensemble.hidden_size:
        settings["hidden_size"] = ensemble.hidden_size
    config: StudentConfig = MEMBERS[name].config_class(**settings)
    return config


def _member(name: str, ensemble: EnsembleConfig, labels: int) -> EncoderAndHead:
    config = member_config(name, ensemble)
    return EncoderAndHead(MEMBERS[name].encoder_class(config, config.embedding_size), config, labels)
