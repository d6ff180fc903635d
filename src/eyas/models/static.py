"""`static`: word vectors and one hidden layer. The fastest student."""

import torch
from torch import Tensor, nn

from eyas.models.configuration import StaticConfig
from eyas.models.layers import Convolution
from eyas.models.sequence import StudentForSequenceClassification
from eyas.models.student import TextEncoder, TokenEncoder
from eyas.models.tokens import StudentForTokenClassification


class StaticEncoder(TextEncoder):
    """Mean over the text, then a hidden layer with tanh."""

    def __init__(self, config: StaticConfig, input_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(input_size, config.hidden_size)
        self.output_size = config.hidden_size

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mean = x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return torch.tanh(self.hidden(mean))


class WindowEncoder(TokenEncoder):
    """The word and its neighbors, then a hidden layer (Collobert et al. 2011, section 3.3.1)."""

    def __init__(self, config: StaticConfig, input_size: int) -> None:
        super().__init__()
        self.window = Convolution(input_size, config.hidden_size, [2 * config.window + 1])
        self.output_size = config.hidden_size

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.window(x)
        return states


class StaticForSequenceClassification(StudentForSequenceClassification):
    config_class = StaticConfig
    encoder_class = StaticEncoder


class StaticForTokenClassification(StudentForTokenClassification):
    config_class = StaticConfig
    encoder_class = WindowEncoder
