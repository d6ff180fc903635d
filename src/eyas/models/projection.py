"""Initialize a narrower transformer from a wider one, by projection onto principal components of its states."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eyas.errors import ModelError
from eyas.models.positions import shifted_positions

# Inputs and outputs of a LayerNorm.
Seen = tuple[Tensor, Tensor]
# Standard deviation of weights without a counterpart in the teacher, as in BERT's initialization.
SPARE = 0.02
# The LayerNorms of BERT, RoBERTa and ELECTRA, by the end of their names.
NORMS = ("embeddings.LayerNorm", "attention.output.LayerNorm", "output.LayerNorm")


def check_projection(width: int, teacher: Any) -> None:
    """Raises ModelError if the student is wider than the teacher, or if the teacher's family is not supported."""
    if not _is_like_bert(teacher):
        raise ModelError(
            f"{type(teacher).__name__} cannot be projected: expected layers named as in BERT, and embeddings of the "
            "hidden size. Set init (--init) to random."
        )
    if width > teacher.config.hidden_size:
        raise ModelError(
            f"The student's hidden size is {width}, the teacher's {teacher.config.hidden_size}: a wider student cannot "
            "start from the teacher's layers. Set init (--init) to random."
        )


@torch.no_grad()
def project_layers(
    student: Any,
    teacher: Any,
    layers: Sequence[int],
    rows: Sequence[Sequence[int]],
    order: Sequence[int] | None,
    inputs: Mapping[str, Tensor],
) -> None:
    """Initialize a narrower student from some of the teacher's layers.

    States are projected onto their principal components. In each attention head, query times key and output times
    value become truncated singular value decompositions. The heads and neurons with the largest norms are kept. Each
    LayerNorm is fitted to the outputs of the teacher's on `inputs`.

    Args:
        layers: layers of the teacher, counted from 1, one per student layer.
        rows: for each student token, the teacher tokens whose vectors are averaged.
        order: for each student label, the index of the teacher's output; None leaves the last layers random.
        inputs: token ids and attention mask of sample texts, tokenized for the teacher.

    Raises:
        ModelError: as `check_projection`.
    """
    width = student.config.hidden_size
    check_projection(width, teacher)
    seen, states = _run(teacher, inputs)
    basis = torch.linalg.eigh(states.T @ states).eigenvectors[:, -width:].flip(1)  # [teacher's width, student's]
    student_base, teacher_base = student.base_model, teacher.base_model
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        target, source = (getattr(model.embeddings, name).weight for model in (student_base, teacher_base))
        source = source.to(target.device)
        table = shifted_positions(teacher, student).to(target.device) if name == "position_embeddings" else source
        table = torch.stack([table[list(row)].mean(0) for row in rows]) if name == "word_embeddings" else table
        rows_kept = min(len(target), len(table))
        target[:rows_kept] = table[:rows_kept] @ basis.to(target.device)
    student_base.embeddings.word_embeddings.weight[student.config.pad_token_id] = 0.0
    _fit_norm(student_base.embeddings.LayerNorm, seen[teacher_base.embeddings.LayerNorm], basis)
    for layer, number in zip(student_base.encoder.layer, layers, strict=True):
        source = teacher_base.encoder.layer[number - 1]
        _project_attention(layer.attention, source.attention, student.config, teacher.config, basis)
        weight = source.intermediate.dense.weight.norm(dim=1) * source.output.dense.weight.norm(dim=0)
        kept = weight.topk(min(layer.intermediate.dense.out_features, len(weight))).indices
        _set(
            layer.intermediate.dense,
            source.intermediate.dense.weight[kept] @ basis,
            source.intermediate.dense.bias[kept],
        )
        _set(
            layer.output.dense,
            basis.T @ source.output.dense.weight[:, kept],
            basis.T @ source.output.dense.bias,
        )
        for norm, original in (
            (layer.attention.output.LayerNorm, source.attention.output.LayerNorm),
            (layer.output.LayerNorm, source.output.LayerNorm),
        ):
            _fit_norm(norm, seen[original], basis)
    both = isinstance(student.classifier, nn.Linear) and hasattr(teacher, "classifier")
    if order is not None and getattr(student_base, "pooler", None) is not None and both:
        kept = teacher.classifier.weight.norm(dim=0).topk(width)
        _set(
            student_base.pooler.dense,
            teacher_base.pooler.dense.weight[kept.indices] @ basis,
            teacher_base.pooler.dense.bias[kept.indices],
        )
        last = teacher.classifier
        _set(student.classifier, last.weight[list(order)][:, kept.indices], last.bias[list(order)])


