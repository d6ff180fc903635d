"""`cnn`: Kim 2014, "Convolutional Neural Networks for Sentence Classification"."""

from torch import Tensor

from understudy.models.configuration import CNNConfig
from understudy.models.heads import Encoder, StudentForSequenceClassification
from understudy.models.layers import Convolution, masked_max


class CNNEncoder(Encoder):
    """Convolutions of several widths, the maximum of each filter over the text."""

    def __init__(self, config: CNNConfig) -> None:
        super().__init__()
        self.convolution = Convolution(config.embedding_size, config.hidden_size, config.kernel_sizes)
        self.output_size = self.convolution.output_size

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return masked_max(self.convolution(x), mask, lowest=0.0)


class CNNForSequenceClassification(StudentForSequenceClassification):
    config_class = CNNConfig
    encoder_class = CNNEncoder
