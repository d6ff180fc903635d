"""What a compressed model's weights allow: fewer heads and units, and products of thin matrices."""

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from eyas.compression.low_bits import LARGEST
from eyas.compression.low_rank import FactoredEmbedding, FactoredLinear, spread
from eyas.compression.methods import PARTS
from eyas.compression.modules import replace_module
from eyas.compression.pruning import Part
from eyas.errors import ModelError
from eyas.models.student import is_student
from eyas.tasks import COMPRESSION

# The factors of matrices of low rank, beside model.safetensors.
FACTORS = "factors.safetensors"
# By how much a product of factors may differ from the weight that is stored, relative to its largest element.
CLOSE = 1e-4


@torch.no_grad()
def shrunk(model: Any, folder: Path) -> Any:
    """A copy of a compressed model without heads and units that are zero, and with matrices as products; else itself.

    Its class is the same, but its shapes are no longer those of its configuration: it is for export alone.

    Args:
        folder: where the model was loaded from.

    Raises:
        ModelError: the factors in `folder` are not those of the model's weights.
    """
    methods = {text.split(":")[0] for text in getattr(model.config, COMPRESSION, None) or ()}
    if not methods & {"low-rank", "heads", "units"}:
        return model
    model = copy.deepcopy(model)
    for name in () if is_student(model) else methods & PARTS.keys():  # our own students are smaller already
        for part in PARTS[name](model):
            _drop(model, part)
    if "low-rank" in methods:
        _factor(model, folder / FACTORS, exactly=bool(methods & {"prune", *LARGEST}))
    return model


def _factor(model: Any, path: Path, exactly: bool) -> None:
    """Replace matrices by the factors in the file; columns that were dropped are left out.

    Args:
        exactly: whether the factors' own values matter, which are zero or few.
    """
    if not path.is_file():
        raise ModelError(f"{path.parent} was compressed by low-rank but has no {FACTORS}: copy the whole folder.")
    factors = load_file(path)
    for name in sorted({key.rpartition(".")[0] for key in factors}):
        module, down, up = model.get_submodule(name), factors[f"{name}.down"], factors[f"{name}.up"]
        made: FactoredEmbedding | FactoredLinear
        if isinstance(module, nn.Embedding):
            made = FactoredEmbedding(down, up, module.padding_idx)
        else:
            kept = getattr(module, "kept_inputs", None)
            rows = getattr(module, "kept_outputs", None)
            down = down if kept is None else down[:, kept]
            made = FactoredLinear(down, up if rows is None else up[rows], module.bias)
        product: Any = made.weight
        if product.shape != module.weight.shape or not _close(product, module.weight):
            raise ModelError(
                f"{path} does not belong to the weights beside it ({name}): expected the factors of the same training. "
                "Copy the whole folder of the compressed model."
            )
        if not exactly:
            spread(made)
        replace_module(model, name, made.eval())


def _close(product: Tensor, weight: Tensor) -> bool:
    scale = weight.abs().max().clamp_min(1e-12)
    return bool(((product - weight).abs().max() / scale) < CLOSE)


def _drop(model: Any, part: Part) -> None:
    """Remove the heads or units that the reader does not read."""
    kept = part.kept()
    if kept.all():
        return
    columns = kept.repeat_interleave(part.reader.in_features // part.count)
    for maker in part.makers:
        maker.weight, maker.out_features = nn.Parameter(maker.weight[columns]), int(columns.sum())
        maker.bias = None if maker.bias is None else nn.Parameter(maker.bias[columns])
        maker.kept_outputs = columns
    part.reader.weight, part.reader.in_features = nn.Parameter(part.reader.weight[:, columns]), int(columns.sum())
    part.reader.kept_inputs = columns
