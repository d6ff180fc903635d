"""`cnn`: Kim 2014 for texts, "Convolutional Neural Networks for Sentence Classification"; dilated for tags."""

from torch import Tensor, nn

from eyas.models.configuration import CNNConfig
from eyas.models.layers import Convolution, masked_max
from eyas.models.sequence import StudentForSequenceClassification
from eyas.models.student import TextEncoder, TokenEncoder
from eyas.models.tokens import StudentForTokenClassification


class CNNEncoder(TextEncoder):
    """Convolutions of several widths, the maximum of each filter over the text."""

    def __init__(self, config: CNNConfig, input_size: int) -> None:
        super().__init__()
        self.convolution = Convolution(input_size, config.hidden_size, config.kernel_sizes)
        self.output_size = self.convolution.output_size

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return masked_max(self.convolution(x), mask, lowest=0.0)


class DilatedEncoder(TokenEncoder):
    """Dilated convolutions of width 3 with residual connections (after Strubell et al. 2017, section 4)."""

    def __init__(self, config: CNNConfig, input_size: int) -> None:
        super().__init__()
        self.output_size = 2 * config.hidden_size
        sizes = [input_size] + [self.output_size] * (len(config.dilations) - 1)
        self.layers = nn.ModuleList(
            Convolution(size, self.output_size, [3], dilation)
            for size, dilation in zip(sizes, config.dilations, strict=True)
        )

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        inside = mask.unsqueeze(-1).to(x.dtype)
        states: Tensor = self.layers[0](x) * inside
        for layer in list(self.layers)[1:]:
            states = states + layer(states) * inside
        return states


class CNNForSequenceClassification(StudentForSequenceClassification):
    config_class = CNNConfig
    encoder_class = CNNEncoder


class CNNForTokenClassification(StudentForTokenClassification):
    config_class = CNNConfig
    encoder_class = DilatedEncoder
