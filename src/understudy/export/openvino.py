"""The same model for OpenVINO."""

import os
from pathlib import Path

from understudy.errors import ExportError
from understudy.runtime.openvino import GRAPH, OPENVINO


def write_openvino(graph: Path, folder: Path) -> None:
    """Write `folder`/openvino from an fp32 ONNX file, with weights in float16.

    Raises:
        ExportError: openvino is not installed.
    """
    os.environ.setdefault("OPENVINO_TELEMETRY_OPT_OUT", "1")
    try:
        import openvino
    except ImportError:
        raise ExportError("--openvino needs OpenVINO: pip install 'understudy[openvino]'.") from None
    openvino.save_model(openvino.convert_model(graph), folder / OPENVINO / GRAPH, compress_to_fp16=True)
