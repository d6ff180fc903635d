"""Pruning: weights, attention heads or feed-forward units become zero, and stay so while the rest is trained."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eyas.compression.low_rank import FactoredLinear
from eyas.compression.modules import matrices
from eyas.errors import ModelError
from eyas.models.inside import FUSED, layers_of, projections
from eyas.models.transformer import FEED_FORWARD

logger = logging.getLogger("eyas")

Batches: TypeAlias = Sequence[Mapping[str, Tensor]]

# The layer after the attention heads, by the end of its name, in BERT, RoBERTa, ELECTRA; DistilBERT.
ATTENTION_OUTPUTS = ("attention.output.dense", "attention.out_lin")
# Families whose attention takes any number of heads in each layer.
WITH_HEADS = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")


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
    if model.config.model_type not in WITH_HEADS or is_fused(model) or not readers:
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


def prune_parts(model: Any, parts: Sequence[Part], share: float, batches: Batches) -> None:
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
    count = sum(part.count for part in parts)
    removed = ranked[: round(share * count)]
    if not ranked:
        raise ModelError("Every layer has one head or unit, which it keeps: there is none to remove (--method).")
    if not removed:
        raise ModelError(f"A share of {share:g} (--method) of {count} heads or units is none. Give a larger share.")
    if len(removed) < round(share * count):
        logger.warning("Of %d heads or units, %d are removed: every layer keeps one.", count, len(removed))
    for layer, part in enumerate(parts):
        mask = torch.ones(part.count, device=part.first.weight.device)
        mask[[place for _, at, place in removed if at == layer]] = 0
        columns = mask.repeat_interleave(part.first.weight.shape[1] // part.count)
        _mask(part.first, columns.expand_as(part.first.weight).clone())


def importance(model: Any, parts: Sequence[Part], batches: Batches) -> list[Tensor]:
    """[count] for each part: the mean squared derivative of the logits by a factor on each head or unit."""
    weights = [part.first.weight for part in parts]

    def by_part(gradients: Sequence[Tensor]) -> list[Tensor]:
        """A factor on what a weight reads is a factor on the columns that read it."""
        effects = [(gradient * weight.detach()).sum(0) for gradient, weight in zip(gradients, weights, strict=True)]
        return [effect.view(part.count, -1).sum(1) for effect, part in zip(effects, parts, strict=True)]

    return mean_squares(model, weights, by_part, batches)


def mean_squares(
    model: Any, weights: Sequence[Tensor], reduce: Callable[[Sequence[Tensor]], list[Tensor]], batches: Batches
) -> list[Tensor]:
    """The mean over the batches of the squares of `reduce(gradients)`, with the logits' gradients by `weights`.

    The logits are added with random signs, so that the squares are those of all logits together, in expectation.
    """
    was_training, frozen = model.training, [weight for weight in weights if not weight.requires_grad]
    model.eval()
    for weight in frozen:
        weight.requires_grad_(True)
    signs, sums = torch.Generator().manual_seed(0), []
    with torch.backends.cudnn.flags(enabled=False):  # its LSTM has no gradients in eval mode
        for batch in on_device(batches, model.device):
            logits = model(**batch).logits
            vector = torch.randint(0, 2, logits.shape, generator=signs).to(logits) * 2 - 1
            found = reduce(torch.autograd.grad((logits * vector).sum(), weights))
            sums.append([one.detach().cpu().square() for one in found])
    model.train(was_training)
    for weight in frozen:
        weight.requires_grad_(False)
    return [torch.stack(ones).mean(0) for ones in zip(*sums, strict=True)]


def on_device(batches: Batches, device: torch.device) -> list[dict[str, Tensor]]:
    """The batches on a model's device."""
    return [{name: value.to(device) for name, value in batch.items()} for batch in batches]
