"""A `static` student in numpy and in onnxruntime, in turns in one process, with one thread.

    OMP_NUM_THREADS=1 python benchmarks/static_speed.py SHIPPED

SHIPPED is an exported `static` student for single texts. Prints medians in microseconds.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from eyas import Predictor

TEXT = (
    "the cast is witty and the plot is a great deal better than the film of last year which was dull and far too long "
    "for what it had to say about it all"
)
ROUNDS, CALLS = 7, 3000


def microseconds(function: Callable[[Any], Any], model: Any) -> float:
    """The mean of a round of calls."""
    started = time.perf_counter()
    for _ in range(CALLS):
        function(model)
    return (time.perf_counter() - started) / CALLS * 1e6


def main() -> None:
    numpy, graph = Predictor(sys.argv[1]), Predictor(sys.argv[1])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(f"{sys.argv[1]}/model.onnx", options)
    graph._run = lambda feed: session.run(None, feed)[0]
    feed, _ = next(iter(numpy._feeds([[TEXT]])))
    print(f"{feed['input_ids'].shape[1]} tokens, {numpy.manifest.precision}")
    ways = {"run": lambda model: model._run(feed), "call": lambda model: model([TEXT])}
    for name, way in ways.items():
        models = {"numpy": numpy, "onnxruntime": graph}
        rounds = [{key: microseconds(way, model) for key, model in models.items()} for _ in range(ROUNDS)]
        print(name, {key: round(float(np.median([each[key] for each in rounds])), 1) for key in models})


if __name__ == "__main__":
    main()
