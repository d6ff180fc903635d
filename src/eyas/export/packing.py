"""Pack int8 weights that have few values, or many zeros, into fewer bits; lossless, unpacked when the model is loaded.

No kernel of ONNX Runtime computes faster with 2 or 4 bits than with 8 on the processors measured (docs/compression.md),
so packing saves bytes and not time. A session folds the unpacking of a matrix into a constant when it starts. The rows
of a table of word vectors are unpacked as they are read.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from eyas.compression import LARGEST

# Weights with fewer elements are not worth the nodes that unpack them.
SMALLEST = 4096
# Ends of the names of a packed table's parts.
PARTS = ("_packed", "_decoded", "_scales")
BYTES = np.arange(256, dtype=np.uint8)


def pack(path: Path) -> None:
    """Store equal weights of the model at `path` once, and pack what can be packed."""
    model = onnx.load(path)
    _share_equal(model.graph)
    nodes = []
    for tensor in list(model.graph.initializer):
        if tensor.data_type != TensorProto.INT8 or np.prod(tensor.dims) < SMALLEST:
            continue
        packed = _packed(tensor.name, numpy_helper.to_array(tensor))
        if packed is not None and _size(packed[0]) < len(tensor.raw_data):
            model.graph.initializer.remove(tensor)
            model.graph.initializer.extend(packed[0])
            nodes += packed[1]
    if nodes:
        before = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*nodes, *before])
    onnx.save(model, path)


def pack_tables(path: Path, largest: int) -> None:
    """Turn float tables that `Gather` reads, whose rows have few values, into whole numbers up to 64 and scales.

    Args:
        largest: how many of the numbers are above 0: 1 for ternary, 7 for 4 bits, 64 for 8.
    """
    values = np.rint(np.arange(-largest, largest + 1) * (LARGEST["int8"] / largest)).astype(np.int8)
    model = onnx.load(path)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    reads = Counter(node.input[0] for node in graph.node if node.op_type == "Gather")
    for place, node in reversed(list(enumerate(graph.node))):
        tensor = tensors.get(node.input[0]) if node.op_type == "Gather" else None
        if tensor is None or tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            continue
        table = numpy_helper.to_array(tensor)
        if table.ndim != 2 or uses[tensor.name] > reads[tensor.name]:
            continue
        scale = np.abs(table).max(1, keepdims=True).astype(np.float32) / LARGEST["int8"]
        whole = np.rint(table / np.maximum(scale, 1e-12)).astype(np.int8)
        close = np.allclose(whole * scale, table, atol=1e-5 * float(np.abs(table).max()))
        if not close or not np.isin(whole, values).all():
            continue  # not rounded, such as positions
        made = _packed_rows(tensor.name, whole, values, scale, node.input[1], node.output[0])
        if tensor in graph.initializer:  # several tasks read one table, each in its own place
            graph.initializer.remove(tensor)
            graph.initializer.extend(made[0])
        del graph.node[place]
        for offset, new in enumerate(made[1]):
            graph.node.insert(place + offset, new)
    onnx.save(model, path)


def is_packed(node: onnx.NodeProto) -> bool:
    """Whether a node reads a packed table, so that it must not be quantized again."""
    return node.op_type == "Gather" and node.input[0].endswith(PARTS)


def _share_equal(graph: onnx.GraphProto) -> None:
    """Let equal initializers be one, as those of shared layers are."""
    first: dict[tuple[object, ...], str] = {}
    same: dict[str, str] = {}
    for tensor in list(graph.initializer):
        content = numpy_helper.to_array(tensor)
        if content.size < SMALLEST:
            continue
        kept = first.setdefault((content.dtype.str, content.shape, content.tobytes()), tensor.name)
        if kept != tensor.name:
            same[tensor.name] = kept
            graph.initializer.remove(tensor)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in same:
                node.input[place] = same[name]


Packed = tuple[list[onnx.TensorProto], list[onnx.NodeProto]]


def _packed(name: str, weight: np.ndarray) -> Packed | None:
    """The smaller of two forms: a code for each value, or a bit for each value and the values that are not zero."""
    forms = [form for form in (_as_codes(name, weight), _as_nonzeros(name, weight)) if form is not None]
    return min(forms, key=lambda form: _size(form[0]), default=None)


def _size(tensors: list[onnx.TensorProto]) -> int:
    return sum(len(numpy_helper.to_array(tensor).tobytes()) for tensor in tensors)


def _bits_of(values: int) -> int:
    """Bits of a code for so many values, 2 or 4; 0 if there are too many."""
    return next((bits for bits in (2, 4) if values <= 2**bits), 0)


def _as_codes(name: str, weight: np.ndarray) -> Packed | None:
    values = np.unique(weight)
    bits = _bits_of(len(values))
    if not bits:
        return None
    codes = np.searchsorted(values, weight.ravel()).astype(np.uint8)
    return _unpacking(name, _in_bytes(codes, bits), _decoded(values, bits), weight.shape)


def _in_bytes(codes: np.ndarray, bits: int) -> np.ndarray:
    """[.., codes] -> [.., bytes], the first code in the lowest bits."""
    each = 8 // bits
    rest = -codes.shape[-1] % each
    padded = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, rest)]).reshape(*codes.shape[:-1], -1, each)
    packed: np.ndarray = np.bitwise_or.reduce(padded << (np.arange(each, dtype=np.uint8) * bits), axis=-1)
    return packed.astype(np.uint8)


def _decoded(values: np.ndarray, bits: int) -> np.ndarray:
    """[256, codes of a byte] the values that each byte stands for."""
    codes = (BYTES[:, None] >> (np.arange(8 // bits, dtype=np.uint8) * bits)) & (2**bits - 1)
    decoded: np.ndarray = np.concatenate([values, np.zeros(2**bits - len(values), values.dtype)])[codes]
    return decoded


def _unpacking(name: str, packed: np.ndarray, decoded: np.ndarray, shape: tuple[int, ...]) -> Packed:
    make = _Maker(name)
    values = make(
        "Gather", make.constant("decoded", decoded), make("Cast", make.constant("packed", packed), to=TensorProto.INT32)
    )
    flat = make("Reshape", values, make.constant("all", np.array([-1], np.int64)))
    begin, end = (
        make.constant("begin", np.array([0], np.int64)),
        make.constant("end", np.array([np.prod(shape)], np.int64)),
    )
    make("Reshape", make("Slice", flat, begin, end), make.constant("shape", np.array(shape, np.int64)), output=name)
    return make.constants, make.nodes


def _as_nonzeros(name: str, weight: np.ndarray) -> Packed | None:
    flat = weight.ravel()
    kept = flat != 0
    if kept.mean() > 0.8:
        return None
    make = _Maker(name)
    bits = np.packbits(kept, bitorder="little")
    decoded = ((BYTES[:, None] >> np.arange(8, dtype=np.uint8)) & 1).astype(np.int8)
    values = np.concatenate([[0], flat[kept]]).astype(np.int8)
    table = make.constant("decoded", decoded)
    mask = make("Gather", table, make("Cast", make.constant("packed", bits), to=TensorProto.INT32))
    whole = make("Reshape", mask, make.constant("all", np.array([-1], np.int64)))
    begin, end = make.constant("begin", np.array([0], np.int64)), make.constant("end", np.array([flat.size], np.int64))
    ones = make("Cast", make("Slice", whole, begin, end), to=TensorProto.INT32)
    places = make("Mul", make("CumSum", ones, make.constant("axis", np.array(0, np.int64))), ones)
    found = make("Gather", make.constant("values", values), places)
    make("Reshape", found, make.constant("shape", np.array(weight.shape, np.int64)), output=name)
    return make.constants, make.nodes


def _packed_rows(name: str, whole: np.ndarray, values: np.ndarray, scale: np.ndarray, ids: str, output: str) -> Packed:
    """Nodes that read rows of a table, unpack them, and multiply them with their scales; ids are [batch, length]."""
    make, bits, width = _Maker(name, output), _bits_of(len(values)), whole.shape[1]
    scales = make("Gather", make.constant("scales", scale), ids)
    if not bits:
        rows = make("Gather", make.constant("packed", whole), ids)
        make("Mul", make("Cast", rows, to=TensorProto.FLOAT), scales, output=output)
        return make.constants, make.nodes
    codes = _in_bytes(np.searchsorted(values, whole).astype(np.uint8), bits)
    packed = make("Gather", make.constant("packed", codes), ids)
    unpacked = make(
        "Gather", make.constant("decoded", _decoded(values, bits)), make("Cast", packed, to=TensorProto.INT32)
    )
    padded = codes.shape[1] * 8 // bits
    rows = make("Reshape", unpacked, make.constant("shape", np.array([0, 0, padded], np.int64)))
    if padded > width:
        ends = (make.constant(part, np.array([at], np.int64)) for part, at in (("from", 0), ("to", width), ("axis", 2)))
        rows = make("Slice", rows, *ends)
    make("Mul", make("Cast", rows, to=TensorProto.FLOAT), scales, output=output)
    return make.constants, make.nodes


class _Maker:
    """Makes constants whose names begin with a weight's, and nodes whose names begin with it or with `output`."""

    def __init__(self, name: str, output: str = "") -> None:
        self.name, self.nodes_of = name, output or name
        self.constants: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, part: str, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(values, f"{self.name}_{part}"))
        return self.constants[-1].name

    def __call__(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{self.nodes_of}_{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{name}_{kind}", **attributes))
        return name
