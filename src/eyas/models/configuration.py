"""Settings of the students, as Hugging Face configurations."""

from typing import Any

from transformers import PreTrainedConfig


class StudentConfig(PreTrainedConfig):
    """Settings of every student.

    Args:
        vocab_size: tokens in the embedding table.
        embedding_size: dimension of the word vectors (most of a student's bytes).
        hidden_size: size of the layers above (most of a student's compute time).
        dropout: probability, on the word vectors and before the classifier.
        max_length: maximum number of tokens per text; the rest is ignored (taggers read all tokens).
        pair: whether the model compares two texts, encoded separately with shared weights.
        char_embedding_size: dimension of a convolution over the characters of each token; 0 = none (taggers only).
        char_vocab_size: number of known characters, including padding.
        crf: whether tags are chosen as a sequence, by a conditional random field (taggers only).
        data_labels: the label names of the training data, if `id2label` has more readable ones.
        eyas_task: the task, an `eyas.kinds.Kind`.
    """

    vocab_size: int = 30522
    embedding_size: int = 128
    hidden_size: int = 150
    dropout: float = 0.2
    max_length: int = 256
    pair: bool = False
    char_embedding_size: int = 0
    char_vocab_size: int = 0
    crf: bool = False
    pad_token_id: int = 0
    data_labels: list[str] | None = None
    eyas_task: str = "classification"


class StaticConfig(StudentConfig):
    """Mean of word vectors, then one hidden layer; a tagger reads a window around each word.

    Args:
        window: tokens on either side that a tagger reads.
    """

    model_type = "eyas-static"
    hidden_size: int = 128
    window: int = 2


class CNNConfig(StudentConfig):
    """Kim 2014: convolutions of several widths, maximum over time. A tagger stacks dilated ones (Strubell et al. 2017).

    Args:
        kernel_sizes: widths of the convolutions, in tokens.
        hidden_size: filters of each width.
        dilations: of a tagger's layers, each three tokens wide.
    """

    model_type = "eyas-cnn"
    hidden_size: int = 100
    kernel_sizes: tuple[int, ...] | list[int] = (3, 4, 5)
    dilations: tuple[int, ...] | list[int] = (1, 2, 4, 1)


class BiLSTMConfig(StudentConfig):
    """One bidirectional LSTM layer, `hidden_size` units in each direction."""

    model_type = "eyas-bilstm"


class CNNLSTMConfig(StudentConfig):
    """Convolution, then LSTM: local patterns read in order (Zhou et al. 2015; Lin et al. 2024).

    Args:
        kernel_sizes: widths of the convolutions, in tokens.
        num_filters: filters of each width.
    """

    model_type = "eyas-cnn-lstm"
    kernel_sizes: tuple[int, ...] | list[int] = (3,)
    num_filters: int = 150


class DAGFMConfig(StudentConfig):
    """A directed acyclic graph of the interactions of categorical fields (Tian et al. 2023).

    Args:
        fields: names, in the order of the graph.
        layers: each adds one to the order of the interactions.
        interaction: "inner" = an edge has a weight for each dimension; "outer" = a matrix of rank one.
    """

    model_type = "eyas-dagfm"
    embedding_size: int = 16
    dropout: float = 0.0
    fields: tuple[str, ...] | list[str] = ()
    layers: int = 3
    interaction: str = "inner"


class CINConfig(StudentConfig):
    """A compressed interaction network and a multilayer perceptron over categorical fields (Lian et al. 2018).

    Args:
        fields: names, in the order of the input.
        feature_maps: of each layer of interactions.
        hidden_sizes: of the perceptron's layers.
    """

    model_type = "eyas-cin"
    embedding_size: int = 16
    dropout: float = 0.0
    fields: tuple[str, ...] | list[str] = ()
    feature_maps: tuple[int, ...] | list[int] = (64, 64)
    hidden_sizes: tuple[int, ...] | list[int] = (128, 64)


class EnsembleConfig(StudentConfig):
    """Several students over one table of word vectors (Lin et al. 2024).

    Args:
        members: their architectures.
        hidden_size: of every member; 0 = each architecture's default.
        combination: "logits" or "probabilities" = their mean; "weights" = a mean of logits with weights fitted on
            validation texts.
    """

    model_type = "eyas-ensemble"
    embedding_size: int = 100
    hidden_size: int = 0
    members: tuple[str, ...] | list[str] = ("cnn", "bilstm", "cnn-lstm")
    combination: str = "logits"


class TasksConfig(StudentConfig):
    """A student for several tasks.

    Args:
        architecture: of its encoder.
        tasks: the configuration of each task's student, by the task's name.
    """

    model_type = "eyas-tasks"
    architecture: str = "bilstm"
    tasks: dict[str, dict[str, Any]] | None = None


class FamilyConfig(EnsembleConfig):
    """Students that others start from.

    Args:
        tokens: whether taggers can start from it too.
    """

    model_type = "eyas-family"
    embedding_size: int = 128
    dropout: float = 0.1
    tokens: bool = True
