"""`static`: the mean of the word vectors and one hidden layer. The fastest student."""

import torch
from torch import Tensor, nn

from understudy.models.configuration import StaticConfig
from understudy.models.heads import Encoder, StudentForSequenceClassification


class StaticEncoder(Encoder):
    """Mean over the text, then a hidden layer with tanh."""

    def __init__(self, config: StaticConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.embedding_size, config.hidden_size)
        self.output_size = config.hidden_size

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mean = x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return torch.tanh(self.hidden(mean))


class StaticForSequenceClassification(StudentForSequenceClassification):
    config_class = StaticConfig
    encoder_class = StaticEncoder
