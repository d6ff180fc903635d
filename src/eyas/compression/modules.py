"""The parts of a model that can be compressed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from eyas.errors import ModelError

# Matrices with fewer elements stay as they are.
SMALLEST = 512


@dataclass(frozen=True)
class Matrix:
    """A linear layer, or the table of word vectors."""

    name: str
    module: Any

    @property
    def weight(self) -> Tensor:
        weight: Tensor = self.module.weight
        return weight

    @property
    def is_table(self) -> bool:
        return isinstance(self.module, nn.Embedding)


def matrices(model: Any) -> list[Matrix]:
    """The linear layers and the table of word vectors, without the output layer, other tables and small matrices.

    Raises:
        ModelError: the table is also another layer's weight.
    """
    table = model.get_input_embeddings()
    others = [module for module in model.modules() if module is not table and isinstance(module, nn.Linear)]
    if any(module.weight is table.weight for module in others):
        raise ModelError(
            f"The word vectors of this {type(model).__name__} are tied to another layer, so they cannot be compressed "
            "apart. Choose a model whose config has tie_word_embeddings=false."
        )
    outputs, tables = getattr(model, "num_labels", 0), (table, getattr(table, "down", None))
    return [
        Matrix(name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Embedding)
        and module.weight.numel() >= SMALLEST
        and (module in tables if isinstance(module, nn.Embedding) else module.out_features != outputs)
    ]


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` where the model has the module `name`."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def named(model: nn.Module, kind: type[Any] | tuple[type[Any], ...]) -> Iterator[tuple[str, Any]]:
    """The modules of a kind, listed before any is replaced."""
    yield from [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]
