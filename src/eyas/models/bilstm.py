"""`bilstm`: one bidirectional LSTM layer, as in Tang et al. 2019, pooled by maximum over time."""

from torch import Tensor

from eyas.models.configuration import BiLSTMConfig
from eyas.models.layers import LSTM, masked_max
from eyas.models.sequence import StudentForSequenceClassification
from eyas.models.student import TextEncoder, TokenEncoder
from eyas.models.tokens import StudentForTokenClassification


class BiLSTMEncoder(TextEncoder, TokenEncoder):
    """The states of both directions; for a text, their maximum over time (Conneau et al. 2017)."""

    def __init__(self, config: BiLSTMConfig, input_size: int) -> None:
        super().__init__()
        self.lstm = LSTM(input_size, config.hidden_size, bidirectional=True)
        self.output_size = self.lstm.output_size

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.lstm(x, mask)
        return states

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return masked_max(self.states(x, mask), mask, lowest=-1.0)


class BiLSTMForSequenceClassification(StudentForSequenceClassification):
    config_class = BiLSTMConfig
    encoder_class = BiLSTMEncoder


class BiLSTMForTokenClassification(StudentForTokenClassification):
    config_class = BiLSTMConfig
    encoder_class = BiLSTMEncoder
