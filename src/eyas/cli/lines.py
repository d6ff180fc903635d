"""The lines of `eyas predict`: read, answered and written in order, by one process or several."""

import json
import math
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from json.encoder import encode_basestring as _quoted
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eyas.cli.options import open_classifier
from eyas.errors import DataError, EyasError
from eyas.runtime.several_tasks import SeveralTasks

if TYPE_CHECKING:
    from eyas.runtime.predict import PredictMixin

# Bytes of a file whose answers are computed and written together. A stream is answered line by line.
BLOCK = 1 << 16
# Blocks that wait for each process, so that memory stays flat.
WAITING = 3
DIGITS = 6
# Some lines, decoded or not, with the number of the first.
Chunk = tuple[int, "list[str] | bytes"]
# One encoder: json.dumps makes another for each call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Answered(NamedTuple):
    """The output for a chunk, the error that ended it (empty for none), and how many texts were cut."""

    text: str
    error: str
    cut: int


class Answering:
    """A model that answers chunks of lines.

    Args:
        source: name of the lines in messages.
        all_scores: also the probability of every label.
    """

    def __init__(self, classifier: "PredictMixin", source: str, all_scores: bool) -> None:
        self.classifier, self.source, self.all_scores = classifier, source, all_scores

    def __call__(self, first: int, lines: list[str] | bytes) -> Answered:
        """The answers to lines that start with the `first` of the source, counted from 1."""
        from eyas.data.readers import lines_of, parse_input_line

        if isinstance(lines, bytes):
            lines = lines_of(first, lines)
        before = self.classifier.cut
        if first == 1 and lines and (lines[0].strip() == "[" or lines[0].lstrip().startswith("[{")):
            return Answered("", f"{self.source} is a JSON array. Write one object on each line.", 0)
        told: list[str] = []
        error = ""
        try:
            told = self._together(lines)
        except (DataError, RecursionError):  # found again below, with its line
            self.classifier.cut = before
        for number, line in enumerate(lines if not told else [], first):
            place = f"{self.source}:{number}"
            try:
                row = parse_input_line(line, place)
                told.append(_line(row, self._answer(row)))
            except RecursionError:
                error = f"{place}: the JSON is nested too deeply."
            except DataError as problem:
                error = str(problem) if str(problem).startswith(place) else f"{place}: {problem}"
            if error:
                break
        return Answered("".join(told), error, self.classifier.cut - before)

    def _together(self, lines: list[str]) -> list[str]:
        """The answers to single texts, in one call of the model; empty if there is anything else."""
        from eyas.data.readers import JSON_STARTS, parse_input_line
        from eyas.runtime.predictor import Predictor
        from eyas.text import clean_text

        other = self.all_scores or self.classifier.task.is_tagging or self.classifier.row_fields
        if other or not isinstance(self.classifier, Predictor):
            # in torch, an answer depends on the other texts in the sixth decimal
            return []
        if self.classifier.task.is_classification and not any(line.lstrip().startswith(JSON_STARTS) for line in lines):
            return self._plain(lines)
        rows = [parse_input_line(line, "") for line in lines]
        texts = [row.get("text") for row in rows if row.get("text_pair") is None]
        if len(texts) < len(rows) or not all(isinstance(text, str) for text in texts):
            return []
        answers = self.classifier.answers(self.classifier.logits(texts))
        return [
            _line(row, {"text": clean_text(text), **answer})
            for row, text, answer in zip(rows, texts, answers, strict=True)
        ]

    def _plain(self, texts: list[str]) -> list[str]:
        """The same for lines of plain text and one label each, written without a dict for each line."""
        task, least = self.classifier.task, self.classifier.abstain_below
        chances = task.probabilities(self.classifier.logits(texts))
        best = chances.argmax(1)
        sure = chances[np.arange(len(texts)), best].tolist()
        names = [_encode(name) for name in task.labels]
        told = []
        for text, label, score in zip(texts, best.tolist(), sure, strict=True):
            if score >= least:
                found = f'"label": {names[label]}, "score": {round(score, DIGITS)}'
            else:
                found = f'"label": null, "score": {round(score, DIGITS)}, "guess": {names[label]}'
            told.append(f'{{"text": {_quoted(text)}, {found}}}\n')
        return told

    def _answer(self, row: dict[str, Any]) -> dict[str, Any]:
        from eyas.text import clean_text

        if self.classifier.task.is_tagging:
            return _tagged(self.classifier, row)
        if self.classifier.row_fields:
            logits = self.classifier.logits([row])
            return self._scored(self.classifier.answers(logits)[0], logits)
        if not isinstance(row.get("text"), str):
            raise DataError("expected a text, or a JSON object with one under 'text'.")
        pairs = None if row.get("text_pair") is None else [row["text_pair"]]
        logits = self.classifier.logits([row["text"]], pairs)
        return self._scored({"text": clean_text(row["text"]), **self.classifier.answers(logits)[0]}, logits)

    def _scored(self, found: dict[str, Any], logits: np.ndarray) -> dict[str, Any]:
        if self.all_scores:
            chances = self.classifier.task.probabilities(logits)[0]
            found["scores"] = dict(zip(self.classifier.label_names, map(float, chances), strict=True))
        return found


