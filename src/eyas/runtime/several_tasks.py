"""An exported student of several tasks: one graph with an output for each."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from eyas.errors import DataError
from eyas.runtime.manifest import MODEL, Manifest
from eyas.runtime.predict import Text, as_list
from eyas.runtime.predictor import Predictor, Run, open_session

# The graphs in use, by the checksum of the file: the tasks of a folder share one.
_GRAPHS: "WeakValueDictionary[tuple[str, int], _Graph]" = WeakValueDictionary()


class _Graph:
    """All outputs for a text, which onnxruntime computes at once, whichever is asked for.

    Those of the last text are kept: the next task asks for the same text.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.session = open_session(path, threads)
        self.inputs = [node.name for node in self.session.get_inputs()]
        self._outputs = [node.name for node in self.session.get_outputs()]
        self._last: tuple[list[bytes], dict[str, np.ndarray]] = ([], {})

    def run(self, feed: dict[str, np.ndarray], output: str) -> np.ndarray:
        key, (last, found) = [feed[name].tobytes() for name in self.inputs], self._last
        if key != last:
            found = dict(zip(self._outputs, self.session.run(None, feed), strict=True))
            self._last = key, found
        return found[output].copy()


class OneTask(Predictor):
    """The folder of one task in that of several; `Predictor` opens it too. It needs the folder around it."""

    def _open(self, threads: int) -> tuple[Run, list[str]]:
        key, output = (self.manifest.sha256[MODEL], threads), self.manifest.output
        self.graph = graph = _GRAPHS.get(key) or _GRAPHS.setdefault(key, _Graph(self._files / MODEL, threads))
        return lambda feed: graph.run(feed, output), graph.inputs


class SeveralTasks(Predictor):
    """The folder of a student of several tasks; `Predictor` opens it too.

    Args:
        folder, threads, self_test, abstain_below: as for `Predictor`; the last is for the tasks that can abstain.

    Attributes:
        tasks: the `Predictor` of each task, by its name.
    """

    def __init__(
        self, folder: str | Path, threads: int = 1, self_test: bool = True, abstain_below: float | None = None
    ) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder)
        self.tasks: dict[str, Predictor] = {}
        for stage in self.manifest.stages:
            self.tasks[stage["name"]] = task = Predictor(self.folder / stage["folder"], threads, self_test)
            if abstain_below is not None and task.task.can_abstain:
                task.abstain(abstain_below)

    def __call__(self, texts: Iterable[Text], task: str | None = None) -> Any:
        """Predict a list of texts.

        Args:
            texts: as for `Predictor`.
            task: by default all tasks, {task: answer} for each text. A text that they read alike is read once.

        Raises:
            DataError: no such task, or an input that is not what a task reads.
        """
        if task is not None:
            return self.of(task)(texts)
        return [{name: one([text])[0] for name, one in self.tasks.items()} for text in as_list(texts)]

    def predict(self, texts: Iterable[Text], task: str | None = None) -> Any:
        """Predictions of one task without scores; see `Predictor.predict`."""
        return self.of(task).predict(texts)

    def predict_proba(self, texts: Iterable[Text], task: str | None = None) -> np.ndarray:
        """[texts, labels] probabilities of one task; see `Predictor.predict_proba`."""
        return self.of(task).predict_proba(texts)

    def of(self, task: str | None) -> Predictor:
        """The `Predictor` of one task.

        Raises:
            DataError: no such task.
        """
        found = self.tasks.get(task or "")
        if found is None:
            raise DataError(f"task is {task!r}, expected one of {', '.join(self.tasks)}.")
        return found

    def __getattr__(self, name: str) -> Any:
        """Raises DataError: what one model has, such as `task` or `label_names`, each of the tasks has its own."""
        if name.startswith("_") or "manifest" not in vars(self):
            raise AttributeError(name)
        folders = [str(self.folder / stage["folder"]) for stage in self.manifest.stages]
        raise DataError(f"{self.folder} answers several tasks, so it has no {name}. Name one: {' or '.join(folders)}.")
