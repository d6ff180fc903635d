"""What clients send and get: the shapes of Hugging Face's inference and of the Open Inference Protocol v2."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np

from eyas.runtime.answers import answer
from eyas.serve.models import Model

Text = str | tuple[str, str] | list[str]
# Whether to stop: nobody waits any more.
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Limits:
    """What a request may hold, and how long it may take.

    Args:
        body_bytes: of a request's body.
        texts: in one request.
        characters: of one text.
        words: of one sentence that comes in words.
        waiting: requests at once, in one worker; others are turned away.
        read_seconds: for a request to arrive whole.
        answer_seconds: for its answer.
    """

    body_bytes: int = 1_000_000
    texts: int = 256
    characters: int = 100_000
    words: int = 20_000
    waiting: int = 64
    read_seconds: float = 10.0
    answer_seconds: float = 10.0


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        message: for the client; holds nothing of its text.
    """

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


def bad(message: str) -> RequestError:
    """The request is JSON, but not what was asked for."""
    return RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, message)


def parse_json(body: bytes) -> dict[str, Any]:
    """Raises RequestError for what is no JSON object."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):  # also bytes that are no UTF-8, numbers of thousands of digits
        raise RequestError(HTTPStatus.BAD_REQUEST, "The body is not valid JSON in UTF-8.") from None
    if not isinstance(content, dict):
        raise bad(f"Expected a JSON object, got {_kind(content)}.")
    return content


# --- Hugging Face's shape -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A request, checked.

    Args:
        texts: strings, pairs, or lists of words, as the model reads them.
        single: whether one text was sent and not a list of them.
        top_k: answers for a text, at most; None = all.
    """

    texts: list[Text]
    single: bool = False
    top_k: int | None = None


def read_question(content: dict[str, Any], model: Model, limits: Limits) -> Question:
    """`{"inputs": ..., "parameters": {"top_k": ...}}`.

    `inputs` is a text, `{"text": ..., "text_pair": ...}`, `{"tokens": [...]}` for a tagger, or a list of them. A flat
    list of strings is a batch, never a pair.
    """
    if "inputs" not in content:
        raise bad("'inputs' is missing: a text, or a list of texts.")
    unknown = sorted(content.keys() - {"inputs", "parameters", "model", "version"})
    if unknown:
        raise bad(f"Unknown field {unknown[0][:40]!r}; expected inputs, parameters, model, version.")
    parameters = content.get("parameters")
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict) or parameters.keys() - {"top_k"}:
        raise bad("'parameters' is an object with top_k.")
    top_k = parameters.get("top_k")
    if isinstance(top_k, float) and top_k.is_integer():
        top_k = int(top_k)  # JSON knows one kind of number
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
        raise bad("'top_k' is a whole number, 1 or more.")
    inputs = content["inputs"]
    single = not isinstance(inputs, list)
    rows = [inputs] if single else inputs
    check_count(len(rows), limits)
    texts = [read_text(row, "inputs" if single else f"inputs[{i}]", model, limits) for i, row in enumerate(rows)]
    return Question(texts, single, top_k)


def read_text(row: Any, where: str, model: Model, limits: Limits) -> Text:
    """One text, pair or list of words; raises RequestError naming `where`."""
    manifest = model.predictor.manifest
    tagging = manifest.task == "tagging"
    if manifest.pair:
        if isinstance(row, dict) and row.keys() == {"text", "text_pair"}:
            row = [row["text"], row["text_pair"]]
        if not isinstance(row, list) or len(row) != 2:
            raise bad(f'{where} is {_kind(row)}; this model compares two texts: {{"text": ..., "text_pair": ...}}.')
        return (_string(row[0], f"{where}, text", limits), _string(row[1], f"{where}, text_pair", limits))
    if isinstance(row, dict) and row.keys() == {"text"}:
        row = row["text"]
    if tagging and isinstance(row, dict) and row.keys() == {"tokens"}:
        row = row["tokens"]
    if tagging and isinstance(row, list):
        if len(row) > limits.words:
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{where} has more than {limits.words:,} words.")
        words = [_string(word, f"{where}, word {index}", limits) for index, word in enumerate(row)]
        if sum(map(len, words)) > limits.characters:
            message = f"{where} has more than {limits.characters:,} characters."
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        return words
    return _string(row, where, limits)


