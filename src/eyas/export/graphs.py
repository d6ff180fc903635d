"""A disk cache of converted graphs: conversion takes seconds, and models of one form differ only in weights."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import onnx

import eyas.compression
import eyas.models
from eyas.outputs import cache_root, write_atomically

CONVERTERS = ("torch", "transformers", "onnx", "onnxscript", "onnx-ir")
DIGEST_BYTES = 32

_graphs: dict[str, onnx.ModelProto] = {}


def kept_graph(form: str, convert: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
    """The graph of `form`, converted once on this machine.

    A damaged file is ignored, and so is a cache folder that cannot be written.

    Args:
        form: everything that determines the graph except our code and the versions of `CONVERTERS`.
    """
    if form not in _graphs:
        path = cache_root() / "graphs" / f"{_key(form)}.onnx"
        graph = _read(path)
        if graph is None:
            graph = convert()
            with suppress(OSError):
                _write(graph, path)
        _graphs[form] = graph
    return _graphs[form]


def _key(form: str) -> str:
    return hashlib.sha256(json.dumps([form, _code()]).encode()).hexdigest()


@cache
def _code() -> list[str]:
    """Versions of the converters, and a digest of our own code that determines a graph."""
    own_code = hashlib.sha256()
    ours = [Path(__file__).with_name(name) for name in ("onnx.py", "generation.py")]
    ours += [Path(eyas.compression.__file__).with_name("low_rank.py")]  # layers of compressed models
    for file in (*sorted(Path(eyas.models.__file__).parent.glob("*.py")), *ours):
        own_code.update(file.read_bytes())
    return [*(f"{name} {version(name)}" for name in CONVERTERS), own_code.hexdigest()]


def _read(path: Path) -> onnx.ModelProto | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, graph = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return onnx.load_from_string(graph) if hashlib.sha256(graph).digest() == digest else None


def _write(graph: onnx.ModelProto, path: Path) -> None:
    content = graph.SerializeToString()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, hashlib.sha256(content).digest() + content)
