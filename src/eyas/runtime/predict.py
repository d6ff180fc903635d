"""Prediction methods shared by torch models and exported models."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from eyas.errors import DataError
from eyas.runtime.alignment import WordEncoder
from eyas.runtime.answers import PREDICTIONS, Answer, abstained, answer_words, answers
from eyas.tasks import Task
from eyas.text import clean_text, write_fields

logger = logging.getLogger("eyas")

Text = str | tuple[str, str] | list[str] | Mapping[str, Any]


class PredictMixin(ABC):
    """Makes a model callable, with `predict` and `predict_proba` as in scikit-learn.

    The model has a `task`, `logits(texts, pairs)`, `words` for tagging, and `pair`: whether it reads pairs. If `pair`
    is None, the first text decides.
    """

    task: Task
    label_names: list[str]
    data_labels: list[str]
    pair: bool | None
    # The maximum number of tokens per text, and how many of the texts so far had more. Taggers read all of a text.
    max_length: int
    cut: int = 0
    # The names of the fields, if it reads rows of fields.
    row_fields: Sequence[str] = ()
    # The confidence below which there is no answer; see `abstain`.
    abstain_below: float = 0.0

    @abstractmethod
    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Logits [texts, labels] float32; for taggers, of lists of words, [words, tags]."""

    @property
    @abstractmethod
    def words(self) -> WordEncoder:
        """Splits texts into words, and words into subwords."""

    def abstain(self, below: float) -> Self:
        """Give no label whose probability is lower than `below`: it becomes None, and `guess` holds it.

        Raises:
            DataError: it is not from 0 to 1, or the model does not give one label per text or aspect.
        """
        if not 0 <= below < 1:
            raise DataError(f"abstain_below (--abstain-below) is {below:g}, expected from 0 up to 1, such as 0.8.")
        if below and not self.task.can_abstain:
            raise DataError(
                f"This model does {self.task.describe()}. Only models that give one label per text or aspect abstain: "
                "leave abstain_below (--abstain-below) out."
            )
        self.abstain_below = below
        return self

    def answers(self, logits: np.ndarray) -> list[Answer]:
        """The answers for logits [texts, outputs] of whole texts."""
        found = answers(self.task, logits)
        return [abstained(one, self.abstain_below) for one in found] if self.abstain_below else found

    def __call__(self, texts: Iterable[Text]) -> list[Answer]:
        """Predict a list of texts.

        Args:
            texts: strings; for a model of pairs, pairs of strings; for a tagger, strings or lists of words; for a model
                of fields, rows {field: value}. A flat list is a batch, never a pair.

        Returns:
            One answer per text, as in `eyas.runtime.answers`. For classification {"label": str, "score": float}, where
            the score is a probability; a model that abstains gives {"label": None, "score": float, "guess": str} where
            it is not sure. A tagger's offsets count characters of a string, or words of a list.

        Raises:
            DataError: an input is not text; the message has its index.
        """
        if self.task.is_tagging:
            return [self.tag(text) for text in as_list(texts)]
        return self.answers(self._logits(texts))

    def predict(self, texts: Iterable[Text]) -> Any:
        """Predictions without scores.

        Args:
            texts: as for a call.

        Returns:
            classification: [texts] array of labels; regression: [texts] array of numbers; fields: [rows] array of the
            probabilities of 1; vectors: [texts, size] array; multi-label, tagging: for each text a list of labels or
            tags; aspects: for each text {aspect: label}.
        """
        return PREDICTIONS[self.task.kind](self(texts))

    def predict_proba(self, texts: Iterable[Text]) -> np.ndarray:
        """[texts, labels] float32 probabilities, columns as in `label_names`.

        They sum to 1 over all labels in classification, and over the labels of each aspect.

        Args:
            texts: as for a call.

        Raises:
            DataError: the model is a tagger, or predicts numbers.
        """
        if self.task.is_tagging:
            raise DataError(
                "predict_proba is for whole texts, but this model tags words. Call the model for the words' scores."
            )
        if not self.task.decides:
            raise DataError(f"This model does {self.task.describe()}: it has no probabilities. Use predict.")
        return self.task.probabilities(self._logits(texts))

    def written(self, texts: Sequence[Any]) -> Sequence[Any]:
        """Rows of fields as the texts that the tokenizer reads; other inputs as they are."""
        if not self.row_fields:
            return texts
        return [write_fields(row, self.row_fields, f"Row {index}") for index, row in enumerate(texts)]

    def report_cut(self, since: int = 0, who: str = "model") -> None:
        """Warn if texts were cut.

        Args:
            since: `cut` before them.
            who: how the message calls the model.
        """
        if self.cut > since:
            logger.warning(
                "%s texts have more tokens than the %s that the %s reads: the rest of them is not read.",
                f"{self.cut - since:,}", f"{self.max_length:,}", who,
            )  # fmt: skip

    def tag(self, text: str | Sequence[str]) -> Answer:
        """Tags and spans of one sentence.

        Args:
            text: a string (offsets count characters) or a list of words (offsets count words).

        Raises:
            DataError: the model is not a tagger.
        """
        if not self.task.is_tagging:
            raise DataError(f"This model does {self.task.describe()}, not tagging.")
        words, places = self.split(text)
        return answer_words(self.task, self.logits([words]), words, places)

    def split(self, text: str | Sequence[str]) -> tuple[list[str], list[tuple[int, int]]]:
        """The words that a tagger reads, and the start and end of each: in characters, or in words of a list."""
        if isinstance(text, str):
            text = clean_text(text)
            places = self.words.split(text)
            return [text[start:end] for start, end in places], places
        if isinstance(text, bytes | Mapping) or not isinstance(text, Iterable):
            raise DataError(f"Expected a sentence or a list of its words, got {text!r:.60}.")
        words = [clean_text(word, index) for index, word in enumerate(text)]
        return words, [(index, index + 1) for index in range(len(words))]

    def _logits(self, texts: Iterable[Any]) -> np.ndarray:
        """Logits of texts, or of pairs of texts."""
        rows = as_list(texts, self.row_fields)
        if not (self.pair or (self.pair is None and rows and not isinstance(rows[0], str))):
            return self.logits(rows)
        for index, pair in enumerate(rows):
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise DataError(f"Text {index} is {pair!r:.60}, but this model compares two texts: pass (text, text).")
        return self.logits([pair[0] for pair in rows], [pair[1] for pair in rows])


def as_list(texts: Iterable[Any], fields: Sequence[str] = ()) -> list[Any]:
    if fields and (isinstance(texts, str | Mapping) or hasattr(texts, "columns")):
        raise DataError(
            f"Expected a list of rows {{field: value}}, got a {type(texts).__name__}. Pass [row], or of a table "
            "df.to_dict('records')."
        )
    if isinstance(texts, str):
        raise DataError(f"Expected a list of texts, got the string {texts!r:.60}. Pass [text].")
    if isinstance(texts, Mapping) or hasattr(texts, "columns"):
        raise DataError(f"Expected a list of texts, got a {type(texts).__name__}. Pass the column with the texts.")
    return list(texts)
