"""How long a prediction takes, measured side by side so that a busy machine slows all alike."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from understudy.evaluation.evaluate import Predicts


def median_latency_ms(
    classifiers: Mapping[str, Predicts], texts: Sequence[str], rounds: int = 3, warmup: int = 10
) -> dict[str, float]:
    """Median time of one text at batch size 1, tokenisation counted in.

    Every text goes through all classifiers in turn before the next one does.

    Returns:
        {name: milliseconds}.
    """
    for classifier in classifiers.values():
        for text in texts[:warmup]:
            classifier.logits([text])
    times: dict[str, list[float]] = {name: [] for name in classifiers}
    for _ in range(rounds):
        for text in texts:
            for name, classifier in classifiers.items():
                started = time.perf_counter()
                classifier.logits([text])
                times[name].append(time.perf_counter() - started)
    return {name: float(np.median(values)) * 1e3 for name, values in times.items()}
