"""Small transformers of the teacher's own family: BERT-Tiny to BERT-Medium (Turc et al. 2019, table 1)."""

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedModel

from eyas.errors import ModelError
from eyas.models.positions import shifted_positions
from eyas.settings import Size
from eyas.tasks import COMPRESSION

# Names in a configuration: feed-forward size, other sizes that equal the hidden size, and dropout.
FEED_FORWARD, WIDTHS = ("intermediate_size", "hidden_dim"), ("embedding_size", "pooler_hidden_size")
DROPOUT = ("hidden_dropout_prob", "dropout", "mlp_dropout", "attention_dropout")
# The last layer, with an output for each label.
LAST_LAYER = tuple(f"classifier.{layer}{kind}" for layer in ("", "out_proj.") for kind in ("weight", "bias"))
# The layer number in the name of a parameter.
_LAYER = re.compile(r"(?<=\.layer\.)\d+(?=\.)|(?<=\.layers\.)\d+(?=\.)")

STARTS: dict[str, Callable[[int, int], list[int]]] = {
    "first": lambda count, of: list(range(1, count + 1)),
    "last": lambda count, of: list(range(of - count + 1, of + 1)),
    "skip": lambda count, of: [round((number + 1) * of / count) for number in range(count)],
}


def new_transformer(
    teacher: PreTrainedModel,
    size: Size,
    tagging: bool,
    layers: Sequence[int] | None = None,
    dropout: float | None = None,
    **settings: Any,
) -> PreTrainedModel:
    """A model of the teacher's family with random weights.

    Args:
        settings: more fields of its configuration.

    Raises:
        ModelError: as `smaller_config`.
    """
    config = smaller_config(teacher, size, layers, dropout)
    for name, value in settings.items():
        setattr(config, name, value)
    auto: Any = AutoModelForTokenClassification if tagging else AutoModelForSequenceClassification
    model: PreTrainedModel = auto.from_config(config).float()
    return model


def smaller_config(
    teacher: PreTrainedModel, size: Size, layers: Sequence[int] | None = None, dropout: float | None = None
) -> Any:
    """The teacher's configuration in another size.

    Args:
        layers: the teacher's layers from which the student starts, counted from 1. In families with several kinds of
            layers (ModernBERT), the student's are of the same kinds.
        dropout: of hidden states; by default the teacher's.

    Raises:
        ModelError: the teacher's family is not supported, or the heads do not divide the hidden size.
    """
    check_family(teacher)
    config = copy.deepcopy(teacher.config)
    vars(config).pop(COMPRESSION, None)  # of the teacher's weights
    feed_forward = next(name for name in FEED_FORWARD if hasattr(config, name))
    width = size.hidden_size or config.hidden_size
    heads = size.heads or config.num_attention_heads
    check_heads(width, heads)
    count = size.layers or config.num_hidden_layers
    kinds = getattr(config, "layer_types", None)
    if kinds:
        config.layer_types = [kinds[layer - 1] for layer in layers] if layers else kinds[:count]
    config.num_hidden_layers = count
    config.hidden_size, config.num_attention_heads = width, heads
    if size.feed_forward:
        setattr(config, feed_forward, size.feed_forward)
    for name in WIDTHS:  # a size that differs from the hidden size stays
        if getattr(config, name, None) == teacher.config.hidden_size:
            setattr(config, name, width)
    if dropout is not None:
        setattr(config, next((name for name in DROPOUT if hasattr(config, name)), DROPOUT[0]), dropout)
    return config


def check_heads(hidden_size: int, heads: int) -> None:
    """Raises ModelError if the heads do not divide the hidden size."""
    if hidden_size % heads:
        raise ModelError(
            f"hidden_size (--hidden-size) is {hidden_size}, expected a multiple of the {heads} heads (--heads)."
        )


def check_family(teacher: PreTrainedModel) -> None:
    """Raises ModelError if the teacher's configuration has no number of layers or no feed-forward size."""
    config = teacher.config
    if not hasattr(config, "num_hidden_layers") or not any(hasattr(config, name) for name in FEED_FORWARD):
        raise ModelError(
            f"Cannot make a smaller {type(teacher).__name__}: its configuration has no known names for the number of "
            "layers and the feed-forward size. Choose static, cnn, bilstm or cnn-lstm."
        )


