"""`cnn-lstm`: convolution, then LSTM, the fusion of Lin et al. 2024 (after Zhou et al. 2015)."""

from torch import Tensor

from understudy.models.configuration import CNNLSTMConfig
from understudy.models.heads import Encoder, StudentForSequenceClassification
from understudy.models.layers import LSTM, Convolution, masked_max


class CNNLSTMEncoder(Encoder):
    """An LSTM reads the convolution's outputs; the maximum over time of its states."""

    def __init__(self, config: CNNLSTMConfig) -> None:
        super().__init__()
        self.convolution = Convolution(config.embedding_size, config.num_filters, config.kernel_sizes)
        self.lstm = LSTM(self.convolution.output_size, config.hidden_size, bidirectional=False)
        self.output_size = self.lstm.output_size

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        states = self.lstm(self.convolution(x), mask)
        return masked_max(states, mask, lowest=-1.0)


class CNNLSTMForSequenceClassification(StudentForSequenceClassification):
    config_class = CNNLSTMConfig
    encoder_class = CNNLSTMEncoder
