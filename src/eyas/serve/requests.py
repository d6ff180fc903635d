"""Request types: the formats of Hugging Face's inference and of the Open Inference Protocol v2.

The types validate requests and generate the OpenAPI document, where placeholders such as `$name` become the models and
limits of this server. The docstring of a type ends the error message for an invalid request.
"""

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from eyas.errors import DataError
from eyas.kinds import GENERATION
from eyas.serve.limits import Limits, RequestError, Text
from eyas.serve.models import Model

T = TypeVar("T")
String = Annotated[str, Meta(extra_json_schema={"maxLength": "$characters"})]
SEVERAL = Meta(extra_json_schema={"maxItems": "$texts"})


class TextParameters(Struct, forbid_unknown_fields=True):
    """For classifiers, as in Hugging Face's inference: the number of labels per text, and where scores come from."""

    top_k: Annotated[int, Meta(ge=1)] | None = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class WordParameters(Struct, forbid_unknown_fields=True):
    """For taggers, as in Hugging Face's inference. Tags are per word, so all strategies but `none` are the same, and
    `stride` has no effect: windows overlap by a quarter."""

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = None
    ignore_labels: list[str] | None = None
    stride: Annotated[int, Meta(ge=0)] | None = None


class Predict(Struct, forbid_unknown_fields=True, kw_only=True):
    """Expected `inputs`, and optionally `parameters`, `model` and `version`."""

    inputs: Any
    parameters: Any = None
    model: Annotated[str, Meta(extra_json_schema={"enum": "$name"})] | None = None
    version: Annotated[str, Meta(extra_json_schema={"enum": "$version"})] | None = None


class OneText(Struct, forbid_unknown_fields=True):
    text: String


class OnePair(Struct, forbid_unknown_fields=True):
    text: String
    text_pair: String


Words = Annotated[list[String], Meta(extra_json_schema={"maxItems": "$words"})]
OneSentence = Annotated[
    dict[Literal["text", "tokens"], String | Words],
    Meta(min_length=1, max_length=1, extra_json_schema={"propertyNames": {"enum": ["text", "tokens"]}}),
]


class PredictTexts(Predict, kw_only=True):
    """`inputs` is a text, {"text": ...}, or a list of them."""

    inputs: String | OneText | Annotated[list[String | OneText], SEVERAL]
    parameters: TextParameters | None = None


class PredictSources(Predict, kw_only=True):
    """This model writes: `inputs` is a text, {"text": ...}, or a list of them, without `parameters`."""

    inputs: String | OneText | Annotated[list[String | OneText], SEVERAL]
    parameters: None = None


class PredictPairs(Predict, kw_only=True):
    """This model compares two texts: `inputs` is {"text": ..., "text_pair": ...}, or a list of them."""

    inputs: OnePair | Annotated[list[OnePair | tuple[String, String]], SEVERAL]
    parameters: TextParameters | None = None


class PredictSentences(Predict, kw_only=True):
    """`inputs` is a text, {"text": ...}, {"tokens": [...]}, or a list of them."""

    inputs: String | OneSentence | Annotated[list[String | OneSentence | Words], SEVERAL]
    parameters: WordParameters | None = None


# Columns that are no fields of the model may hold anything.
Row = dict[str, Any]


class PredictRows(Predict, kw_only=True):
    """`inputs` is a row, {field: value} with all fields of the model, or a list of them."""

    inputs: Row | String | Annotated[list[Row | String], SEVERAL]
    parameters: None = None


class InputTensor(Struct):
    name: Annotated[str, Meta(extra_json_schema={"enum": ["text", "text_pair"]})]
    shape: list[int]
    datatype: Literal["BYTES"]
    data: Annotated[list[String], SEVERAL]


class Infer(Struct):
    """`inputs` is a list of tensors: name text or text_pair, datatype BYTES, data a list of strings, shape [texts]."""

    inputs: Annotated[list[InputTensor], Meta(min_length=1)]
    id: Annotated[str, Meta(max_length=200)] | None = None


