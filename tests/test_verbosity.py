"""Which messages are shown on stderr, and how often."""

import logging
from collections.abc import Iterator

import pytest

import eyas

logger = logging.getLogger("eyas")


@pytest.fixture(autouse=True)
def _new_logger() -> Iterator[None]:
    """Reset the logger as in a new process, and restore it afterwards."""
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [], True
    yield
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])


def _say() -> None:
    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)(level)


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", "debug\ninfo\nwarning\nerror\n"),
        ("info", "info\nwarning\nerror\n"),
        ("warning", "warning\nerror\n"),
        ("error", "error\n"),
    ],
)
def test_messages_are_shown_once(level: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        eyas.set_verbosity_info()
        getattr(eyas, f"set_verbosity_{level}")()
    _say()
    assert capsys.readouterr().err == shown
    assert len(logger.handlers) == 1


def test_messages_go_to_replaced_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    eyas.set_verbosity_error()
    with capsys.disabled():
        eyas.set_verbosity_error()
    eyas.set_verbosity_error()
    _say()
    assert capsys.readouterr().err == "error\n"


def test_existing_handler_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    own = logging.NullHandler()
    logger.addHandler(own)
    eyas.set_verbosity_debug()
    assert logger.handlers == [own]
    assert logger.level == logging.DEBUG
    assert capsys.readouterr().err == ""
