"""`cnn-lstm`: convolution, then LSTM, the fusion of Lin et al. 2024 (after Zhou et al. 2015)."""

from torch import Tensor

from eyas.models.configuration import CNNLSTMConfig
from eyas.models.layers import LSTM, Convolution, masked_max
from eyas.models.sequence import StudentForSequenceClassification
from eyas.models.student import TextEncoder, TokenEncoder
from eyas.models.tokens import StudentForTokenClassification


class CNNLSTMEncoder(TextEncoder, TokenEncoder):
    """An LSTM reads the convolution's outputs; for a text, the maximum over time of its states."""

    bidirectional = False

    def __init__(self, config: CNNLSTMConfig, input_size: int) -> None:
        super().__init__()
        self.convolution = Convolution(input_size, config.num_filters, config.kernel_sizes)
        self.lstm = LSTM(self.convolution.output_size, config.hidden_size, self.bidirectional)
        self.output_size = self.lstm.output_size

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.lstm(self.convolution(x), mask)
        return states

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return masked_max(self.states(x, mask), mask, lowest=-1.0)


class BothWaysEncoder(CNNLSTMEncoder):
    """Bidirectional, because a tag also depends on the words that follow."""

    bidirectional = True


class CNNLSTMForSequenceClassification(StudentForSequenceClassification):
    config_class = CNNLSTMConfig
    encoder_class = CNNLSTMEncoder


class CNNLSTMForTokenClassification(StudentForTokenClassification):
    config_class = CNNLSTMConfig
    encoder_class = BothWaysEncoder
