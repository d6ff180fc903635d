"""The processes of one training, as torch's launcher starts them: `torchrun --nproc-per-node 2 -m eyas distill ...`.

Each runs the same command. They share the training's steps and the labeling; the first alone writes the result.
"""

import os


def count() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", 1))


def number() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", 0))


def is_first() -> bool:
    return number() == 0
