"""AdamW with sparse updates of embedding tables: a step touches only the words of its batch."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class LazyAdamW(torch.optim.Optimizer):
    """AdamW for dense gradients, SparseAdam for the sparse gradients of embedding tables.

    A dense Adam step over 30,000 word vectors costs more than forward and backward of a small student, and a third of a
    step of a transformer of 3 layers.
    Rows without a gradient keep their moments, as in `torch.optim.SparseAdam`; tables have no weight decay.
    """

    # Keeps accelerate from wrapping it: the wrapper searches the disk for a package in every step, and has nothing to
    # do in one process without loss scaling.
    _is_accelerate_prepared = True
    step_was_skipped = False

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        tables = {id(p) for p in sparse_parameters(model)}
        trained = [p for p in model.parameters() if p.requires_grad]
        dense = [p for p in trained if id(p) not in tables]
        decayed = [p for p in dense if p.ndim > 1]
        plain = [p for p in dense if p.ndim <= 1]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}],
                lr=lr,
                betas=betas,
                eps=eps,
                fused=True,
            )
        ]
        if tables:
            self._parts.append(torch.optim.SparseAdam([p for p in trained if id(p) in tables], lr, betas, eps))
        super().__init__([{"params": group["params"]} for part in self._parts for group in part.param_groups], {})
        self._share_groups()

    def _share_groups(self) -> None:
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for part in self._parts:
            part.step()
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


def set_sparse_embeddings(modules: Iterable[nn.Module], sparse: bool) -> None:
    """Switch trained embedding tables to sparse gradients (on the CPU, in one process), or back to dense ones."""
    for module in modules:
        if isinstance(module, nn.Embedding) and "weight" in module._parameters:  # not if it is computed
            module.sparse = sparse and module.weight.requires_grad


def word_table(model: Any) -> nn.Module:
    """The word vectors of a transformer; an empty module if its class does not tell."""
    try:
        table: nn.Module = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return nn.Module()
    return table


def sparse_parameters(model: nn.Module) -> list[Tensor]:
    return [m.weight for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse and m.weight.requires_grad]


def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """`torch.nn.utils.clip_grad_norm_` with support for sparse gradients. Returns the norm before clipping."""
    values = []
    for parameter in model.parameters():
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            values.append(parameter.grad.values())
        else:
            values.append(parameter.grad)
    norm = torch.nn.utils.get_total_norm(values)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for value in values:
        value.mul_(scale)
    return norm