@dataclass(frozen=True)
class Question:
    """Texts to answer.

    Args:
        texts: each a string, a pair, or a list of words.
        single: whether one text was sent, not a list.
        of_texts: for classifiers.
        of_words: for taggers.
    """

    texts: list[Text]
    single: bool = False
    of_texts: TextParameters = field(default_factory=TextParameters)
    of_words: WordParameters = field(default_factory=WordParameters)


def parse_json(body: bytes) -> Any:
    """Parse a body; raises RequestError if it is not valid JSON."""
    try:
        return json.loads(body, parse_float=_number)
    except (ValueError, RecursionError):  # also for invalid UTF-8, and numbers of thousands of digits
        raise RequestError(HTTPStatus.BAD_REQUEST, "The body is not valid JSON in UTF-8.") from None


def _number(text: str) -> int | float:
    """An int if the number is integral, because JSON has a single type of number."""
    number = float(text)
    return int(number) if number.is_integer() else number


def read(content: Any, kind: type[T]) -> T:
    """`content` as a `kind`; raises RequestError with the fault, its place and what was expected."""
    try:
        return msgspec.convert(content, kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter: a lone surrogate in a field's name
        raise _bad(f"{str(error)[:200]}. {kind.__doc__}") from None


def predict_type(model: Model) -> type[Predict]:
    """The request type of POST /predict for `model`."""
    manifest = model.predictor.manifest
    if manifest.pair:
        return PredictPairs
    if manifest.task == GENERATION:
        return PredictSources
    if manifest.fields:
        return PredictRows
    return PredictSentences if manifest.task == "tagging" else PredictTexts


def read_question(content: Any, model: Model, limits: Limits) -> Question:
    """The texts of POST /predict. A flat list of strings is a batch, never a pair."""
    asked = read(content, predict_type(model))
    single = not isinstance(asked.inputs, list)
    rows = [asked.inputs] if single else asked.inputs
    texts = _written(rows, model) if isinstance(asked, PredictRows) else [_text(row) for row in rows]
    limits.check(texts)
    if isinstance(asked, PredictRows | PredictSources):
        return Question(texts, single)
    if isinstance(asked, PredictSentences):
        return Question(texts, single, of_words=asked.parameters or WordParameters())
    return Question(texts, single, of_texts=asked.parameters or TextParameters())


def _written(rows: Any, model: Model) -> Any:
    """Rows of fields as texts, if the model reads such."""
    try:
        return model.predictor.written(rows)
    except DataError as error:
        raise _bad(str(error)) from None


def _text(row: Any) -> Any:
    if isinstance(row, OneText):
        return row.text
    if isinstance(row, OnePair):
        return row.text, row.text_pair
    return next(iter(row.values())) if isinstance(row, dict) else row


def read_tensors(asked: Infer, model: Model, limits: Limits) -> Question:
    """The texts of a request in the Open Inference Protocol: tensors `text` and, for pairs, `text_pair`."""
    names = tensor_names(model)
    if sorted(tensor.name for tensor in asked.inputs) != names:
        raise _bad(f"Expected the tensors {', '.join(names)}, each once.")
    count = len(asked.inputs[0].data)
    for tensor in asked.inputs:
        if len(tensor.data) != count or tensor.shape not in ([count], [count, 1]):
            raise _bad(f"Tensor {tensor.name}: expected {count} texts and the shape [{count}].")
    columns = [tensor.data for tensor in sorted(asked.inputs, key=lambda tensor: tensor.name)]
    texts: list[Any] = list(zip(*columns, strict=True)) if len(columns) == 2 else columns[0]
    texts = _written(texts, model)
    limits.check(texts)
    return Question(texts)


def tensor_names(model: Model) -> list[str]:
    """The names of the input tensors."""
    return ["text", "text_pair"] if model.predictor.manifest.pair else ["text"]


def _bad(message: str) -> RequestError:
    return RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, message)
