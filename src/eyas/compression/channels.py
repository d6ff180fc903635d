"""Hidden units and filters of our own students: what makes a channel, what reads it, and a student with fewer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from eyas.compression.pruning import Batches, mean_squares
from eyas.errors import ModelError
from eyas.models.bilstm import BiLSTMEncoder
from eyas.models.cnn import CNNEncoder, DilatedEncoder
from eyas.models.cnn_lstm import CNNLSTMEncoder
from eyas.models.layers import LSTM, Convolution
from eyas.models.static import StaticEncoder, WindowEncoder


@dataclass(frozen=True)
class Slot:
    """One dimension of a weight that holds `blocks` times `size` channels, of which a group has those from `first` on.

    Args:
        module: has the weight `name`.
    """

    module: nn.Module
    name: str
    dim: int
    size: int
    first: int = 0

    @property
    def weight(self) -> nn.Parameter:
        return self.module._parameters[self.name]  # type: ignore[return-value]

    def places(self, count: int) -> Tensor:
        """[count, blocks] where the group's channels are."""
        return torch.arange(self.weight.shape[self.dim]).view(-1, self.size)[:, self.first : self.first + count].T


@dataclass(frozen=True)
class Channels:
    """Channels of which a student keeps the most important ones: `count` filters or units.

    Args:
        setting: the field of the configuration that says how many there are.
        per_setting: channels for each one of the field.
        made: the weights that make them.
        read: the weights that read them.
    """

    setting: str
    count: int
    made: list[Slot] = field(default_factory=list)
    read: list[Slot] = field(default_factory=list)
    per_setting: int = 1

    def kept(self, share: float) -> int:
        """How many stay if `share` of them is removed."""
        return max(round((1 - share) * self.count / self.per_setting), 1) * self.per_setting


def channels_of(model: Any) -> list[Channels]:
    """The hidden units and filters of a student.

    Raises:
        ModelError: not one of our students.
    """
    encoder = getattr(model, "encoder", None)
    if isinstance(encoder, StaticEncoder):
        found = [_of_linear(encoder.hidden)]
    elif isinstance(encoder, WindowEncoder):
        found = _of_convolution(encoder.window, "hidden_size")
    elif isinstance(encoder, CNNEncoder):
        found = _of_convolution(encoder.convolution, "hidden_size")
    elif isinstance(encoder, DilatedEncoder):
        found = [_of_residual(encoder)]
    elif isinstance(encoder, BiLSTMEncoder):
        found = _of_lstm(encoder.lstm)
    elif isinstance(encoder, CNNLSTMEncoder):
        filters, found = _of_convolution(encoder.convolution, "num_filters"), _of_lstm(encoder.lstm)
        for layer in encoder.lstm.layers:
            _read(filters, layer, "weight_ih_l0")
        return [*filters, *_with_head(model, found)]
    else:
        raise ModelError(
            f"The units of a {type(model).__name__} cannot be pruned. Choose low-rank, prune, or few bits."
        )
    return _with_head(model, found)


def _with_head(model: Any, found: list[Channels]) -> list[Channels]:
    """The encoder's channels and those of the head, which reads them."""
    if not model.config.pair:
        _read(found, model.classifier if hasattr(model, "classifier") else model.head.classifier, "weight")
        return found
    _read(found, model.head.comparison, "weight")
    compared = _of_linear(model.head.comparison)
    _read([compared], model.head.classifier, "weight")
    return [*found, compared]


def _read(groups: Sequence[Channels], module: nn.Module, name: str) -> None:
    """Say that the weight reads all of these groups, side by side, once or several times."""
    size, first = sum(group.count for group in groups), 0
    for group in groups:
        group.read.append(Slot(module, name, 1, size, first))
        first += group.count


def _of_linear(linear: nn.Linear, setting: str = "hidden_size") -> Channels:
    count = linear.out_features
    return Channels(setting, count, [Slot(linear, name, 0, count) for name in ("weight", "bias")])


def _of_convolution(convolution: Convolution, setting: str) -> list[Channels]:
    kernels: list[Any] = list(convolution.kernels)
    return [_of_linear(kernel, setting) for kernel in kernels]


def _of_lstm(lstm: LSTM) -> list[Channels]:
    found = []
    for layer in lstm.layers:
        count = int(layer.hidden_size)  # type: ignore[arg-type]
        gates = [Slot(layer, f"{kind}_l0", 0, count) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        found.append(Channels("hidden_size", count, gates, [Slot(layer, "weight_hh_l0", 1, count)]))
    return found


def _of_residual(encoder: DilatedEncoder) -> Channels:
    """All layers add to the same channels."""
    first, *others = (layer.kernels[0] for layer in encoder.layers)  # type: ignore[index]
    every = [_of_linear(kernel) for kernel in (first, *others)]  # type: ignore[arg-type]
    count = encoder.output_size
    read = [Slot(kernel, "weight", 1, count) for kernel in others]  # type: ignore[arg-type]
    return Channels("hidden_size", count, [slot for one in every for slot in one.made], read, per_setting=2)


def remove_channels(model: Any, share: float, batches: Batches) -> None:
    """Make a student smaller, in place: a share of its hidden units and filters is left out, the least important ones.

    Both directions of an LSTM, and all widths of a convolution, keep the same number, as the configuration has it.

    Args:
        share: in (0, 1), of each layer's units; one stays.

    Raises:
        ModelError: not one of our students, or so small a share is no unit.
    """
    groups = channels_of(model)
    if all(group.kept(share) == group.count for group in groups):
        raise ModelError(
            f"units:{share:g} (--method) of {model.config.hidden_size} units is none. Give a larger share."
        )
    scores = channel_importance(model, groups, batches)
    config = type(model.config).from_dict(model.config.to_dict())
    keep: dict[tuple[Any, str, int], Tensor] = {}
    for group, score in zip(groups, scores, strict=True):
        count = group.kept(share)
        best = score.argsort(descending=True, stable=True)[:count]
        gone = torch.ones(group.count, dtype=torch.bool)
        gone[best] = False
        setattr(config, group.setting, count // group.per_setting)
        for slot in (*group.made, *group.read):
            at = keep.setdefault((slot.module, slot.name, slot.dim), torch.ones(slot.weight.shape[slot.dim]).bool())
            at[slot.places(group.count)[gone].flatten()] = False
    with torch.no_grad():
        for (module, name, dim), kept in keep.items():
            weight = module._parameters[name]
            module._parameters[name] = nn.Parameter(
                weight.index_select(dim, kept.nonzero().flatten().to(weight.device))
            )
    smaller = type(model)(config).to(model.device)
    smaller.load_state_dict(model.state_dict())
    for name, part in smaller.named_children():
        if part is not smaller.embeddings:
            part.requires_grad_(next(getattr(model, name).parameters(), model.embeddings.weight).requires_grad)
            setattr(model, name, part.train(model.training))
    model.config = config


def channel_importance(model: Any, groups: Sequence[Channels], batches: Batches) -> list[Tensor]:
    """[count] for each group: as `pruning.importance`, of a factor on the weights that read a channel."""
    slots = [slot for group in groups for slot in group.read]

    def by_channel(gradients: Sequence[Tensor]) -> list[Tensor]:
        left, found = iter(gradients), []
        for group in groups:
            total = torch.zeros(group.count)
            for slot in group.read:
                effect = (next(left) * slot.weight.detach()).sum(1 - slot.dim).cpu()
                total += effect[slot.places(group.count)].sum(1)
            found.append(total)
        return found

    return mean_squares(model, [slot.weight for slot in slots], by_channel, batches)
