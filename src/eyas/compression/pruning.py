"""Pruning: weights, attention heads or feed-forward units become zero, and stay so while the rest is trained."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eyas.compression.low_rank import FactoredLinear
from eyas.compression.modules import matrices
from eyas.errors import ModelError
from eyas.models.inside import FUSED, RELATIVE, layers_of, projections
from eyas.models.transformer import FEED_FORWARD

# The layer after the attention heads, by the end of its name, in BERT, RoBERTa, ELECTRA; DistilBERT.
ATTENTION_OUTPUTS = ("attention.output.dense", "attention.out_lin")


class Pruned(nn.Module):
    """A parametrization: the weight times a mask of zeros and ones."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        masked: Tensor = weight * self.mask
        return masked

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


@torch.no_grad()
def prune(model: Any, share: float) -> None:
    """Set the smallest weights of each matrix to zero (Han et al. 2015), in place. Again, with a larger share, more.

    That saves bytes, and no time: a matrix product takes as long with zeros.

    Args:
        share: of each matrix's weights, in (0, 1).
    """
    for matrix in matrices(model):
        size = matrix.weight.detach().abs().flatten()
        smallest = size.argsort(stable=True)[: round(share * len(size))]
        mask = torch.ones_like(size)
        mask[smallest] = 0
        _mask(matrix.module, mask.view_as(matrix.weight))


def _mask(module: nn.Module, mask: Tensor) -> None:
    found = getattr(module, "parametrizations", {})
    own = [one for one in found["weight"] if isinstance(one, Pruned)] if "weight" in found else []
    if own:
        own[0].mask.mul_(mask)
    else:
        parametrize.register_parametrization(module, "weight", Pruned(mask), unsafe=True)


class Part:
    """Heads or feed-forward units of one layer: what makes them, and the layer that reads them.

    Args:
        makers: linear layers whose outputs are grouped into them.
        reader: the linear layer whose inputs they are.
        count: how many.
    """

    def __init__(self, makers: list[Any], reader: Any, count: int) -> None:
        self.makers, self.reader, self.count = makers, reader, count

    @property
    def first(self) -> Any:
        """The module whose weight [., inputs] has the reader's inputs as columns."""
        return self.reader.down if isinstance(self.reader, FactoredLinear) else self.reader

    def kept(self) -> Tensor:
        """[count] whether the reader still reads them."""
        read: Tensor = (self.first.weight != 0).any(0)
        return read.view(self.count, -1).any(1)


def heads_of(model: Any) -> list[Part]:
    """The attention heads of every layer.

    Raises:
        ModelError: an unsupported family.
    """
    readers = [module for part, module in model.named_modules() if part.endswith(ATTENTION_OUTPUTS)]
    if model.config.model_type in RELATIVE or is_fused(model) or not readers:
        raise ModelError(
            f"The attention heads of a {type(model).__name__} cannot be pruned. Choose low-rank, prune, or few bits."
        )
    makers = [projections(model, field) for field in ("queries", "keys", "values")]
    count = model.config.num_attention_heads
    return [Part(list(parts), reader, count) for *parts, reader in zip(*makers, readers, strict=True)]


def is_fused(model: Any) -> bool:
    """Whether queries, keys and values are one matrix."""
    return any(part.endswith(FUSED) for part, _ in model.named_modules())


def units_of(model: Any) -> list[Part]:
    """The feed-forward units of every layer; raises ModelError for an unsupported family."""
    unknown = ModelError(
        f"The feed-forward units of a {type(model).__name__} cannot be pruned. Choose low-rank, prune, or few bits."
    )
    if is_fused(model) or not hasattr(model.config, "num_hidden_layers"):
        raise unknown
    size = next((getattr(model.config, name) for name in FEED_FORWARD if hasattr(model.config, name)), None)
    found = []
    for layer in layers_of(model):
        found_linears: list[Any] = [m for m in layer.modules() if isinstance(m, FactoredLinear | nn.Linear)]
        factors = {factor for one in found_linears for factor in one.children()}
        linears = [one for one in found_linears if one not in factors]
        makers = [one for one in linears if one.out_features == size != one.in_features]
        readers = [one for one in linears if one.in_features == size != one.out_features]
        if len(makers) != 1 or len(readers) != 1:
            raise unknown
        found.append(Part(makers, readers[0], int(size or 0)))
    return found


def prune_parts(model: Any, parts: Sequence[Part], share: float, batches: Sequence[Mapping[str, Tensor]]) -> None:
    """Remove the least important heads or units of all layers together, in place; every layer keeps one.

    The importance is how much the logits change, to first order, on the texts of `batches` (Michel et al. 2019, with
    the logits themselves in place of the loss, so that no labels are needed).

    Args:
        share: of all heads or units, in (0, 1).
    """
    scores = importance(model, parts, batches)
    best = [int(one.argmax()) for one in scores]
    ranked = sorted(
        (float(score), layer, place)
        for layer, one in enumerate(scores)
        for place, score in enumerate(one)
        if place != best[layer]
    )
    removed = ranked[: round(share * sum(part.count for part in parts))]
    for layer, part in enumerate(parts):
        mask = torch.ones(part.count, device=part.first.weight.device)
        mask[[place for _, at, place in removed if at == layer]] = 0
        columns = mask.repeat_interleave(part.first.weight.shape[1] // part.count)
        _mask(part.first, columns.expand_as(part.first.weight).clone())


def importance(model: Any, parts: Sequence[Part], batches: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
    """[count] for each part: the mean squared derivative of the logits by a factor on each head or unit."""
    was_training = model.training
    model.eval()
    signs = torch.Generator().manual_seed(0)
    totals = [torch.zeros(part.count) for part in parts]
    with _factors(parts) as factors:
        for batch in on_device(batches, model.device):
            logits = model(**batch).logits
            vector = torch.randint(0, 2, logits.shape, generator=signs).to(logits) * 2 - 1
            gradients = torch.autograd.grad((logits * vector).sum(), factors)
            for total, gradient in zip(totals, gradients, strict=True):
                total += gradient.detach().cpu().square()
    model.train(was_training)
    return totals


def on_device(batches: Sequence[Mapping[str, Tensor]], device: torch.device) -> list[dict[str, Tensor]]:
    """The batches on a model's device."""
    return [{name: value.to(device) for name, value in batch.items()} for batch in batches]


@contextmanager
def _factors(parts: Sequence[Part]) -> Iterator[list[Tensor]]:
    """A factor of one on each head or unit, of which gradients can be taken."""
    factors = [torch.ones(part.count, device=part.first.weight.device, requires_grad=True) for part in parts]

    def hook(factor: Tensor) -> Any:
        def scale(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (inputs[0] * factor.repeat_interleave(inputs[0].shape[-1] // len(factor)),)

        return scale

    handles = [part.first.register_forward_pre_hook(hook(factor)) for part, factor in zip(parts, factors, strict=True)]
    try:
        yield factors
    finally:
        for handle in handles:
            handle.remove()
