"""Settings of the students, as Hugging Face configurations."""

from transformers import PreTrainedConfig


class StudentConfig(PreTrainedConfig):
    """What every student has.

    Args:
        vocab_size: tokens in the embedding table.
        embedding_size: dimension of the word vectors (most of a student's bytes).
        hidden_size: width of the layers above (most of its time).
        dropout: probability, on the word vectors and before the classifier.
        max_length: tokens of a text that are read; what follows is ignored.
        pair: whether the model compares two texts, encoded apart by the same weights.
        data_labels: what the training data called the labels, where `id2label` has better names.
    """

    vocab_size: int = 30522
    embedding_size: int = 128
    hidden_size: int = 150
    dropout: float = 0.2
    max_length: int = 256
    pair: bool = False
    pad_token_id: int = 0
    data_labels: list[str] | None = None


class StaticConfig(StudentConfig):
    """Mean of word vectors, then one hidden layer."""

    model_type = "understudy-static"
    hidden_size: int = 128


class CNNConfig(StudentConfig):
    """Kim 2014: convolutions of several widths, maximum over time.

    Args:
        kernel_sizes: widths of the convolutions, in tokens.
        hidden_size: filters of each width.
    """

    model_type = "understudy-cnn"
    hidden_size: int = 100
    kernel_sizes: tuple[int, ...] | list[int] = (3, 4, 5)


class BiLSTMConfig(StudentConfig):
    """One bidirectional LSTM layer, `hidden_size` units in each direction."""

    model_type = "understudy-bilstm"


class CNNLSTMConfig(StudentConfig):
    """Convolution, then LSTM: local patterns read in order (Zhou et al. 2015; Lin et al. 2024).

    Args:
        kernel_sizes: widths of the convolutions, in tokens.
        num_filters: filters of each width.
    """

    model_type = "understudy-cnn-lstm"
    kernel_sizes: tuple[int, ...] | list[int] = (3,)
    num_filters: int = 150
