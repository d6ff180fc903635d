"""Response types: the formats of Hugging Face's inference and of the Open Inference Protocol v2.

They generate the OpenAPI document.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from eyas.runtime.answers import Answer, answer, answer_words, grouped
from eyas.runtime.generation import GenerationPredictor
from eyas.serve.limits import Text
from eyas.serve.models import Model
from eyas.serve.requests import Question, WordParameters, tensor_names
from eyas.tasks import sigmoid, softmax

# Whether to stop, because the client no longer waits.
Stop = Callable[[], bool]


class Label(TypedDict):
    """Answer of a classifier."""

    label: str
    score: float


class Aspect(Label):
    """Answer of a classifier for several aspects."""

    aspect: str


class Word(TypedDict):
    """Answer of a tagger with the aggregation strategy `none`: one word."""

    entity: str
    score: float
    word: str
    start: int
    end: int


class Span(TypedDict):
    """Answer of a tagger; start and end count characters, or words of `tokens`."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


class Score(TypedDict):
    """Answer of a regression model, or the probability of 1 for a row of fields."""

    score: float


class Vector(TypedDict):
    """Answer of a sentence encoder."""

    vector: list[float]


class Written(TypedDict):
    """Answer of a model that writes."""

    generated_text: str


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


# Responses of POST /predict: for one text, and for a list. Labels come in a list per text, even for one text.
ANSWERS = (
    *(list[Aspect], list[Span], list[Word], Score, Vector),
    *(list[list[Label]], list[list[Aspect]], list[list[Span]], list[list[Word]], list[Score], list[Vector]),
    list[Written],
)


def size_of(text: Text) -> int:
    """The cost of a text, in characters; each text and each word adds a constant."""
    return 50 + (len(text) if isinstance(text, str) else sum(10 + len(part) for part in text))


def answers(model: Model, question: Question, stop: Stop) -> Any:
    """An answer per text. A single text has no outer list, except for labels and what is written, as in Hugging Face's
    inference."""
    if isinstance(model.predictor, GenerationPredictor):
        return [answer for text in _until(stop, question.texts) for answer in model.predictor([cast(str, text)])]
    found = [_answer(model, text, question) for text in _until(stop, question.texts)]
    flat = question.single and model.predictor.task.kind not in ("classification", "multi-label")
    return found[0] if flat else found


def _until(stop: Stop, texts: list[Text]) -> Iterator[Text]:
    """The texts; raises TimeoutError once `stop` returns True."""
    for text in texts:
        if stop():
            raise TimeoutError
        yield text


def _answer(model: Model, text: Text, question: Question) -> Any:
    predictor = model.predictor
    task = predictor.task
    if task.is_tagging:
        return _tagged(model, text, question.of_words)
    logits = _logits(model, text)
    if not task.decides or task.reads_fields:
        return answer(task, logits)
    chances = task.probabilities(logits[None])[0]
    if task.kind == "aspects":
        each = answer(task, logits)["aspects"]
        return [{"aspect": aspect, **value} for aspect, value in each.items()]
    chances = _SCORES[question.of_texts.function_to_apply](logits, chances)
    order = np.argsort(-chances, kind="stable")[: question.of_texts.top_k]
    return [{"label": task.labels[column], "score": float(chances[column])} for column in order]


# function_to_apply -> (logits, the task's probabilities) -> scores.
_SCORES: dict[str | None, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    None: lambda logits, chances: chances,
    "none": lambda logits, chances: logits,
    "softmax": lambda logits, chances: softmax(logits),
    "sigmoid": lambda logits, chances: sigmoid(logits),
}


def _tagged(model: Model, text: Text, parameters: WordParameters) -> list[Answer]:
    """Spans, or the words with a tag."""
    words, places = model.predictor.split(text)
    found = answer_words(model.predictor.task, model.predictor.logits([words]), words, places)
    tags, scores = found["tags"], found["scores"]
    if parameters.aggregation_strategy == "none":
        entries = zip(tags, scores, words, places, strict=True)
        each: list[Answer] = [
            {"entity": tag, "score": score, "word": word, "start": start, "end": end}
            for tag, score, word, (start, end) in entries
        ]
    else:  # words without a tag are groups as well, and ignored by default
        each = grouped(["I-O" if tag == "O" else tag for tag in tags], scores, words, places)
    ignored = ["O"] if parameters.ignore_labels is None else parameters.ignore_labels
    return [entry for entry in each if entry.get("entity", entry.get("entity_group")) not in ignored]


def _logits(model: Model, text: Any) -> np.ndarray:
    pair = model.predictor.manifest.pair
    logits = model.predictor.logits([text[0]], [text[1]]) if pair else model.predictor.logits([text])
    return np.asarray(logits[0])


def tensors(model: Model, question: Question, stop: Stop) -> list[Tensor]:
    """Output tensors: label, score and probabilities; score; vector; generated_text; or JSON in `answer`, for
    structured answers."""
    count = len(question.texts)
    if isinstance(model.predictor, GenerationPredictor):
        written = [text for each in _until(stop, question.texts) for text in model.predictor.predict([cast(str, each)])]
        return [_tensor("generated_text", "BYTES", [count], written)]
    task = model.predictor.task
    if task.kind in ("tagging", "aspects", "multi-label"):
        texts = _until(stop, question.texts)
        data = [json.dumps(_answer(model, text, question), ensure_ascii=False) for text in texts]
        return [_tensor("answer", "BYTES", [count], data)]
    size = len(task.labels)
    rows = [_logits(model, text) for text in _until(stop, question.texts)]
    logits = np.array(rows, np.float32).reshape(count, size)
    if task.kind == "regression":
        return [_tensor("score", "FP32", [count], logits[:, 0].tolist())]
    if task.kind == "vectors":
        return [_tensor("vector", "FP32", [count, size], logits.ravel().tolist())]
    chances = task.probabilities(logits)
    if task.reads_fields:
        return [_tensor("score", "FP32", [count], chances[:, 1].tolist())]
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
