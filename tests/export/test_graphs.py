"""Graphs on disk: intact ones are read, damaged ones converted again."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import pytest
from command import Command, run_with_cache

from eyas.export import graphs
from eyas.export.graphs import kept_graph


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, on disk and in memory."""
    monkeypatch.setenv("EYAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(graphs, "_graphs", {})
    return tmp_path / "cache" / "graphs"


class Converter:
    """Makes a new graph on every call, and counts the calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> onnx.ModelProto:
        self.calls += 1
        return onnx.ModelProto(producer_name=f"call {self.calls}")


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the graphs in memory, as in a new process."""
    monkeypatch.setattr(graphs, "_graphs", {})


def test_kept_graph_is_read_by_next_process(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = Converter()
    assert kept_graph("form", convert) is kept_graph("form", convert)
    _forget(monkeypatch)
    assert kept_graph("form", convert).producer_name == "call 1"
    assert kept_graph("other form", convert).producer_name == "call 2"
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "no graph"])
def test_kept_graph_is_converted_again_if_damaged(damage: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = Converter()
    kept_graph("form", convert)
    [file] = cache.iterdir()
    content = file.read_bytes()
    damaged = {"cut": content[:-1], "bit": content[:-1] + bytes([content[-1] ^ 1]), "empty": b"", "no graph": b"x" * 99}
    file.write_bytes(damaged[damage])
    _forget(monkeypatch)
    assert kept_graph("form", convert).producer_name == "call 2"
    _forget(monkeypatch)
    assert kept_graph("form", convert).producer_name == "call 2"  # the file is intact again


def test_kept_graph_works_without_cache_folder(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert kept_graph("form", Converter()).producer_name == "call 1"


def test_kept_graph_depends_on_library_versions(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = Converter()
    kept_graph("form", convert)
    _forget(monkeypatch)
    monkeypatch.setattr(graphs, "version", lambda name: "99.0")
    graphs._code.cache_clear()
    assert kept_graph("form", convert).producer_name == "call 2"
    graphs._code.cache_clear()


def test_parallel_exports_share_a_graph(
    cache: Path, students: dict[tuple[str, bool], Path], tmp_path: Path, start: Callable[..., Command]
) -> None:
    target = partial(run_with_cache, str(cache.parent))
    options = ("export", "--model", students["static", False], "--out")
    commands = [start(*options, tmp_path / name, target=target) for name in ("a", "b")]
    assert [command.wait() for command in commands] == [0, 0]
    assert (tmp_path / "a" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()
    assert [file.suffix for file in cache.iterdir()] == [".onnx"]
