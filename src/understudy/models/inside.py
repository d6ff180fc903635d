"""What a transformer computes inside and does not return: queries, keys and values of every layer."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from understudy.errors import ModelError

# What the families call these projections: BERT, RoBERTa, ELECTRA, ALBERT; DistilBERT; DeBERTa-v2; newer ones.
PROJECTIONS: dict[str, tuple[str, ...]] = {
    "queries": ("query", "q_lin", "query_proj", "q_proj"),
    "keys": ("key", "k_lin", "key_proj", "k_proj"),
    "values": ("value", "v_lin", "value_proj", "v_proj"),
}
# Their attention is more than queries times keys.
RELATIVE = ("deberta", "deberta-v2")


@contextmanager
def capture(model: nn.Module, fields: Collection[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Collect those of `fields` that are in `PROJECTIONS`, one [batch, length, size] a layer, while the model runs.

    Raises:
        ModelError: the model has no such projections.
    """
    found: dict[str, list[Tensor]] = {field: [] for field in fields if field in PROJECTIONS}
    hooks = []
    try:
        for field, outputs in found.items():
            modules = projections(model, field)
            hooks += [module.register_forward_hook(_keep(outputs)) for module in modules]
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def projections(model: nn.Module, field: str) -> list[nn.Module]:
    """The projections to queries, keys or values, from the bottom; raises ModelError where there are none."""
    names = PROJECTIONS[field]
    modules = [module for name, module in model.named_modules() if name.rsplit(".", 1)[-1] in names]
    if not modules:
        raise ModelError(
            f"{type(model).__name__} has no {field} of its own to compare attention by. Choose a recipe that reads "
            "logits or hidden states."
        )
    return modules


def check_attention(config: Any) -> None:
    """Raises ModelError for a family whose attention is not made of queries and keys alone."""
    if config.model_type in RELATIVE:
        raise ModelError(
            f"{config.model_type} attends by relative positions as well: its attention can't be compared here. Choose "
            "a recipe that reads logits or hidden states, or minilmv2, which compares relations."
        )


def _keep(outputs: list[Tensor]) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs.append(output)

    return hook
