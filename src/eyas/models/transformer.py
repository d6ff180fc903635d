"""Small transformers of the teacher's own family: BERT-Tiny to BERT-Medium (Turc et al. 2019, table 1)."""

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedModel

from eyas.errors import ModelError
from eyas.settings import Size

# What a family calls the width of its feed-forward layer, what else is as wide as its layers, and dropout.
FEED_FORWARD, WIDTHS = ("intermediate_size", "hidden_dim"), ("embedding_size", "pooler_hidden_size")
DROPOUT = ("hidden_dropout_prob", "dropout", "mlp_dropout", "attention_dropout")
# The last layer, with an output for each label.
LAST_LAYER = tuple(f"classifier.{layer}{kind}" for layer in ("", "out_proj.") for kind in ("weight", "bias"))
# A layer's number in the name of a parameter.
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
        settings: fields of its configuration, beside those of `smaller_config`.

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
        layers: of the teacher, counted from 1, that the student will start from; where a family has layers of several
            kinds (ModernBERT), it gets the teacher's.
        dropout: of hidden states, whatever the family calls it; by default as the teacher's.

    Raises:
        ModelError: the teacher is no transformer, of a family whose sizes are called otherwise, or sizes do not fit.
    """
    check_family(teacher)
    config = copy.deepcopy(teacher.config)
    feed_forward = next(name for name in FEED_FORWARD if hasattr(config, name))
    width = size.hidden_size or config.hidden_size
    heads = size.heads or config.num_attention_heads
    if width % heads:
        raise ModelError(
            f"A width of {width} can't be cut into {heads} heads. Choose --heads that divide --hidden-size."
        )
    count = size.layers or config.num_hidden_layers
    kinds = getattr(config, "layer_types", None)
    if kinds:
        config.layer_types = [kinds[layer - 1] for layer in layers] if layers else kinds[:count]
    config.num_hidden_layers = count
    config.hidden_size, config.num_attention_heads = width, heads
    if size.feed_forward:
        setattr(config, feed_forward, size.feed_forward)
    for name in WIDTHS:  # a table of another width than the layers keeps its own
        if getattr(config, name, None) == teacher.config.hidden_size:
            setattr(config, name, width)
    if dropout is not None:
        setattr(config, next((name for name in DROPOUT if hasattr(config, name)), DROPOUT[0]), dropout)
    return config


def check_family(teacher: PreTrainedModel) -> None:
    """Raises ModelError where the teacher is no transformer, or of a family whose sizes are called otherwise."""
    config = teacher.config
    if not hasattr(config, "num_hidden_layers") or not any(hasattr(config, name) for name in FEED_FORWARD):
        raise ModelError(
            f"A student like {type(teacher).__name__} cannot be made smaller here: its configuration names no layers. "
            "Choose static, cnn, bilstm or cnn-lstm."
        )


def chosen_layers(start: str, student_layers: int, teacher_layers: int) -> list[int]:
    """The teacher's layers that the student starts from, counted from 1.

    Args:
        start: "first", "last", "skip" (every n-th, the last among them), or numbers such as "1,3,5".

    Raises:
        ModelError: no such start, or other than one layer for each of the student's.
    """
    if start in STARTS:
        layers = STARTS[start](student_layers, teacher_layers)
    elif re.fullmatch(r"\d+(,\d+)*", start):
        layers = [int(number) for number in start.split(",")]
    else:
        raise ModelError(
            f"No init {start!r}. Expected random, {', '.join(STARTS)}, layers such as 1,3,5, or a model's folder."
        )
    if len(layers) != student_layers or not all(1 <= layer <= teacher_layers for layer in layers):
        raise ModelError(
            f"--init {start} is {layers}: expected {student_layers} of the teacher's layers 1 to {teacher_layers}, "
            "one for each of the student's. Change --init or --layers."
        )
    return layers


def positions(table: Tensor, teacher: Any, student: Any) -> Tensor:
    """The teacher's table of positions, from the student's first on.

    RoBERTa's positions start behind the padding id, which is another in the student.
    """
    return table[teacher.pad_token_id - student.pad_token_id :] if "roberta" in teacher.model_type else table


@torch.no_grad()
def copy_layers(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    layers: Sequence[int],
    rows: Sequence[Sequence[int]],
    order: Sequence[int] | None,
) -> None:
    """Start the student as the teacher's embeddings, some of its layers, and what lies above them.

    Args:
        layers: of the teacher, counted from 1, one for each of the student's.
        rows: for each token of the student, the teacher's tokens whose vectors' mean it gets.
        order: for each label of the student the teacher's output for it; without it, the last layer stays random.

    Raises:
        ModelError: the student is of another width. Parameters of another shape stay random: a feed-forward layer of
            another width, more positions.
    """
    if student.config.hidden_size != teacher.config.hidden_size:
        raise ModelError(
            f"The student is {student.config.hidden_size} wide, the teacher {teacher.config.hidden_size}: a student of "
            "other widths can't start from the teacher's layers. Use --init random."
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
            source = positions(source, teacher.config, student.config)
            value[: len(source)] = source[: len(value)]
        elif value.shape == source.shape:
            value.copy_(source)
