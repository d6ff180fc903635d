"""Where the weights of a `static` student are in its ONNX file, so that numpy can run it without a session."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from eyas.models.static import StaticForSequenceClassification

TABLE, HIDDEN, HEAD = "model.embeddings.weight", "model.encoder.hidden", "model.head.classifier"
# Smaller tensors stand in the manifest itself.
SMALLEST_RAW = 64


def find_arrays(path: Path, model: Any) -> dict[str, Any] | None:
    """The weights of a `static` student for single texts, as `eyas.runtime.arrays` reads them; None for other models.

    A file has them in one place, and is read as it is: nothing is stored twice.
    """
    if not isinstance(model, StaticForSequenceClassification) or model.config.pair:
        return None
    content, graph = path.read_bytes(), onnx.load(path).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    weights = {"table": TABLE, **{f"{part}_{what}": f"{name}.{what}" for part, name in _LAYERS for what in _PARTS}}
    found: dict[str, Any] = {"padding": model.config.pad_token_id}
    for key, name in weights.items():
        quantized = f"{name}_quantized" if f"{name}_quantized" in tensors else None
        tensor = tensors.get(quantized or name)
        if tensor is None:
            return None
        found[key] = _place(content, tensor)
        if found[key] is None:
            return None
        if quantized:
            found[key] |= {part: numpy_helper.to_array(tensors[f"{name}_{part}"]).tolist() for part in _SCALES}
    found["rows_are_outputs"] = any(node.op_type == "Gemm" for node in graph.node)
    return found


_LAYERS, _PARTS, _SCALES = (("hidden", HIDDEN), ("head", HEAD)), ("weight", "bias"), ("scale", "zero_point")


def _place(content: bytes, tensor: onnx.TensorProto) -> dict[str, Any] | None:
    """Offset, shape and type of a tensor in the file, or its values; None if it is not stored as it is."""
    array = numpy_helper.to_array(tensor)
    if array.nbytes < SMALLEST_RAW:
        return {"values": array.tolist(), "dtype": str(array.dtype)}
    raw = array.tobytes()
    offset = content.find(raw)
    if offset < 0:
        return None
    return {"offset": offset, "shape": list(array.shape), "dtype": str(np.dtype(array.dtype))}
