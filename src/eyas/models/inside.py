"""Internal values that transformers do not return: queries, keys and values of every layer, and attributions."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from eyas.errors import ModelError

# Names of these projections in BERT, RoBERTa, ELECTRA, ALBERT; DistilBERT; DeBERTa-v2; newer families.
PROJECTIONS: dict[str, tuple[str, ...]] = {
    "queries": ("query", "q_lin", "query_proj", "q_proj"),
    "keys": ("key", "k_lin", "key_proj", "k_proj"),
    "values": ("value", "v_lin", "value_proj", "v_proj"),
}
# All three in one module, as in ModernBERT.
FUSED = "Wqkv"
# Families whose attention scores are not just queries times keys.
RELATIVE = ("deberta", "deberta-v2", "modernbert")
ATTRIBUTIONS = "attributions"
# The fields of transformers only, and all fields.
LAYER_FIELDS = frozenset({"hidden_states", "attentions", *PROJECTIONS})
FIELDS = LAYER_FIELDS | {"logits", ATTRIBUTIONS}
# The logits of each of several teachers, [rows, labels, teachers].
EACH = "each_logits"
# The mean over the tokens of each layer's states, by teacher: tuples of [rows, size], 0 = embeddings.
EACH_STATES = "each_states"
# Of a text, from a teacher of several domains: its domain [rows], its prototype score [rows], and the domain head's
# state [rows, size].
DOMAINS, SCORES, DOMAIN_STATES = "domains", "prototype_scores", "domain_states"
# What is kept of a teacher's outputs; the others are too large.
FROM_CACHE = frozenset({"logits", EACH})


def mean_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """[batch, length, size] -> [batch, size], the mean over the tokens of `mask`."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


def run(model: Any, inputs: Mapping[str, Any], fields: Collection[str], create_graph: bool = False) -> dict[str, Any]:
    """Run the model, and add the requested `fields` that it does not return.

    Args:
        create_graph: whether the attributions will be differentiated.

    Returns:
        The model's own outputs; `queries`, `keys` and `values` as lists with one [batch, length, size] per layer;
        `attributions` [batch, labels, length, size]; and `heads`, the number of attention heads.

    Raises:
        ModelError: the model has no such projections.
    """
    own = getattr(model, "module", model)  # if it is wrapped for several devices
    if "attentions" in fields and own.config._attn_implementation != "eager":
        own.set_attn_implementation("eager")  # other implementations return an empty tuple
    flags = {f"output_{name}": True for name in ("hidden_states", "attentions") if name in fields}
    attributed = ATTRIBUTIONS in fields
    with (
        _differentiable_twice() if attributed and create_graph else nullcontext(),
        capture(own, fields) as inside,
        _embedded(own, attributed) as embedded,
    ):
        outputs = model(**inputs, **flags)
    found = {**outputs, **inside, "heads": getattr(own.config, "num_attention_heads", None)}
    if attributed:
        found[ATTRIBUTIONS] = attributions(outputs.logits, embedded[0], create_graph)
    return found


def attributions(logits: Tensor, embedded: Tensor, create_graph: bool = False) -> Tensor:
    """Gradient times input of each label's log-probability, or of a regression's output.

    One step of integrated gradients from a baseline of zero (AD-KD, Wu et al. 2023, section 3.1).

    Args:
        logits: [batch, labels].
        embedded: [batch, length, size], the word vectors from which they were computed.

    Returns:
        [batch, labels, length, size].
    """
    scores = logits if logits.shape[1] == 1 else logits.log_softmax(-1)
    totals = scores.float().sum(0)
    parts = [torch.autograd.grad(total, embedded, retain_graph=True, create_graph=create_graph)[0] for total in totals]
    return torch.stack(parts, 1) * embedded.unsqueeze(1)


@contextmanager
def capture(model: nn.Module, fields: Collection[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Collect the `PROJECTIONS` among `fields` while the model runs, one [batch, length, size] per layer.

    Raises:
        ModelError: the model has no such projections.
    """
    found: dict[str, list[Tensor]] = {field: [] for field in fields if field in PROJECTIONS}
    hooks = []
    try:
        for field, outputs in found.items():
            fused = _named(model, (FUSED,))
            part = tuple(PROJECTIONS).index(field) if fused else None
            for parent, module in fused or _projections(model, field):
                kept = _FirstOutput(outputs, part)
                hooks.append(parent.register_forward_pre_hook(kept.open))
                hooks.append(module.register_forward_hook(kept))
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _differentiable_twice() -> Iterator[None]:
    """Disable the fast kernels of attention and recurrent layers, which have no second derivative."""
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        yield


@contextmanager
def _embedded(model: Any, wanted: bool) -> Iterator[list[Tensor]]:
    """Collect the outputs of the embedding table, with gradients enabled."""
    found: list[Tensor] = []

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        output = output if output.requires_grad else output.detach().requires_grad_()
        found.append(output)
        return output

    handle = model.get_input_embeddings().register_forward_hook(hook) if wanted else None
    try:
        yield found
    finally:
        if handle is not None:
            handle.remove()


def projections(model: nn.Module, field: str) -> list[nn.Module]:
    """The projections to queries, keys or values, bottom layer first; raises ModelError if there are none."""
    return [module for _, module in _projections(model, field)]


def _projections(model: nn.Module, field: str) -> list[tuple[nn.Module, nn.Module]]:
    modules = _named(model, PROJECTIONS[field])
    if not modules:
        raise ModelError(
            f"{type(model).__name__} has no known projection to {field}, so its attention cannot be compared. Choose a "
            "recipe that reads logits or hidden states."
        )
    return modules


def layers_of(model: Any) -> nn.ModuleList:
    """The model's layers, bottom first; raises ModelError if there is no list of them."""
    count = getattr(model.config, "num_hidden_layers", None)
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    found = next((layers for layers in lists if len(layers) == count), None)
    if found is None:
        raise ModelError(f"{type(model).__name__} has no list of layers. Choose another recipe, or another method.")
    return found


def check_attention(config: Any) -> None:
    """Raises ModelError for families whose attention scores are not just queries times keys."""
    if config.model_type in RELATIVE:
        raise ModelError(
            f"{config.model_type} uses relative positions in its attention, so the scores cannot be compared. Choose "
            "a recipe that reads logits or hidden states, or minilmv2, which compares relations."
        )


def _named(model: nn.Module, names: Collection[str]) -> list[tuple[nn.Module, nn.Module]]:
    """The modules of these names with their parents; one that several layers share occurs once for each."""
    return [(parent, child) for parent in model.modules() for name, child in parent.named_children() if name in names]


class _FirstOutput:
    """Keeps a projection's first output per attention call: DeBERTa also projects its positions with it."""

    def __init__(self, outputs: list[Tensor], part: int | None) -> None:
        self.outputs, self.part, self.waits = outputs, part, False

    def open(self, *_: Any) -> None:
        self.waits = True

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        if self.waits:
            # Under autocast, the model's outputs are float32, but the outputs of its modules are not.
            self.outputs.append((output if self.part is None else output.chunk(3, -1)[self.part]).float())
        self.waits = False
