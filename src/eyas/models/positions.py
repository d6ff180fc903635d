"""Learned position embeddings. Families differ in the row of a text's first token, so the embeddings are asked."""

from torch import Tensor, nn
from transformers import PreTrainedModel

from eyas.errors import ModelError


def position_table(model: PreTrainedModel) -> nn.Embedding | None:
    """The table of absolute positions; None if positions are relative or rotary."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(module, nn.Embedding):
            return module
    return None


def first_position(table: nn.Embedding) -> int:
    """The row of a text's first token: in RoBERTa's descendants the one after the padding row."""
    return 0 if table.padding_idx is None else table.padding_idx + 1


def position_count(model: PreTrainedModel) -> int | None:
    """How many tokens have a position; None if there is no limit."""
    table = position_table(model)
    if table is not None:
        return table.num_embeddings - first_position(table)
    return getattr(model.config, "max_position_embeddings", None)


def shifted_positions(teacher: PreTrainedModel, student: PreTrainedModel) -> Tensor:
    """The teacher's table from the row that fits the student's first row.

    Raises:
        ValueError: one of them has no such table.
    """
    tables = position_table(teacher), position_table(student)
    if tables[0] is None or tables[1] is None:
        raise ValueError("expected two models with learned absolute positions")
    return tables[0].weight[first_position(tables[0]) - first_position(tables[1]) :]


def check_padding(student: PreTrainedModel) -> None:
    """Raises ModelError if the model derives positions from a padding id that its configuration cannot set (MPNet)."""
    table = position_table(student)
    if table is not None and table.padding_idx not in (None, student.config.pad_token_id):
        raise ModelError(
            f"A student cannot be a {type(student).__name__}: it derives positions from the padding id "
            f"{table.padding_idx}, whatever its configuration says. Choose static, cnn, bilstm or cnn-lstm."
        )
