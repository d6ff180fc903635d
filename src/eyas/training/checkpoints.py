"""Checkpoints that are whole or not there: written beside, synced, listed in a manifest, renamed."""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from eyas.outputs import write_atomically

logger = logging.getLogger("eyas")

MANIFEST = "manifest.json"


def publish(staged: Path, final: Path) -> None:
    """Sync the files in `staged`, write their manifest, and rename the folder to `final`."""
    checksums = {}
    for path in sorted(p for p in staged.rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            checksums[str(path.relative_to(staged))] = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    write_atomically(staged / MANIFEST, json.dumps(checksums, indent=2))
    if final.exists():
        shutil.rmtree(final)
    os.replace(staged, final)
    _sync_folder(final.parent)


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint in `folder` whose files are all as its manifest says; others are named and skipped."""
    numbered = {
        int(path.name.rsplit("-", 1)[1]): path
        for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.name.rsplit("-", 1)[1].isdigit()
    }
    for _, path in sorted(numbered.items(), reverse=True):
        problem = _problem(path)
        if problem is None:
            return path
        logger.warning("Skipping checkpoint %s: %s.", path, problem)
    return None


def _problem(checkpoint: Path) -> str | None:
    try:
        checksums = json.loads((checkpoint / MANIFEST).read_text())
    except (OSError, ValueError):
        return f"its {MANIFEST} is missing or broken"
    for name, expected in checksums.items():
        try:
            with open(checkpoint / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return f"{name} is missing"
        if found != expected:
            return f"{name} is damaged"
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
