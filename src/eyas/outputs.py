"""Output folders: they appear only when complete, and interrupted runs resume."""

import errno
import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from eyas import processes
from eyas._version import __version__
from eyas.errors import OutputError

logger = logging.getLogger("eyas")

RUN_FILE = "eyas.json"
# Written by versions from before the product was called eyas.
OLD_RUN_FILE = "understudy.json"
# Seconds between two looks at a folder that another process makes.
POLL = 0.1
# Seconds that a process waits for the first one's folder, at most.
WAIT = 600.0
CACHE_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)


def cache_root() -> Path:
    """The folder for caches: `$EYAS_CACHE`, or `~/.cache/eyas`."""
    return Path(os.environ.get("EYAS_CACHE", "~/.cache/eyas")).expanduser()


def cache_folder(*names: str) -> Path:
    """A folder below `cache_root()`, created if it is missing.

    Raises:
        OutputError: the cache cannot be written.
    """
    folder = cache_root().joinpath(*names)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in CACHE_ERRORS:
            raise
        raise OutputError(
            f"The cache folder {folder} cannot be made: {error.strerror}. Set the variable EYAS_CACHE to a folder that "
            "can be written."
        ) from None
    return folder


def file_identity(path: Path) -> list[Any]:
    """What changes if a file changes, without reading it. Size and time alone may be those of another file."""
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def strict_json(value: Any, **options: Any) -> str:
    """`value` as strict JSON: numbers that are not finite become null."""
    return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def temporary_beside(path: Path) -> Path:
    """A hidden name for `path` while it is written. Processes of several machines may have the same id."""
    return path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside `path`, sync, then rename: readers see the old content or the new, never a partial file."""
    temporary = temporary_beside(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def lock_folder(path: Path, inside: bool = False) -> Any:
    """Lock `path` for this process, until `release()` or exit.

    Args:
        inside: with a file in the folder, which other users and machines see; otherwise with one in the cache.

    Raises:
        OutputError: another process holds the lock, or its file belongs to another user.
    """
    from filelock import FileLock, Timeout

    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    place = path / ".lock" if inside else cache_folder("locks") / f"{name}.lock"
    lock = FileLock(place, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(
            f"{path} is being written by another process. Wait for it, or choose another out (--out)."
        ) from None
    except PermissionError:
        raise OutputError(
            f"{path} cannot be locked: you may not write {place}. Ask its owner, or choose another out (--out)."
        ) from None
    return lock


def finished_request(path: Path, request: dict[str, Any] | None) -> bool:
    """Whether `path` holds the result of this request; checked before data and models are read."""
    if request is None:
        return False
    try:
        found = json.loads((path / RUN_FILE).read_text())["request"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    same = bool(found == json.loads(json.dumps(request)))
    if same:
        _say_finished(path)
    return same


def _say_finished(path: Path) -> None:
    logger.info("%s already exists, made with the same settings.", path)


def make_readable(folder: Path) -> None:
    """Give the files default permissions; safetensors makes its files readable by the owner only."""
    mask = os.umask(0)
    os.umask(mask)
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(file.stat().st_mode | (0o644 & ~mask))


def refuse_old_name(path: Path) -> None:
    """Raise OutputError for a folder written before the product was called eyas."""
    if (path / OLD_RUN_FILE).is_file():
        raise OutputError(
            f"{path} was written by an earlier version of eyas, under its old name (it has {OLD_RUN_FILE}). Nothing "
            "was touched. Choose another out (--out), or delete the folder."
        )


class OutputFolder:
    """The output folder of one command.

    Work happens in `<path>.partial`, which is renamed to `path` when the `with` block succeeds. After an
    interruption the partial folder stays, and a run with the same settings resumes in it. Of several processes of one
    training, the first alone makes and renames it.

    Args:
        path: the folder of the result.
        settings: the settings of the run, JSON values only; a partial folder resumes only if they are equal.
        overwrite: replace a result or a partial folder made with other settings.
        resumable: keep the partial folder after an error or an interruption.
        request: the caller's request, in a form that is cheap to compare; see `finished_request`.
        inputs: folders and files that the command reads, beside the absolute paths in `settings`.

    Raises:
        OutputError: `path` holds something else, or an input of the command, or another process is writing it.
    """

    def __init__(
        self,
        path: str | Path,
        settings: dict[str, Any],
        overwrite: bool = False,
        resumable: bool = True,
        request: dict[str, Any] | None = None,
        inputs: Sequence[str | Path] = (),
    ) -> None:
        self.path = Path(path).absolute()
        if self.path.is_symlink():  # the result replaces the folder, not the link
            self.path = self.path.resolve()
        if self.path == Path.cwd() or not self.path.name:
            raise OutputError(f"{path} is the folder you are in. Choose another out (--out).")
        refuse_inputs(self.path, [*map(Path, inputs), *_paths_in(settings)])
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.overwrite, self.resumable, self.request = overwrite, resumable, request
        self._check(self.path)
        if processes.is_first():  # it may be making the folder at this moment
            self._check(self.partial)

    @property
    def is_finished(self) -> bool:
        """Whether `path` already holds the result of these settings, which is then said."""
        found = not self.overwrite and self._settings_in(self.path) == self.settings
        if found:
            _say_finished(self.path)
        return found

    def __enter__(self) -> Path:
        if not processes.is_first():  # it works in the folder that the first makes
            self._wait(lambda: self._settings_in(self.partial) == self.settings, WAIT)
            return self.partial
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(self.path)
        same = self._settings_in(self.partial) == self.settings
        if self.partial.exists() and not (same and self.resumable):
            shutil.rmtree(self.partial)
        self.partial.mkdir(exist_ok=True)
        record = {"eyas_version": __version__, "settings": self.settings, "request": self.request}
        write_atomically(self.partial / RUN_FILE, json.dumps(record, indent=2, sort_keys=True) + "\n")
        return self.partial

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not processes.is_first():
            if kind is None:
                self._wait(lambda: self._settings_in(self.path) == self.settings and not self.partial.exists())
            return
        try:
            if kind is None:
                make_readable(self.partial)
                if self.path.exists():
                    shutil.rmtree(self.path)
                os.replace(self.partial, self.path)
            elif not self.resumable or (isinstance(error, Exception) and not self._has_work()):
                shutil.rmtree(self.partial)  # otherwise a corrected call would count as another run
        finally:
            self._lock.release()

    def _wait(self, done: Callable[[], bool], seconds: float = math.inf) -> None:
        """Wait for the first process; if it dies, the launcher ends this one.

        Raises:
            OutputError: it made no folder for these settings in time.
        """
        started = time.monotonic()
        while not done():
            if time.monotonic() - started > seconds:
                found = self._settings_in(self.partial)
                why = "it is not there" if found is None else _difference(found, self.settings)
                raise OutputError(
                    f"Process {processes.number()} waited {seconds / 60:.0f} minutes for the folder that process 0 "
                    f"makes, {self.partial}: {why}. All need the same folder, arguments and kind of processor."
                )
            time.sleep(POLL)

    def _has_work(self) -> bool:
        return any(self.partial.rglob("checkpoint-*"))

    def _check(self, path: Path) -> None:
        if not path.exists():
            return
        if not path.is_dir():
            raise OutputError(f"{path} is a file, expected a folder or nothing. Choose another out (--out).")
        if not any(path.iterdir()):
            return
        found = self._settings_in(path)
        if found is None:
            refuse_old_name(path)
            raise OutputError(
                f"{path} exists and was not made by eyas (it has no {RUN_FILE}). "
                "Nothing was touched. Choose another out (--out)."
            )
        if found != self.settings and not self.overwrite:
            raise OutputError(
                f"{path} holds a run with other settings ({_difference(found, self.settings)}). "
                "Choose another out (--out), or replace it with overwrite=True (--overwrite)."
            )

    @staticmethod
    def _settings_in(path: Path) -> dict[str, Any] | None:
        try:
            settings = json.loads((path / RUN_FILE).read_text())["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return settings if isinstance(settings, dict) else None


def _paths_in(value: Any) -> Iterator[Path]:
    """The absolute paths in settings."""
    if isinstance(value, str):
        if value.startswith(os.sep):
            yield Path(value)
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _paths_in(part)


def refuse_inputs(out: Path, inputs: Iterable[Path]) -> None:
    """Raise OutputError if the result would replace what the command reads."""
    for path in inputs:
        if out.exists() and os.path.exists(path) and out.resolve() in (path.resolve(), *path.resolve().parents):
            what = "is" if out.resolve() == path.resolve() else "holds"
            raise OutputError(f"{out} {what} an input of this command ({path}). Choose another out (--out).")


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return "; ".join(f"{key}: {_short(old.get(key))} there, {_short(new.get(key))} now" for key in keys)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."
