"""The parts of a model that can be compressed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from eyas.errors import ModelError

# Matrices with fewer elements stay as they are.
SMALLEST = 512
# The end of the names of output layers in our own students, of which ensembles and students of several tasks have many.
OWN_HEAD = ".head.classifier"


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
    """The linear layers and the table of word vectors, without output layers, other tables and small matrices.

    Raises:
        ModelError: the table is also another layer's weight.
    """
    table = model.get_input_embeddings()
    tables = (table, getattr(table, "down", None))
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    words = table._parameters.get("weight")
    if words is not None and any(module._parameters.get("weight") is words for module in linears):
        raise ModelError(
            f"The word vectors of this {type(model).__name__} are tied to another layer, so they cannot be compressed "
            "apart. Choose a model whose config has tie_word_embeddings=false."
        )
    labels = getattr(model, "num_labels", 0)
    heads = [module for name, module in model.named_modules() if f".{name}".endswith(OWN_HEAD)]
    heads = heads or [module for module in linears if module.out_features == labels][-1:]
    found = [
        Matrix(name, module)
        for name, module in model.named_modules()
        if (module in tables if isinstance(module, nn.Embedding) else isinstance(module, nn.Linear))
    ]
    return [one for one in found if one.module not in heads and one.weight.numel() >= SMALLEST]


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` where the model has the module `name`."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def named(model: nn.Module, kind: type[Any] | tuple[type[Any], ...]) -> Iterator[tuple[str, Any]]:
    """The modules of a kind, listed before any is replaced."""
    yield from [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]
