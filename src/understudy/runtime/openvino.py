"""An exported model on OpenVINO: the same tokens and answers as `Predictor`, another engine below."""

from pathlib import Path

import numpy as np

from understudy.errors import ExportError
from understudy.runtime.predictor import Predictor, Run

OPENVINO, GRAPH = "openvino", "model.xml"


class OpenVINOPredictor(Predictor):
    """Runs the folder `openvino` that `understudy export --openvino` wrote into an exported folder.

    Its weights are float16, so it is held against the original model at export and not against scores at load.

    Args:
        folder: the exported folder.
        threads: threads of one prediction.

    Raises:
        ExportError: the folder was not exported for OpenVINO, or openvino is not installed.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        super().__init__(folder, threads, self_test=False)

    def _open(self, threads: int) -> tuple[Run, list[str]]:
        try:
            import openvino
        except ImportError:
            raise ExportError("OpenVINO is not installed: pip install 'understudy[openvino]'.") from None
        graph = self.folder / OPENVINO / GRAPH
        if not graph.is_file():
            raise ExportError(f"{graph} is missing. Export the model again with --openvino.")
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        options["INFERENCE_PRECISION_HINT"] = "f32"  # else bfloat16 where the processor has it, two digits fewer
        request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()

        def run(feed: dict[str, np.ndarray]) -> np.ndarray:
            return np.array(request.infer(feed)[0])  # the request's own array changes with the next text

        return run, [node.any_name for node in request.model_inputs]
