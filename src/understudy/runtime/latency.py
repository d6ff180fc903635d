"""How long a prediction takes, measured side by side so that a busy machine slows all alike."""

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from understudy.runtime.predictor import Predictor

WARMUP = 10


def median_latency_ms(folders: Mapping[str, Path], texts: Sequence[str], rounds: int = 3) -> dict[str, float]:
    """Median time of one text at batch size 1, one thread, tokenisation counted in.

    Measured in a process of its own, where no other library's threads spin. Texts go through the models in runs
    of ten, the models taking turns, so that each works with warm caches and all see the same weather.

    Args:
        folders: {name: exported folder}.

    Returns:
        {name: milliseconds}.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measure, dict(folders), list(texts), rounds).result()


def _measure(folders: dict[str, Path], texts: list[str], rounds: int) -> dict[str, float]:
    predictors = {name: Predictor(folder) for name, folder in folders.items()}
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(rounds):
        for start in range(0, len(texts), WARMUP):
            for name, predictor in predictors.items():
                predictor.logits([texts[start]])
                for text in texts[start : start + WARMUP]:
                    started = time.perf_counter()
                    predictor.logits([text])
                    times[name].append(time.perf_counter() - started)
    return {name: float(np.median(values)) * 1e3 for name, values in times.items()}
