"""Low rank: a matrix as the product of two thin ones (LadaBERT, Mao et al. 2020; LORTSAR, Oraki et al. 2024)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from eyas.compression.modules import Matrix, matrices, replace_module
from eyas.errors import ModelError

# Share of a covariance's mean variance that is added to each variance, so that it can be inverted.
RIDGE = 1e-3
# Our convolutions: an export joins their weights to one matrix, so thin ones would save nothing.
KERNELS = ".kernels."


class FactoredLinear(nn.Module):
    """A linear layer of low rank: `down` [rank, inputs], then `up` [outputs, rank] with the bias."""

    def __init__(self, down: Tensor, up: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        (rank, self.in_features), self.out_features = down.shape, up.shape[0]
        self.down = nn.Linear(self.in_features, rank, bias=False)
        self.up = nn.Linear(rank, self.out_features, bias=bias is not None)
        _fill(self.down.weight, down)
        _fill(self.up.weight, up)
        if bias is not None:
            _fill(self.up.bias, bias)

    @property
    def weight(self) -> Tensor:
        """[outputs, inputs] the product."""
        return self.up.weight @ self.down.weight

    @property
    def bias(self) -> Tensor:
        return self.up.bias

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.up(self.down(inputs))
        return outputs

    def merged(self) -> nn.Linear:
        linear = nn.Linear(self.in_features, self.out_features, bias=self.up.bias is not None)
        _fill(linear.weight, self.weight)
        if self.up.bias is not None:
            _fill(linear.bias, self.up.bias)
        return linear


class FactoredEmbedding(nn.Module):
    """A table of low rank: `down` [tokens, rank], then `up` [size, rank]."""

    def __init__(self, down: Tensor, up: Tensor, padding: int | None) -> None:
        super().__init__()
        tokens, rank = down.shape
        self.num_embeddings, self.embedding_dim = tokens, up.shape[0]
        self.down = nn.Embedding(tokens, rank, padding)
        self.up = nn.Linear(rank, up.shape[0], bias=False)
        _fill(self.down.weight, down)
        _fill(self.up.weight, up)

    @property
    def weight(self) -> Tensor:
        """[tokens, size] the product."""
        return self.down.weight @ self.up.weight.T

    def forward(self, ids: Tensor) -> Tensor:
        vectors: Tensor = self.up(self.down(ids))
        return vectors

    def merged(self) -> nn.Embedding:
        table = nn.Embedding(self.num_embeddings, self.embedding_dim, self.down.padding_idx)
        _fill(table.weight, self.weight)
        return table


@torch.no_grad()
def spread(module: FactoredLinear | FactoredEmbedding) -> None:
    """Rotate the values between the two factors at random, in place; the product stays the same.

    In int8 these values have one scale, and those of the largest singular values would decide it (after QuaRot,
    Ashkboos et al. 2024, arXiv 2404.00456).
    """
    rank = module.up.in_features
    normal = torch.randn(rank, rank, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rotation, _ = torch.linalg.qr(normal)
    down, up = module.down.weight, module.up.weight
    up.copy_(up.double() @ rotation)
    down.copy_(down.double() @ rotation if isinstance(module, FactoredEmbedding) else rotation.T @ down.double())


def low_rank(
    model: Any, share: float, rule: str = "share", inputs: Mapping[str, Tensor] | None = None
) -> dict[str, int]:
    """Replace linear layers and the table of word vectors by products of two thinner matrices, in place.

    Args:
        share: in (0, 1), for the rule "share" of each matrix's parameters that are kept; for "budget" of all together,
            spread so that most of the energy is kept; for "energy" of each matrix's squared singular values.
        inputs: {module: second moments of its inputs [inputs, inputs]; of a table, how often each token occurs}. With
            them the outputs on such inputs are approximated, otherwise the weights (plain SVD).

    Returns:
        The rank of each matrix that was replaced. A matrix stays as it is where its rank would save nothing.

    Raises:
        ModelError: nothing would become smaller.
    """
    chosen = [matrix for matrix in matrices(model) if KERNELS not in matrix.name]
    found = {matrix.name: _decompose(matrix, (inputs or {}).get(matrix.name)) for matrix in chosen}
    ranks = {name: rank for name, rank in RULES[rule](found, share).items() if found[name].saves(rank)}
    if not ranks:
        raise ModelError(
            f"low-rank: with the {rule} {share:g}, no matrix of this {type(model).__name__} becomes smaller. Choose a "
            "smaller share."
        )
    for name, rank in ranks.items():
        replace_module(model, name, found[name].factored(rank))
    return ranks


class _Decomposed:
    """The singular values of a matrix, largest first, and what they multiply."""

    def __init__(self, matrix: Matrix, left: Tensor, values: Tensor, right: Tensor) -> None:
        self.matrix, self.left, self.values, self.right = matrix, left, values, right
        self.size, self.cost = matrix.weight.numel(), sum(matrix.weight.shape)
        self.energy = values.square() / values.square().sum().clamp_min(1e-30)

    def saves(self, rank: int) -> bool:
        return rank * self.cost < self.size

    def factored(self, rank: int) -> nn.Module:
        root = self.values[:rank].sqrt()
        left, right = self.left[:, :rank] * root, root[:, None] * self.right[:rank]
        module = self.matrix.module
        made: nn.Module
        if isinstance(module, nn.Embedding):
            made = FactoredEmbedding(left, right.T, module.padding_idx)
        else:
            made = FactoredLinear(right, left, module.bias)
        made.to(module.weight.device).train(module.training)
        return made.requires_grad_(module.weight.requires_grad)


@torch.no_grad()
def _decompose(matrix: Matrix, inputs: Tensor | None) -> _Decomposed:
    """The SVD of W S, with S S = the second moments of the inputs, which minimizes the error of the outputs."""
    weight = matrix.weight.detach().cpu().double()
    if inputs is None:
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
    elif matrix.is_table:
        root = (inputs.double() + inputs.double().mean() * RIDGE).sqrt()[:, None]
        left, values, right = torch.linalg.svd(root * weight, full_matrices=False)
        left = left / root
    else:
        moments = inputs.double()
        moments = moments + torch.eye(len(moments), dtype=moments.dtype) * moments.diagonal().mean() * RIDGE
        eigenvalues, vectors = torch.linalg.eigh(moments)
        root = (vectors * eigenvalues.clamp_min(0).sqrt()) @ vectors.T
        left, values, right = torch.linalg.svd(weight @ root, full_matrices=False)
        right = torch.linalg.solve(root, right, left=False)
    return _Decomposed(matrix, left.float(), values.float(), right.float())


def _by_share(found: dict[str, _Decomposed], share: float) -> dict[str, int]:
    return {name: max(int(share * one.size / one.cost), 1) for name, one in found.items()}


def _by_energy(found: dict[str, _Decomposed], share: float) -> dict[str, int]:
    return {name: int((one.energy.cumsum(0) < share).sum()) + 1 for name, one in found.items()}


def _by_budget(found: dict[str, _Decomposed], share: float) -> dict[str, int]:
    """Greedily the singular values with most energy for their parameters; each matrix has at least one."""
    gains = [(float(e) / one.cost, name) for name, one in found.items() for e in one.energy[1:]]
    ranks = dict.fromkeys(found, 1)
    left = share * sum(one.size for one in found.values()) - sum(one.cost for one in found.values())
    for _, name in sorted(gains, reverse=True):
        left -= found[name].cost
        if left < 0:
            break
        ranks[name] += 1
    return ranks


RULES = {"share": _by_share, "energy": _by_energy, "budget": _by_budget}


def _fill(parameter: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value)