def chosen_layers(start: str, student_layers: int, teacher_layers: int) -> list[int]:
    """The teacher's layers that the student starts from, counted from 1.

    Args:
        start: "first", "last", "skip" (every n-th, including the last), or numbers such as "1,3,5".

    Raises:
        ModelError: unknown `start`, or not exactly one layer per student layer.
    """
    layers = listed_layers(start, student_layers) or STARTS[start](student_layers, teacher_layers)
    if not all(1 <= layer <= teacher_layers for layer in layers):
        raise ModelError(
            f"init (--init) {start} gives the layers {layers}, expected {student_layers} of the teacher's layers 1 to "
            f"{teacher_layers}. Change init or layers (--layers)."
        )
    return layers


def listed_layers(start: str, student_layers: int | None) -> list[int]:
    """The layers that `start` lists, counted from 1; none for "first", "last" and "skip".

    Args:
        student_layers: how many the student has; None if that is the teacher's to say.

    Raises:
        ModelError: unknown `start`, or not exactly one layer per student layer.
    """
    if start in STARTS:
        return []
    if not re.fullmatch(r"\d+(,\d+)*", start):
        raise ModelError(
            f"No init {start!r}. Expected random, {', '.join(STARTS)}, layers such as 1,3,5, or a model's folder."
        )
    layers = [int(number) for number in start.split(",")]
    if student_layers not in (None, len(layers)):
        raise ModelError(
            f"init (--init) lists the layers {start}, expected {student_layers}, one per student layer. Change init or "
            "layers (--layers)."
        )
    return layers


@torch.no_grad()
def copy_head(student: PreTrainedModel, teacher: PreTrainedModel, order: Sequence[int]) -> None:
    """Copy the teacher's pooler and head into a student of the same class and hidden size, as `copy_layers` does."""
    if type(student) is not type(teacher) or student.config.hidden_size != teacher.config.hidden_size:
        return
    weights, body = teacher.state_dict(), f"{student.base_model_prefix}."
    for name, value in student.state_dict().items():
        if name not in weights or (name.startswith(body) and not name.startswith(f"{body}pooler.")):
            continue
        source = weights[name][list(order)] if name in LAST_LAYER else weights[name]
        if value.shape == source.shape:
            value.copy_(source)


@torch.no_grad()
def copy_layers(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    layers: Sequence[int],
    rows: Sequence[Sequence[int]],
    order: Sequence[int] | None,
) -> None:
    """Copy the teacher's embeddings, some of its layers, and its head into the student.

    Parameters of another shape stay random: a feed-forward layer of another size, additional positions.

    Args:
        layers: layers of the teacher, counted from 1, one per student layer.
        rows: for each student token, the teacher tokens whose vectors are averaged.
        order: for each student label, the index of the teacher's output; None leaves the last layer random.

    Raises:
        ModelError: the hidden sizes differ.
    """
    if student.config.hidden_size != teacher.config.hidden_size:
        raise ModelError(
            f"The student's hidden size is {student.config.hidden_size}, the teacher's {teacher.config.hidden_size}: "
            "the teacher's layers cannot be copied. Set init (--init) to random."
        )
    weights = teacher.base_model.state_dict(prefix=f"{student.base_model_prefix}.") | teacher.state_dict()
    table: Any = student.get_input_embeddings()
    words = next(name for name, parameter in student.named_parameters() if parameter is table.weight)
    for name, value in student.state_dict().items():
        source = weights.get(_LAYER.sub(lambda match: str(layers[int(match.group())] - 1), name))
        if source is None:
            continue
        source = source.to(value.device)
        if name in LAST_LAYER:
            if order is not None:
                value.copy_(source[list(order)])
            continue
        if name == words:
            value.copy_(torch.stack([source[list(row)].mean(0) if row else source.mean(0) for row in rows]))
            value[student.config.pad_token_id] = 0.0
        elif name.endswith("position_embeddings.weight"):
            source = shifted_positions(teacher, student).to(value.device)
            value[: len(source)] = source[: len(value)]
        elif value.shape == source.shape:
            value.copy_(source)
