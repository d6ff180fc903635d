"""The processes of one training, as torch's launcher starts them: `torchrun --nproc-per-node 2 -m eyas distill ...`.

Each runs the same command. They share the training's steps and the labeling; the first alone writes the result.
"""

import os
from typing import Any


def count() -> int:
    """Number of processes; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "MASTER_ADDR" in os.environ else 1


def number() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", 0)) if count() > 1 else 0


def place() -> int:
    """The number of this process among those of its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0)) if count() > 1 else 0


def is_first() -> bool:
    return number() == 0


def recorded() -> dict[str, Any]:
    """What a run records of its processes: one of another number cannot go on where it stopped."""
    return {"processes": count()} if count() > 1 else {}
