"""Export a model for OpenVINO."""

from pathlib import Path

from eyas.runtime.manifest import checksum
from eyas.runtime.openvino import GRAPH, OPENVINO, WEIGHTS, load_openvino


def write_openvino(graph: Path, folder: Path) -> dict[str, str]:
    """Write `folder`/openvino from an fp32 ONNX file, with weights in float16.

    Returns:
        The checksum of each file, for the manifest.

    Raises:
        ExportError: openvino is not installed.
    """
    openvino = load_openvino()
    openvino.save_model(openvino.convert_model(graph), folder / OPENVINO / GRAPH, compress_to_fp16=True)
    return {name: checksum(folder / OPENVINO, name) for name in (GRAPH, WEIGHTS)}