def check_count(count: int, limits: Limits) -> None:
    if count > limits.texts:
        raise RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{count:,} texts in one request, at most {limits.texts:,} are taken."
        )


def size_of(text: Text) -> int:
    """How much work a text is, in characters: a word or a text is some by itself."""
    return 50 + (len(text) if isinstance(text, str) else sum(10 + len(part) for part in text))


def answers(model: Model, question: Question, stop: Stop) -> Any:
    """For each text its answers, the likeliest first; for one text alone, its answers."""
    found = [_answers(model, text, question.top_k) for text in _until(stop, question.texts)]
    return found[0] if question.single else found


def _until(stop: Stop, texts: list[Text]) -> Iterator[Text]:
    """The texts, until nobody waits for their answers any more."""
    for text in texts:
        if stop():
            raise TimeoutError
        yield text


def _answers(model: Model, text: Text, top_k: int | None) -> Any:
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


# --- Open Inference Protocol v2 -----------------------------------------------------------------------------


def read_tensors(content: dict[str, Any], model: Model, limits: Limits) -> Question:
    """`inputs`: tensors `text` and, for pairs, `text_pair`, datatype BYTES, one string a text."""
    tensors = content.get("inputs")
    if not isinstance(tensors, list) or not tensors:
        raise bad("'inputs' is a list of tensors.")
    columns: dict[str, list[Any]] = {}
    expected = ["text", "text_pair"] if model.predictor.manifest.pair else ["text"]
    for tensor in tensors:
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise bad("A tensor is an object with name, shape, datatype, data.")
        name, data, shape = tensor["name"], tensor.get("data"), tensor.get("shape")
        if name not in expected or name in columns:
            raise bad(f"Expected the tensors {', '.join(expected)}, each once.")
        if tensor.get("datatype") != "BYTES" or not isinstance(data, list):
            raise bad(f"Tensor {name}: datatype is BYTES, data a list of strings.")
        check_count(len(data), limits)
        if shape not in ([len(data)], [len(data), 1]) or any(isinstance(size, bool) for size in shape):
            raise bad(f"Tensor {name}: the shape of its data is [{len(data)}].")
        columns[name] = [_string(text, f"{name}[{index}]", limits) for index, text in enumerate(data)]
    if set(columns) != set(expected) or len({len(column) for column in columns.values()}) != 1:
        raise bad(f"Expected the tensors {', '.join(expected)}, with as many texts each.")
    pair = len(expected) == 2
    return Question(list(zip(*(columns[name] for name in expected), strict=True)) if pair else columns["text"])


def tensors(model: Model, question: Question, stop: Stop) -> list[dict[str, Any]]:
    """Output tensors: label, score and probabilities; score; vector; or, where an answer is more, JSON in `answer`."""
    task, count = model.predictor.task, len(question.texts)
    if task.kind in ("tagging", "aspects", "multi-label"):
        texts = _until(stop, question.texts)
        data = [json.dumps(_answers(model, text, None), ensure_ascii=False) for text in texts]
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


def tensors_of(model: Model) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Metadata of input and output tensors."""
    task, size = model.predictor.task, len(model.predictor.label_names)
    names = ["text", "text_pair"] if model.predictor.manifest.pair else ["text"]
    inputs = [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in names]
    outputs: dict[str, tuple[str, list[int]]] = {
        "label": ("BYTES", [-1]),
        "score": ("FP32", [-1]),
        "probabilities": ("FP32", [-1, size]),
    }
    if task.kind in ("tagging", "aspects", "multi-label"):
        outputs = {"answer": ("BYTES", [-1])}
    elif task.kind == "regression":
        outputs = {"score": ("FP32", [-1])}
    elif task.kind == "vectors":
        outputs = {"vector": ("FP32", [-1, size])}
    described = [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in outputs.items()]
    return inputs, described


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _string(value: Any, where: str, limits: Limits) -> str:
    if not isinstance(value, str):
        raise bad(f"{where} is {_kind(value)}, expected a string.")
    if len(value) > limits.characters:
        raise RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{where} has more than {limits.characters:,} characters."
        )
    return value


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
