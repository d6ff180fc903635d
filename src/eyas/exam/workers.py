"""Workers run trials in separate processes, in this process, or on a Ray cluster.

A trial that raises, is killed or runs out of memory becomes a `Failure`; the others continue.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Any, Protocol

from eyas.cluster import connect
from eyas.errors import EyasError
from eyas.progress import PROGRESS
from eyas.verbosity import hide_bars

# Imported by the fork server once, so that a worker starts in a tenth of a second.
PRELOADED = ["eyas.exam.trial_run"]


@dataclass(frozen=True)
class Failure:
    """Why a task failed, in one line."""

    error: str


Task = tuple[Callable[..., Any], tuple[Any, ...]]


class Workers(Protocol):
    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any | Failure]]:
        """Yield (number of the task, its result), in order of completion."""


class LocalWorker:
    """A process that runs one task after another and is replaced when it dies.

    It keeps data and teachers in memory between tasks, and exits with its parent.

    Args:
        threads: number of torch threads; None = torch's default.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "LocalWorker":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self.close(at_once=kind is not None)

    def close(self, at_once: bool = False) -> None:
        """Stop the process; `at_once` even in the middle of a task."""
        if self._pool is None:
            return
        if at_once:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(cancel_futures=True)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any | Failure:
        """Run one task and return its result."""
        if self._pool is None:
            level = logging.getLogger("eyas").getEffectiveLevel()
            self._pool = ProcessPoolExecutor(1, self._context, _start_worker, (level, self._threads))
        try:
            return self._pool.submit(_guarded, function, arguments).result()
        except BrokenProcessPool:
            self._pool = None
            return Failure("its process was killed; perhaps the machine ran out of memory")


class ThisProcess:
    """Runs tasks one after another in this process, where a debugger can follow."""

    def __enter__(self) -> "ThisProcess":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any | Failure:
        """Run one task and return its result."""
        return _guarded(function, arguments)

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any | Failure]]:
        for number, (function, arguments) in enumerate(tasks):
            yield number, self.call(function, *arguments)


class LocalWorkers:
    """Several `LocalWorker`s that share the processors.

    Args:
        jobs: number of parallel tasks, each with its share of the processors.
    """

    def __init__(self, jobs: int = 1) -> None:
        threads = max(len(os.sched_getaffinity(0)) // jobs, 1) if jobs > 1 else None
        self._workers = [LocalWorker(threads) for _ in range(jobs)]
        self._stopped = False

    def __enter__(self) -> "LocalWorkers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._stopped = True
        for worker in self._workers:
            worker.close(at_once=kind is not None)

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any | Failure]]:
        waiting, done = Queue[int](), Queue[tuple[int, Any]]()
        for number in range(len(tasks)):
            waiting.put(number)

        def work(worker: LocalWorker) -> None:
            while not self._stopped:
                try:
                    number = waiting.get_nowait()
                except Empty:
                    return
                function, arguments = tasks[number]
                try:
                    done.put((number, worker.call(function, *arguments)))
                except CancelledError:  # the exam was interrupted
                    return

        for worker in self._workers:
            threading.Thread(target=work, args=(worker,), daemon=True).start()
        for _ in tasks:
            yield done.get()


class RayWorkers:
    """Runs tasks on a Ray cluster. If a node dies, its task runs again on another.

    All nodes must have the same hardware, and see the exam's folder, the data, the teacher and the cache under the
    same paths.

    Args:
        address: address of the cluster; "auto" = the cluster of this machine.
        cpus: processors per trial.
    """

    def __init__(self, address: str, cpus: float = 1) -> None:
        self._ray, self._close = connect(address)
        self._remote = self._ray.remote(num_cpus=cpus, max_retries=5)(_guarded)

    def __enter__(self) -> "RayWorkers":
        return self

    def __exit__(self, *_: Any) -> None:
        self._close()

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any | Failure]]:
        waiting = {self._remote.remote(function, arguments): n for n, (function, arguments) in enumerate(tasks)}
        while waiting:
            done, _ = self._ray.wait(list(waiting), num_returns=1)
            number = waiting.pop(done[0])
            try:
                yield number, self._ray.get(done[0])
            except self._ray.exceptions.RayError as error:
                yield number, Failure(f"its worker died: {str(error).splitlines()[0]}")


def _guarded(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any | Failure:
    try:
        return function(*arguments)
    except EyasError as error:
        return Failure(str(error))
    except MemoryError:
        return Failure("the machine ran out of memory")
    except Exception as error:
        logging.getLogger("eyas").debug("trial failed", exc_info=True)
        return Failure(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def end_with_parent() -> None:
    """Exit this process when its parent exits, even if the parent is killed."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _start_worker(level: int, threads: int | None) -> None:
    """Log warnings and progress like the parent, and exit with it, even if it is killed."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    if threads is not None:
        torch.set_num_threads(threads)
    logger = logging.getLogger("eyas")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(level)
    handler.addFilter(lambda record: record.levelno > logging.INFO or record.name == PROGRESS)
    hide_bars()
    end_with_parent()
