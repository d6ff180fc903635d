"""Which messages are shown on stderr, and how often."""

import logging
from collections.abc import Iterator

import pytest

import eyas
from eyas.verbosity import without_bars

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


def test_bars_of_libraries_are_hidden_and_come_back(bars: None, capsys: pytest.CaptureFixture[str]) -> None:
    from datasets import Dataset
    from transformers.utils.logging import tqdm

    def draw() -> str:
        Dataset.from_dict({"a": [1, 2]}).select([1, 0]).flatten_indices()
        assert list(tqdm([1, 2], desc="Writing model shards")) == [1, 2]
        return capsys.readouterr().err

    with without_bars(), without_bars():
        assert draw() == ""
    assert "Flattening the indices: 100%" in (shown := draw())
    assert "Writing model shards: 100%" in shown
