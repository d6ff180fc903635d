"""Measure the cost of exported models in separate processes. No torch.

For timing, all models take turns in one process, so a busy machine slows all alike: trust the ratios. Memory and
load time are measured in a new process for each model.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eyas.errors import EyasError
from eyas.exam.baselines import BASELINE, load_baseline
from eyas.exam.workers import end_with_parent
from eyas.runtime.generation import GenerationPredictor
from eyas.runtime.predictor import Predictor

if TYPE_CHECKING:
    from eyas.evaluation.evaluate import Predicts

RUN = 10
BATCH = 32
MEMORY_TEXTS = 100
ENERGY_TEXTS = 2000
RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Texts = Sequence[tuple[str, ...]]


def open_model(folder: Path, threads: int = 1) -> "Predicts":
    """Load an exported model or a baseline of an exam.

    Skips the self-test, so that a model exported on another kind of processor can be measured.
    """
    if (folder / BASELINE).is_file():
        return load_baseline(folder)
    return Predictor(folder, threads=threads, self_test=False)


def measure_costs(
    folders: Mapping[str, Path], reference: str | None, texts: Texts, rounds: int = 3, threads: int = 1
) -> dict[str, dict[str, float | None]]:
    """Measure the cost of each model at batch size 1, tokenization included.

    Args:
        folders: {name: exported model or baseline}.
        reference: name of the model to compare with; None = a teacher without a model of its own.
        texts: real texts, as 1-tuples or pairs.

    Returns:
        {name: latency_ms (median), latency_p95_ms, latency_p99_ms, times_faster (than `reference`; the median of
        the rounds), sentences_per_second (in calls of 32), load_ms, peak_rss_bytes, added_rss_bytes (by loading
        and predicting, with the libraries already imported), joules_per_1000 (None if the machine does not report
        it)}.
    """
    paths = {name: str(folder) for name, folder in folders.items()}
    times = _in_own_process(_times, threads, paths, list(texts), rounds, threads)
    costs = {}
    for name in folders:
        memory = _in_own_process(_memory, threads, paths[name], list(texts), threads)
        own = times[name]["single"]  # [rounds, texts]
        ratios = None if reference is None else np.median(times[reference]["single"], 1) / np.median(own, 1)
        p50, p95, p99 = np.quantile(own, [0.5, 0.95, 0.99]) * 1e3
        costs[name] = {
            "latency_ms": round(p50, 5),
            "latency_p95_ms": round(p95, 5),
            "latency_p99_ms": round(p99, 5),
            "times_faster": None if ratios is None else round(float(np.median(ratios)), 3),
            "sentences_per_second": round(BATCH / float(np.median(times[name]["batch"])), 1),
            **memory,
        }
    return costs


def machine() -> dict[str, Any]:
    """Processor, cores, versions and date, recorded beside the figures."""
    import datetime
    import platform
    from importlib.metadata import version

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {
        "cpu": names[0] if names else platform.processor(),
        "extensions": [flag for flag in ("avx512_vnni", "avx512_bf16", "amx_int8") if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in ("eyas", "torch", "transformers", "onnxruntime")},
        "date": datetime.date.today().isoformat(),
    }


def _in_own_process(function: Callable[..., Any], threads: int, *arguments: Any) -> Any:
    """Run `function` in a new Python process whose libraries use `threads` threads."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent)
    try:
        return pool.submit(function, *arguments).result()
    except BrokenProcessPool:
        raise EyasError(
            "The process that measures cost was killed; perhaps the machine ran out of memory. The trials are kept: "
            "run the exam again."
        ) from None
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _times(folders: dict[str, str], texts: Texts, rounds: int, threads: int) -> dict[str, dict[str, np.ndarray]]:
    models = {name: open_model(Path(folder), threads) for name, folder in folders.items()}
    feeds = [_columns([row]) for row in texts]
    batch = _columns([texts[i % len(texts)] for i in range(BATCH)])
    times: dict[str, dict[str, list[Any]]] = {name: {"single": [], "batch": []} for name in models}
    for _ in range(rounds):
        own: dict[str, list[float]] = {name: [] for name in models}
        for start in range(0, len(feeds), RUN):
            for name, model in models.items():
                _answer(model, feeds[start])  # warm the caches, which the other models have used
                own[name] += [_seconds(model, feed) for feed in feeds[start : start + RUN]]
        for name, model in models.items():
            times[name]["single"].append(own[name])
            times[name]["batch"].append(_seconds(model, batch))
    return {name: {part: np.array(values) for part, values in parts.items()} for name, parts in times.items()}


def _memory(folder: str, texts: Texts, threads: int) -> dict[str, float | None]:
    if (Path(folder) / BASELINE).is_file():  # libraries do not count, as for the other models
        import sklearn.feature_extraction.text  # noqa: F401
    before = _status("VmRSS")
    started = time.perf_counter()
    model = open_model(Path(folder), threads)
    loaded = time.perf_counter() - started
    feeds = [_columns([row]) for row in texts[:MEMORY_TEXTS]]
    for feed in feeds:
        _answer(model, feed)
    return {
        "load_ms": round(loaded * 1e3, 2),
        "added_rss_bytes": _status("VmRSS") - before,
        "peak_rss_bytes": _status("VmHWM"),
        "joules_per_1000": _energy(model, feeds),
    }


def _energy(model: "Predicts", feeds: list[tuple[list[str], list[str] | None]]) -> float | None:
    """Joules per 1,000 texts of the whole processor, idle share and other processes included."""
    try:
        before = int(RAPL.read_text())
    except OSError:
        return None
    for number in range(ENERGY_TEXTS):
        _answer(model, feeds[number % len(feeds)])
    used = int(RAPL.read_text()) - before
    return round(used / 1e6 * 1000 / ENERGY_TEXTS, 4) if used > 0 else None  # the counter wraps around


def _columns(rows: Texts) -> tuple[list[str], list[str] | None]:
    return [row[0] for row in rows], [row[1] for row in rows] if len(rows[0]) == 2 else None


def _answer(model: "Predicts", feed: tuple[list[str], list[str] | None]) -> None:
    if isinstance(model, GenerationPredictor):
        model.predict(feed[0])
    else:
        model.logits(*feed)


def _seconds(model: "Predicts", feed: tuple[list[str], list[str] | None]) -> float:
    started = time.perf_counter()
    _answer(model, feed)
    return time.perf_counter() - started


def _status(field: str) -> int:
    """A field of /proc/self/status, in bytes. Unlike getrusage, its peak counts this program alone."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0
