"""Errors raised on purpose. Each message says what was expected, what was found and what to do."""


class EyasError(Exception):
    """Base of every error eyas raises on purpose; the CLI prints it without a traceback."""


class DataError(EyasError):
    """The data cannot be read or used as requested."""


class LabelError(DataError):
    """The labels of data, teacher and student do not match."""


class ModelError(EyasError):
    """A model folder is incomplete, or holds the wrong kind of model."""


class CacheError(EyasError):
    """A cache of teacher outputs does not belong to this teacher and data."""


class OutputError(EyasError):
    """The output folder cannot be used: it holds something else, is in use, or is not writable."""


class ExportError(EyasError):
    """An exported model failed its parity check, or an exported folder is damaged."""


class MissingExtraError(EyasError):
    """An optional dependency is not installed."""


def install_hint(extra: str) -> str:
    """How to install an extra: eyas is not on PyPI yet, so pip needs a checkout."""
    return f"Install it from a checkout of eyas: pip install '.[{extra}]'"
