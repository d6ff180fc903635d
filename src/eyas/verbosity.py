"""Verbosity: the level of the eyas logger, which writes to stderr."""

import logging
import sys

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
