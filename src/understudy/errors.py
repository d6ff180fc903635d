"""Errors raised on purpose. Each message says what was expected, what came, and what to do."""


class UnderstudyError(Exception):
    """Base of every error understudy raises on purpose; the CLI prints it without a traceback."""


class DataError(UnderstudyError):
    """The data cannot be read or cannot be used as asked."""


class LabelError(DataError):
    """Labels of the data, the teacher and the student do not fit together."""


class ModelError(UnderstudyError):
    """A model folder is missing something, or is of another kind than asked for."""


class CacheError(UnderstudyError):
    """A cache of teacher outputs does not belong to this teacher and data."""


class OutputError(UnderstudyError):
    """The output folder cannot be used: not ours, in use, or not writable."""


class ExportError(UnderstudyError):
    """An exported model failed its parity check, or an exported folder is damaged."""


class MissingExtraError(UnderstudyError):
    """An optional dependency is not installed."""