def _is_like_bert(teacher: Any) -> bool:
    embeddings = getattr(teacher.base_model, "embeddings", None)
    tables = [getattr(embeddings, f"{kind}_embeddings", None) for kind in ("word", "position", "token_type")]
    names = [name for name, _ in teacher.base_model.named_modules()]
    return (
        all(table is not None and table.embedding_dim == teacher.config.hidden_size for table in tables)
        and "embeddings.LayerNorm" in names
        and "encoder.layer.0.attention.self.query" in names
    )


def _run(teacher: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[dict[nn.Module, tuple[Tensor, Tensor]], Tensor]:
    """Inputs and outputs of each LayerNorm, [tokens, width] each, and all outputs concatenated."""
    mask = inputs["attention_mask"].bool()
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(module: nn.Module, given: Any, output: Tensor) -> None:
        seen[module] = given[0][mask].float(), output[mask].float()

    hooks = [module.register_forward_hook(keep) for module in _modules_ending_in(teacher, *NORMS)]
    try:
        teacher(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen, torch.cat([output for _, output in seen.values()])


def _modules_ending_in(model: nn.Module, *ends: str) -> list[nn.Module]:
    return [module for name, module in model.named_modules() if name.endswith(ends)]


def _project_attention(layer: Any, source: Any, config: Any, wide: Any, basis: Tensor) -> None:
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    query, key, value = (_heads(part, basis, wide) for part in (source.self.query, source.self.key, source.self.value))
    output = source.output.dense.weight.T.unflatten(0, (wide.num_attention_heads, -1))  # [heads, size, width]
    weight = [float((output[h].T @ value[h]).norm()) for h in range(len(value))]
    chosen = sorted(range(len(weight)), key=lambda h: -weight[h])[:heads]
    parts: dict[str, list[Tensor]] = {"query": [], "key": [], "value": [], "output": []}
    stretch = (size / query.shape[1]) ** 0.25  # head sizes differ, and attention divides by their square root
    for head in chosen:
        left, right = _factors(query[head].T @ key[head], size)
        parts["query"].append(stretch * left.T)
        parts["key"].append(stretch * right.T)
        left, right = _factors(basis.T @ output[head].T @ value[head], size)
        parts["output"].append(left)
        parts["value"].append(right.T)
    for name in ("query", "key", "value"):
        both = torch.cat(parts[name])
        _set(getattr(layer.self, name), both[:, :-1], both[:, -1])
    joined = torch.cat(parts["output"], 1)
    _set(
        layer.output.dense, F.pad(joined, (0, config.hidden_size - joined.shape[1])), basis.T @ source.output.dense.bias
    )


def _heads(module: nn.Linear, basis: Tensor, config: Any) -> Tensor:
    """Each head's weights for projected states, the bias last: [heads, head size, student's width + 1]."""
    both = torch.cat([module.weight @ basis, module.bias.unsqueeze(1)], 1)
    cut: Tensor = both.unflatten(0, (config.num_attention_heads, -1))
    return cut


def _factors(product: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(left, right) of `rank` columns, left @ right.T nearest to `product`; unused columns stay learnable."""
    left, values, right = torch.linalg.svd(product, full_matrices=False)
    root = values[:rank].sqrt()
    missing = rank - len(root)
    rest = SPARE * torch.randn(right.shape[1], missing).to(right)  # if both sides were zero, they would stay zero
    return F.pad(left[:, :rank] * root, (0, missing)), torch.cat([right[:rank].T * root, rest], 1)


def _fit_norm(norm: Any, seen: Seen, basis: Tensor) -> None:
    """Fit weight and bias, per element, from normalized projected inputs to projected outputs by least squares."""
    given, wanted = (values @ basis for values in seen)
    given = F.layer_norm(given, given.shape[-1:])
    centered = given - given.mean(0)
    weight = (centered * (wanted - wanted.mean(0))).sum(0) / centered.square().sum(0).clamp(min=1e-6)
    norm.weight.copy_(weight)
    norm.bias.copy_(wanted.mean(0) - weight * given.mean(0))


def _set(module: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Set the leading rows and columns. Any others, such as neurons that the teacher lacks, stay unchanged."""
    module.weight[: weight.shape[0], : weight.shape[1]] = weight
    module.bias[: len(bias)] = bias
