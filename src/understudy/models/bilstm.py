"""`bilstm`: one bidirectional LSTM layer, as in Tang et al. 2019, pooled by maximum over time."""

from torch import Tensor

from understudy.models.configuration import BiLSTMConfig
from understudy.models.heads import Encoder, StudentForSequenceClassification
from understudy.models.layers import LSTM, masked_max


class BiLSTMEncoder(Encoder):
    """The maximum over time of both directions' states (Conneau et al. 2017)."""

    def __init__(self, config: BiLSTMConfig) -> None:
        super().__init__()
        self.lstm = LSTM(config.embedding_size, config.hidden_size, bidirectional=True)
        self.output_size = self.lstm.output_size

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return masked_max(self.lstm(x, mask), mask, lowest=-1.0)


class BiLSTMForSequenceClassification(StudentForSequenceClassification):
    config_class = BiLSTMConfig
    encoder_class = BiLSTMEncoder
