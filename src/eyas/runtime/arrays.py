"""Run a `static` student with numpy: a mean of rows and two products, without a session of onnxruntime."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

MOST_TOKENS = 512


class ArraysRun:
    """The graph of a `static` student as a function.

    Args:
        path: the ONNX file that holds the weights.
        about: where they are; see `eyas.export.arrays.find_arrays`.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        content = np.fromfile(path, dtype=np.uint8)

        def weights(key: str) -> np.ndarray:
            found = _array(content, about[key])
            return _dequantized(found, about[key]) if "scale" in about[key] else found

        turned, table = about["rows_are_outputs"], about["table"]
        hidden, head = (
            weights(f"{part}_weight").T if turned else weights(f"{part}_weight") for part in ("hidden", "head")
        )
        scale, zero = np.float32(table.get("scale", 1.0)), np.float32(table.get("zero_point", 0))
        self.padding, self.table = int(about["padding"]), _array(content, table)
        # The scale and zero point of the table are parts of the layer behind it.
        self.hidden, self.head = np.ascontiguousarray(hidden * scale), np.ascontiguousarray(head)
        self.hidden_bias = weights("hidden_bias") - zero * scale * hidden.sum(0)
        self.head_bias = weights("head_bias")
        self.empty: np.ndarray = np.tanh(weights("hidden_bias")) @ self.head + self.head_bias
        self._ones = np.ones(MOST_TOKENS, np.float32)

    def __call__(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """[texts, labels] float32 for `feed["input_ids"]` [texts, tokens]."""
        return self.many(feed["input_ids"].tolist())

    def one(self, ids: list[int]) -> np.ndarray:
        """[labels] float32 for the token ids of one text: the products of `many`, in half of its time."""
        if self.padding in ids:
            ids = [token for token in ids if token != self.padding]
        if not ids:
            return self.empty
        state = self._mean(np.array(ids)).dot(self.hidden)
        state += self.hidden_bias
        logits: np.ndarray = np.tanh(state, state).dot(self.head)
        logits += self.head_bias
        return logits

    def many(self, rows: Sequence[list[int]]) -> np.ndarray:
        """[texts, labels] float32 for the token ids of each text.

        All products are of one row, so the answer for a text is the same to the last bit whatever the others are.
        """
        if len(rows) == 1:
            return self.one(rows[0])[None]
        ids = np.array(list(chain.from_iterable(rows)), dtype=np.int64)
        counts = np.array([len(row) for row in rows])
        if self.padding in ids:
            kept = ids != self.padding
            ids, counts = ids[kept], np.bincount(np.repeat(np.arange(len(rows)), counts)[kept], minlength=len(rows))
        means, starts = np.zeros((len(rows), 1, len(self.hidden)), np.float32), np.cumsum(counts) - counts
        for count in np.unique(counts).tolist():
            alike = np.flatnonzero(counts == count)
            for first in range(0, len(alike), MOST_TOKENS):  # in parts, so that memory stays flat
                some = alike[first : first + MOST_TOKENS]
                means[some] = self._mean(ids[starts[some, None] + np.arange(count)])[:, None]
        logits = np.asarray(np.tanh(means @ self.hidden + self.hidden_bias) @ self.head + self.head_bias)[:, 0]
        logits[counts == 0] = self.empty
        return logits

    def _mean(self, ids: np.ndarray) -> np.ndarray:
        """[..., size] float32 means of the vectors of `ids` [..., tokens]."""
        count = ids.shape[-1]
        ones = self._ones[:count] if count <= MOST_TOKENS else np.ones(count, np.float32)
        # A product with ones is the fastest sum, and exact for int8.
        sums = ones @ self.table.take(ids, 0).astype(np.float32, copy=False)
        return np.asarray(sums * np.float32(1 / max(count, 1)))


def _array(content: np.ndarray, about: Mapping[str, Any]) -> np.ndarray:
    if "values" in about:
        return np.array(about["values"], dtype=about["dtype"])
    shape, kind = about["shape"], np.dtype(about["dtype"])
    size = int(np.prod(shape)) * kind.itemsize
    return np.asarray(content[about["offset"] : about["offset"] + size].copy().view(kind).reshape(shape))


def _dequantized(weight: np.ndarray, about: Mapping[str, Any]) -> np.ndarray:
    scale, zero = (np.asarray(about[name], dtype=np.float32) for name in ("scale", "zero_point"))
    return np.asarray((weight.astype(np.float32) - zero) * scale)
