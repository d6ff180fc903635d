"""Response types: the formats of Hugging Face's inference and of the Open Inference Protocol v2.

They generate the OpenAPI document.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np

from eyas.runtime.answers import answer
from eyas.serve.limits import Text
from eyas.serve.models import Model
from eyas.serve.requests import Question, tensor_names

# Whether to stop, because the client no longer waits.
Stop = Callable[[], bool]


class Label(TypedDict):
    """Answer of a classifier."""

    label: str
    score: float


class Aspect(Label):
    """Answer of a classifier for several aspects."""

    aspect: str


class Span(TypedDict):
    """Answer of a tagger; start and end count characters, or words of `tokens`."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


class Score(TypedDict):
    """Answer of a regression model."""

    score: float


class Vector(TypedDict):
    """Answer of a sentence encoder."""

    vector: list[float]


class TensorType(TypedDict):
    name: str
    datatype: str
    shape: list[int]


class Tensor(TensorType):
    data: Sequence[str | float]


class Outputs(TypedDict):
    """Response of the Open Inference Protocol."""

    model_name: str
    model_version: str
    id: NotRequired[str]
    outputs: list[Tensor]


class Metadata(TypedDict):
    """Metadata of a model in the Open Inference Protocol."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorType]
    outputs: list[TensorType]


class Error(TypedDict):
    error: str


# Responses of POST /predict: for one text, and for a list.
ANSWERS = (
    *(list[Label], list[Aspect], list[Span], Score, Vector),
    *(list[list[Label]], list[list[Aspect]], list[list[Span]], list[Score], list[Vector]),
)


def size_of(text: Text) -> int:
    """The cost of a text, in characters; each text and each word adds a constant."""
    return 50 + (len(text) if isinstance(text, str) else sum(10 + len(part) for part in text))


def answers(model: Model, question: Question, stop: Stop) -> Any:
    """A list of answers per text, the likeliest first; a single text has no outer list."""
    found = [_answer(model, text, question.top_k) for text in _until(stop, question.texts)]
    return found[0] if question.single else found


def _until(stop: Stop, texts: list[Text]) -> Iterator[Text]:
    """The texts; raises TimeoutError once `stop` returns True."""
    for text in texts:
        if stop():
            raise TimeoutError
        yield text


def _answer(model: Model, text: Text, top_k: int | None) -> Any:
    predictor = model.predictor
    task = predictor.task
    if task.is_tagging:
        return predictor.tag(text)["spans"]
    logits = _logits(model, text)
    if not task.decides:
        return answer(task, logits)
    chances = task.probabilities(logits[None])[0]
    if task.kind == "aspects":
        each = answer(task, logits)["aspects"]
        return [{"aspect": aspect, **value} for aspect, value in each.items()]
    order = np.argsort(-chances, kind="stable")[:top_k]
    return [{"label": task.labels[column], "score": float(chances[column])} for column in order]


def _logits(model: Model, text: Any) -> np.ndarray:
    pair = model.predictor.manifest.pair
    logits = model.predictor.logits([text[0]], [text[1]]) if pair else model.predictor.logits([text])
    return np.asarray(logits[0])


def tensors(model: Model, question: Question, stop: Stop) -> list[Tensor]:
    """Output tensors: label, score and probabilities; score; vector; or JSON in `answer` for structured answers."""
    task, count = model.predictor.task, len(question.texts)
    if task.kind in ("tagging", "aspects", "multi-label"):
        texts = _until(stop, question.texts)
        data = [json.dumps(_answer(model, text, None), ensure_ascii=False) for text in texts]
        return [_tensor("answer", "BYTES", [count], data)]
    size = len(task.labels)
    rows = [_logits(model, text) for text in _until(stop, question.texts)]
    logits = np.array(rows, np.float32).reshape(count, size)
    if task.kind == "regression":
        return [_tensor("score", "FP32", [count], logits[:, 0].tolist())]
    if task.kind == "vectors":
        return [_tensor("vector", "FP32", [count, size], logits.ravel().tolist())]
    chances = task.probabilities(logits)
    best = chances.argmax(1) if count else np.empty(0, np.int64)
    return [
        _tensor("label", "BYTES", [count], [task.labels[column] for column in best]),
        _tensor("score", "FP32", [count], chances.max(1).tolist() if count else []),
        _tensor("probabilities", "FP32", [count, size], chances.ravel().tolist()),
    ]


def _tensor(name: str, datatype: str, shape: list[int], data: Sequence[str | float]) -> Tensor:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def metadata(model: Model, versions: list[str]) -> Metadata:
    """Names, types and shapes of the tensors; -1 stands for the number of texts."""
    outputs: list[TensorType] = [
        {"name": tensor["name"], "datatype": tensor["datatype"], "shape": [-1, *tensor["shape"][1:]]}
        for tensor in tensors(model, Question([]), lambda: False)
    ]
    return {
        "name": model.name,
        "versions": versions,
        "platform": "eyas_onnx",
        "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in tensor_names(model)],
        "outputs": outputs,
    }
