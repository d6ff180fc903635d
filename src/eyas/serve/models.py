"""The models of a server: loaded from folders, and replaced when the folders change."""

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eyas.errors import ExportError, EyasError
from eyas.kinds import GENERATION
from eyas.runtime.generation import FILES
from eyas.runtime.manifest import EXAM, MANIFEST, MODEL, TASKS, TOKENIZER, kind_of, stage_folders
from eyas.runtime.predictor import Predictor

EXAM_FIELDS = ("metric", "score", "retention", "agreement", "latency_ms", "times_faster")
Stamp = tuple[tuple[int, int, int], ...]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Model:
    """A version of a model, ready to answer.

    Args:
        stamp: stamp of its files at load; a different one means that the folder was replaced.
    """

    name: str
    version: str
    predictor: Predictor
    stamp: Stamp

    def describe(self) -> dict[str, object]:
        """Metadata for clients."""
        manifest = self.predictor.manifest
        return {
            "name": self.name,
            "version": self.version,
            "task": manifest.task,
            "labels": list(manifest.labels) if manifest.task != "vectors" else [],
            "pair": manifest.pair,
            "precision": manifest.precision,
            "max_length": self.predictor.max_length,
            "abstain_below": manifest.abstain_below,
            "examples": manifest.examples,
            "exam": self._exam(),
        }

    def _exam(self) -> dict[str, object]:
        """Results of the exam that selected the model; empty if there was none."""
        try:
            found = json.loads((self.predictor.folder / EXAM).read_text())
        except (OSError, ValueError):
            return {}
        figures = found if isinstance(found, dict) else {}
        # Beside a teacher without a model, such as a file, a student is not faster.
        numbers = [*(figures.get(name) for name in EXAM_FIELDS[1:-1]), figures.get("times_faster") or 0]
        known = all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
        whole = known and isinstance(figures.get("metric"), str)
        return {name: figures.get(name) for name in EXAM_FIELDS} if whole else {}


class Models:
    """The models in `sources`. Each source is an exported folder, or holds exported folders named 1, 2, 3 ...

    A model has the name of its folder; of several tasks, each is a model, FOLDER.TASK. By default its highest version
    answers.

    Raises:
        ExportError: a folder holds no model or a damaged one, or two models have the same name.
    """

    def __init__(self, sources: Sequence[str | Path]) -> None:
        self.sources: dict[str, Path] = {}
        for source in sources:
            path = Path(os.path.abspath(source))  # a link keeps its name, and may come to lead elsewhere
            name = path.name
            if not NAME.fullmatch(name):
                raise ExportError(
                    f"{source}: cannot serve a model of this name. Rename the folder: up to 100 letters, digits, dots, "
                    "dashes and underscores, the first a letter or a digit."
                )
            if name in self.sources:
                raise ExportError(f"Two models have the name {name}: {self.sources[name]} and {path}. Rename a folder.")
            self.sources[name] = path
        folders: dict[tuple[str, str], Path] = {}
        for name, path in self.sources.items():
            own = _folders(name, path) or {(name, "1"): path}  # which raises an error with what is missing
            for key in own.keys() & folders.keys():
                raise ExportError(f"Two models have the name {key[0]}: {folders[key]} and {own[key]}. Rename a folder.")
            folders |= own
        self._loaded: dict[tuple[str, str], Model] = {}
        self._order: dict[str, int] = {}
        self._keep({key: _load(*key, path) for key, path in folders.items()})
        self._failed: dict[tuple[str, str], Stamp] = {}

    def _keep(self, loaded: dict[tuple[str, str], Model]) -> None:
        """Serve these, in the order in which their names came first. Replaced at once: requests read it meanwhile."""
        for name, _ in loaded:
            self._order.setdefault(name, len(self._order))
        self._loaded = dict(sorted(loaded.items(), key=lambda item: self._order[item[0][0]]))

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self._loaded))

    def versions(self, name: str) -> list[str]:
        """Versions from the oldest; empty if there is no such model."""
        return sorted((version for known, version in self._loaded if known == name), key=int)

    def get(self, name: str | None = None, version: str | None = None) -> Model | None:
        """The model; by default the first one, in its newest version."""
        name = name or self.names[0]
        versions = self.versions(name)
        return self._loaded.get((name, version or (versions[-1] if versions else "")))

    def refresh(self) -> list[str]:
        """Load new and changed folders, and drop versions whose folders are gone. Returns a line per change.

        A loaded model stays if its changed folder cannot be loaded, or if the folder is gone and there is no other
        version.
        """
        events, loaded, folders = [], dict(self._loaded), dict[tuple[str, str], Path]()
        for name, path in self.sources.items():
            folders = {**_folders(name, path), **folders}
        for key, folder in folders.items():
            stamp, known = _stamp(folder), loaded.get(key)
            if stamp is None or (known is not None and known.stamp == stamp) or self._failed.get(key) == stamp:
                continue
            try:
                loaded[key] = _load(*key, folder)
                events.append(f"{key[0]} version {key[1]} was loaded")
            except Exception as error:  # onnxruntime and tokenizers have errors of their own
                self._failed[key] = stamp
                kept = "the previous one stays" if known is not None else "it is skipped"
                events.append(f"{key[0]} version {key[1]} cannot be loaded, {kept}: {type(error).__name__}")
        for key in [key for key in loaded if key not in folders]:
            if any(name == key[0] for name, _ in folders):
                del loaded[key]
                events.append(f"{key[0]} version {key[1]} was removed")
        self._keep(loaded)
        return events


def _load(name: str, version: str, folder: Path) -> Model:
    stamp = _stamp(folder)
    try:
        predictor = Predictor(folder)
    except (EyasError, OSError):
        raise
    except Exception as error:  # onnxruntime and tokenizers have errors of their own
        raise ExportError(f"{folder} can't be loaded ({type(error).__name__}). Export the model again.") from error
    return Model(name, version, predictor, stamp or ())


def _folders(name: str, path: Path) -> dict[tuple[str, str], Path]:
    """The folder of each model and version in a source."""
    versions = {"1": path} if (path / MANIFEST).exists() else {}
    for child in path.iterdir() if path.is_dir() else ():
        if child.name.isdecimal() and (child / MANIFEST).exists():
            versions[child.name] = child
    found: dict[tuple[str, str], Path] = {}
    for version, folder in versions.items():
        tasks = stage_folders(folder) if kind_of(folder) == TASKS else []
        found |= {(f"{name}.{task}", version): folder / task for task in tasks} or {(name, version): folder}
    return found


def _places(folder: Path) -> list[Path]:
    """The folders of the models in `folder`, whose stages may have stages themselves."""
    stages = stage_folders(folder) if kind_of(folder) not in ("", "task", GENERATION) else []
    return [place for name in stages for place in _places(folder / name)] or [folder]


def _stamp(folder: Path) -> Stamp | None:
    """The stamp of a model's files; None while one is missing."""
    try:
        kind, places = kind_of(folder), _places(folder)
        files = [place / MANIFEST for place in places]
        names = FILES if kind == GENERATION else (MODEL, TOKENIZER)
        files += [place / name for place in ([folder.parent] if kind == "task" else places) for name in names]
        stats = [file.stat() for file in files]
    except OSError:
        return None
    return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)
