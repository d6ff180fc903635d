"""Layers whose outputs for a text do not depend on padding, in training or in the exported graph.

Shapes: x [batch, length, size] with zeros at padding; mask [batch, length] bool, padding on the right.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def masked_max(states: Tensor, mask: Tensor, lowest: float) -> Tensor:
    """Maximum over time -> [batch, size]. No state is below `lowest` (0 after ReLU, -1 after tanh)."""
    return states.masked_fill(~mask.unsqueeze(-1), lowest).amax(1)


class Convolution(nn.Module):
    """Convolutions of several widths as one matrix product over windows of the widest.

    The same function as `nn.Conv1d` of each width with zeros around the text, one output a token, but 6.8
    times faster in int8: ONNX Runtime has no fast int8 convolution.

    Args:
        dilation: distance between the tokens of a window.
    """

    def __init__(self, input_size: int, num_filters: int, kernel_sizes: Sequence[int], dilation: int = 1) -> None:
        super().__init__()
        self.kernel_sizes, self.dilation = tuple(kernel_sizes), dilation
        self.output_size = num_filters * len(self.kernel_sizes)
        self.kernels = nn.ModuleList(nn.Linear(width * input_size, num_filters) for width in self.kernel_sizes)

    def forward(self, x: Tensor) -> Tensor:
        """-> [batch, length, output_size], after ReLU."""
        widest, apart = max(self.kernel_sizes), self.dilation
        before = (widest - 1) // 2
        padded = F.pad(x, (0, 0, before * apart, (widest - 1 - before) * apart))
        # Negative ends avoid shape arithmetic in the exported graph.
        shifts = [padded[:, i * apart : (i - widest + 1) * apart or None] for i in range(widest)]
        if torch.compiler.is_exporting():
            return F.relu(torch.cat(shifts, -1) @ self._fused_weight(x.shape[-1]) + self._fused_bias())
        outputs = []
        for width, kernel in zip(self.kernel_sizes, self.kernels, strict=True):
            first = before - (width - 1) // 2
            outputs.append(kernel(torch.cat(shifts[first : first + width], -1)))
        return F.relu(torch.cat(outputs, -1))

    def _fused_weight(self, input_size: int) -> Tensor:
        """[widest * input_size, output_size], narrower kernels padded with zeros."""
        widest = max(self.kernel_sizes)
        columns = []
        for width, kernel in zip(self.kernel_sizes, self.kernels, strict=True):
            first = (widest - 1) // 2 - (width - 1) // 2
            rest = widest - first - width
            columns.append(F.pad(cast(nn.Linear, kernel).weight, (first * input_size, rest * input_size)).t())
        return torch.cat(columns, 1)

    def _fused_bias(self) -> Tensor:
        return torch.cat([cast(nn.Linear, kernel).bias for kernel in self.kernels])


class _Recurrent(nn.Module, ABC):
    """One recurrent layer that stops at each text's end; the backward direction starts there."""

    cell: ClassVar[type[nn.RNNBase]]
    # Attributes of ONNX's operator of the same name.
    attributes: ClassVar[dict[str, int]] = {}

    def __init__(self, input_size: int, hidden_size: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.output_size = hidden_size * (2 if bidirectional else 1)
        cell: Any = self.cell
        self.layers = nn.ModuleList(
            cell(input_size, hidden_size, batch_first=True) for _ in range(2 if bidirectional else 1)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """-> [batch, length, output_size], first forwards, then backwards; undefined at padding."""
        # Up to the last token that is read: a text may have the padding token inside.
        lengths = (mask * torch.arange(1, x.shape[1] + 1, device=x.device)).amax(1)
        if torch.compiler.is_exporting():
            return self._as_onnx_operator(x, lengths)
        outputs = [self.layers[0](x)[0]]
        if len(self.layers) == 2:
            backwards = self.layers[1](_reverse(x, lengths))[0]
            outputs.append(_reverse(backwards, lengths))
        return torch.cat(outputs, -1)

    @abstractmethod
    def _onnx_gates(self, weight: Any) -> Tensor:
        """A weight or bias with the gates in ONNX's order."""

    def _as_onnx_operator(self, x: Tensor, lengths: Tensor) -> Tensor:
        """ONNX's own operator takes sequence lengths: one node, without reversals."""
        layers, gates = [cast(Any, layer) for layer in self.layers], self._onnx_gates
        hidden = self.output_size // len(layers)
        inputs = (
            x.transpose(0, 1),
            torch.stack([gates(layer.weight_ih_l0) for layer in layers]),
            torch.stack([gates(layer.weight_hh_l0) for layer in layers]),
            torch.stack([torch.cat([gates(layer.bias_ih_l0), gates(layer.bias_hh_l0)]) for layer in layers]),
            lengths.to(torch.int32),
        )
        direction = "bidirectional" if len(layers) == 2 else "forward"
        output = torch.onnx.ops.symbolic(
            self.cell.__name__,
            inputs,
            attrs={"hidden_size": hidden, "direction": direction, **self.attributes},
            dtype=x.dtype,
            shape=(x.shape[1], len(layers), x.shape[0], hidden),
            version=14,
        )  # [length, directions, batch, hidden]
        return torch.cat(output.unbind(1), -1).transpose(0, 1)


class LSTM(_Recurrent):
    """One LSTM layer that stops at each text's end; the backward direction starts there."""

    cell = nn.LSTM

    def _onnx_gates(self, weight: Any) -> Tensor:
        """torch orders gates input, forget, cell, output; ONNX input, output, forget, cell."""
        i, f, c, o = weight.chunk(4)
        return torch.cat([i, o, f, c])


class GRU(_Recurrent):
    """One GRU layer that stops at each text's end, as `LSTM`."""

    cell = nn.GRU
    attributes: ClassVar[dict[str, int]] = {"linear_before_reset": 1}

    def after(self, x: Tensor, state: Tensor) -> Tensor:
        """-> [batch, length, hidden_size] after a state [batch, hidden_size]; one direction, in a graph one word."""
        layer = cast(nn.GRU, self.layers[0])
        if not torch.compiler.is_exporting():
            states: Tensor = layer(x, state[None].contiguous())[0]
            return states
        weights: Any = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
        return torch.gru_cell(x[:, 0], state, *weights)[:, None]

    def _onnx_gates(self, weight: Any) -> Tensor:
        """torch orders gates reset, update, new; ONNX update, reset, new."""
        reset, update, new = weight.chunk(3)
        return torch.cat([update, reset, new])


def _reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each text within its own length; padding stays in place."""
    positions = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
    last = lengths.unsqueeze(1) - 1
    index = torch.where(positions <= last, last - positions, positions)
    return x.gather(1, index.unsqueeze(-1).expand_as(x))