def predict_lines(
    model: str,
    classifier: "PredictMixin",
    chunks: Iterable[Chunk],
    source: str,
    all_scores: bool = False,
    workers: int = 1,
) -> None:
    """Write an answer to each line to standard output, in order.

    Args:
        model: the folder of `classifier`, for further processes.
        chunks: answered one by one; with several `workers`, some are read ahead.
        workers: processes.

    Raises:
        DataError: a line cannot be answered; those before it were.
    """
    answering = Answering(classifier, source, all_scores)
    if workers == 1:
        answers: Iterator[Answered] = (answering(*chunk) for chunk in chunks)
    else:
        answers = _parallel(iter(chunks), workers, (model, classifier.abstain_below, source, all_scores))
    for answered in answers:
        sys.stdout.write(answered.text)
        sys.stdout.flush()
        if workers > 1:
            classifier.cut += answered.cut
        if answered.error:
            raise DataError(answered.error)
    classifier.report_cut()


def write_lines(model: Any, lines: Iterable[tuple[int, str]], source: str) -> None:
    """Write to standard output what a model of several tasks, or one that writes, answers to each numbered line.

    Raises:
        DataError: a line cannot be answered; those before it were.
    """
    from eyas.data.readers import parse_input_line
    from eyas.runtime.predictor import Predictor

    for number, line in lines:
        row = parse_input_line(line, f"{source}:{number}")
        if not isinstance(row.get("text"), str):
            raise DataError(f"{source}:{number}: expected a text, or a JSON object with one under 'text'.")
        text, pair = row["text"], row.get("text_pair")
        try:
            (answer,) = model([text if pair is None else (text, pair)])
        except DataError as error:
            raise DataError(f"{source}:{number}: {error}") from None
        sys.stdout.write(_line(row, {"text": text, **answer}))
        sys.stdout.flush()
    if isinstance(model, SeveralTasks):
        for name, task in model.tasks.items():
            task.report_cut(who=f"model of {name}")
    elif isinstance(model, Predictor):
        model.report_cut()


def _parallel(chunks: Iterator[Chunk], workers: int, settings: tuple[str, float, str, bool]) -> Iterator[Answered]:
    """The answers to the chunks, in order, by processes with one thread each."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _open, settings)
    waiting: deque[Any] = deque()
    broken: Exception | None = None
    try:
        while (chunk := _next(chunks)) is not None:
            if isinstance(chunk, Exception):
                broken = chunk
                break
            waiting.append(pool.submit(_work, *chunk))
            if len(waiting) >= workers * WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if broken is not None:
            raise broken
    except BrokenProcessPool:
        raise EyasError(
            "A process of --workers was killed; perhaps the machine ran out of memory. Answers up to here are written: "
            "use fewer workers."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _next(chunks: Iterator[Chunk]) -> Chunk | Exception | None:
    """The next chunk, the error that there is instead, or None at the end."""
    try:
        return next(chunks, None)
    except Exception as error:
        return error


_answering: Answering | str = ""  # in a worker: the model, or why there is none


def _open(model: str, abstain_below: float, source: str, all_scores: bool) -> None:
    global _answering
    try:
        classifier = open_classifier(model)
        classifier.abstain(abstain_below)
        _answering = Answering(classifier, source, all_scores)
    except EyasError as error:  # an error here would break the pool, and say nothing
        _answering = str(error)


def _work(first: int, lines: list[str] | bytes) -> Answered:
    return Answered("", _answering, 0) if isinstance(_answering, str) else _answering(first, lines)


def _tagged(classifier: Any, row: dict[str, Any]) -> dict[str, Any]:
    """Tags of a text, or of `tokens`. A `question` is read too, but gets no tags."""
    from eyas.runtime.answers import answer_words
    from eyas.text import clean_text, split_words, with_question

    if row.get("tokens") is None and not isinstance(row.get("text"), str):
        raise DataError("expected a text, or a JSON object with tokens or a text.")
    if row.get("tokens") is None and row.get("question") is None:
        found: dict[str, Any] = classifier.tag(row["text"])
        return found
    if row.get("tokens") is not None:
        words = split_words(row["tokens"], "tokens")
        places = [(index, index + 1) for index in range(len(words))]
    else:
        text = clean_text(row["text"])
        places = classifier.words.split(text)
        words = [text[start:end] for start, end in places]
    if row.get("question") is None:
        return dict(classifier.tag(words))
    question = split_words(row["question"], "question")
    logits = classifier.logits([with_question(question, words)])[len(question) + 1 :]
    return answer_words(classifier.task, logits, words, places)


def _line(row: dict[str, Any], answer: dict[str, Any]) -> str:
    """A row with its answer, whose numbers have six decimals."""
    own = {} if row.keys() <= answer.keys() else _in_json(row)
    return f"{_encode({**own, **_in_json(answer, DIGITS)})}\n"


def _in_json(value: Any, digits: int | None = None) -> Any:
    """Floats with so many decimals; those that are not finite, which JSON lacks, as null."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else round(value, digits)
    if isinstance(value, dict):
        return {name: _in_json(item, digits) for name, item in value.items()}
    return [_in_json(item, digits) for item in value] if isinstance(value, list | tuple) else value
