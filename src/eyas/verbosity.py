"""Verbosity: the level of the eyas logger, which writes to stderr, and the progress bars of the libraries."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger("eyas")

_HANDLER = logging.StreamHandler()


def set_verbosity_debug() -> None:
    """Show everything on stderr."""
    _set_verbosity(logging.DEBUG)


def set_verbosity_info() -> None:
    """Show progress, warnings and errors on stderr, as the command line does."""
    _set_verbosity(logging.INFO)


def set_verbosity_warning() -> None:
    """Show warnings and errors on stderr, as the command line does with `--quiet`."""
    _set_verbosity(logging.WARNING)


def set_verbosity_error() -> None:
    """Show only errors on stderr."""
    _set_verbosity(logging.ERROR)


def _set_verbosity(level: int) -> None:
    """Set the level; keep the program's own handlers of the logger "eyas", if it has any."""
    _HANDLER.stream = sys.stderr  # it may have been replaced since the last call
    if not logger.handlers:
        logger.addHandler(_HANDLER)
        logger.propagate = False
    logger.setLevel(level)


def hide_bars() -> Callable[[], None]:
    """Let transformers and datasets draw no progress bars, but for downloads, until the returned function is called."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils.logging import EmptyTqdm, set_tqdm_hook

    hook = set_tqdm_hook(lambda factory, args, options: EmptyTqdm(*args, **options))
    drawn = not are_progress_bars_disabled() and "HF_DATASETS_DISABLE_PROGRESS_BARS" not in os.environ
    if drawn:
        disable_progress_bars()

    def restore() -> None:
        set_tqdm_hook(hook)
        if drawn:
            enable_progress_bars()

    return restore


@contextmanager
def without_bars() -> Iterator[None]:
    """`hide_bars` within the context, or the decorated function: eyas says itself how far it is."""
    restore = hide_bars()
    try:
        yield
    finally:
        restore()
