"""Run an exported model on OpenVINO: the tokens and answers of `Predictor`, with another engine."""

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from eyas.errors import ExportError, install_hint
from eyas.runtime.manifest import checksum, kind_of
from eyas.runtime.predictor import Predictor, Run

OPENVINO, GRAPH, WEIGHTS = "openvino", "model.xml", "model.bin"


def load_openvino() -> Any:
    """The package, without its telemetry; raises ExportError if it is not installed."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError:
        raise ExportError(f"OpenVINO is not installed. {install_hint('openvino')}") from None
    return openvino


class OpenVINOPredictor(Predictor):
    """Runs the folder `openvino` that `eyas export --openvino` wrote into an exported folder.

    Its weights are float16, so it is compared with the original at export, and has no self-test at load.

    Args:
        folder: the exported folder.
        threads: threads per prediction.
        abstain_below: as for `Predictor`.

    Raises:
        ExportError: the folder was not exported for OpenVINO or is damaged, or openvino is not installed.
    """

    def __init__(self, folder: str | Path, threads: int = 1, abstain_below: float | None = None) -> None:
        kind = kind_of(Path(folder))
        if kind:
            raise ExportError(f"{folder} is a {kind}, which does not run on OpenVINO. Open it with Predictor.")
        super().__init__(folder, threads, self_test=False, abstain_below=abstain_below)

    def _open(self, threads: int) -> tuple[Run, list[str]]:
        openvino, place = load_openvino(), self.folder / OPENVINO
        if not self.manifest.openvino:
            raise ExportError(f"{self.folder} was not exported for OpenVINO. Export the model again with --openvino.")
        for name, expected in self.manifest.openvino.items():
            if checksum(place, name) != expected:
                raise ExportError(f"{place / name} is not the file that was exported (checksum). Export it again.")
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        options["INFERENCE_PRECISION_HINT"] = "f32"  # bfloat16, used on some processors, has two digits fewer
        compiled = openvino.Core().compile_model(place / GRAPH, "CPU", options)
        own = threading.local()  # a request answers one thread at a time

        def run(feed: dict[str, np.ndarray]) -> np.ndarray:
            if not hasattr(own, "request"):
                own.request = compiled.create_infer_request()
            return np.array(own.request.infer(feed)[0])  # a copy: the request reuses its array

        return run, [node.any_name for node in compiled.inputs]
