"""What every student must beat: tf-idf and static embeddings, each with a logistic regression. No torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tokenizers import Tokenizer

from understudy.runtime.manifest import TOKENIZER
from understudy.runtime.words import FastTokenizer
from understudy.text import clean_texts

BASELINE = "baseline.json"
WEIGHTS = "weights.safetensors"
MAX_LENGTH = 256


class Baseline(Protocol):
    """Has the face of a `Predictor`."""

    label_names: list[str]
    data_labels: list[str]

    def logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray: ...


class TfidfBaseline:
    """Words and pairs of words, weighted by tf-idf, and scikit-learn's logistic regression.

    Args:
        vocabulary: {n-gram: column}.
        idf: [columns] inverse document frequencies.
        weights, bias: [labels, columns], [labels].
    """

    def __init__(
        self, vocabulary: dict[str, int], idf: np.ndarray, weights: np.ndarray, bias: np.ndarray, labels: list[str]
    ) -> None:
        self._vectorizer = _vectorizer(vocabulary)
        self._vectorizer.idf_ = idf
        self.weights, self.bias = weights, bias
        # As scipy wants it: else it would copy the whole matrix for every text.
        self._columns = np.ascontiguousarray(weights.T, dtype=np.float64)
        self.label_names = self.data_labels = labels

    @classmethod
    def fit(cls, texts: Sequence[str], labels: np.ndarray, names: list[str]) -> "TfidfBaseline":
        vectorizer = _vectorizer(None)
        features = vectorizer.fit_transform(texts)
        weights, bias = _fit(features, labels, len(names))
        vocabulary = {term: int(column) for term, column in vectorizer.vocabulary_.items()}
        return cls(vocabulary, vectorizer.idf_, weights, bias, names)

    def save(self, folder: Path) -> None:
        arrays = {"idf": self._vectorizer.idf_, "weights": self.weights, "bias": self.bias}
        vocabulary = {term: int(column) for term, column in self._vectorizer.vocabulary_.items()}
        _save(folder, {"kind": "tfidf", "labels": self.label_names, "vocabulary": vocabulary}, arrays)

    @property
    def parameters(self) -> tuple[int, int]:
        """(of the word table, of the rest)."""
        return 0, self.weights.size + self.bias.size

    def logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """[texts, labels] float32."""
        features = self._vectorizer.transform(_joined(texts, pairs))
        return np.asarray(features @ self._columns + self.bias, dtype=np.float32)


class StaticBaseline:
    """The mean of word vectors that were never trained, and a logistic regression (as Model2Vec's users do).

    Args:
        table: [tokens, size] float32.
        weights, bias: [labels, size], [labels].
    """

    def __init__(
        self, tokenizer: Tokenizer, table: np.ndarray, weights: np.ndarray, bias: np.ndarray, labels: list[str]
    ) -> None:
        self.tokenizer, self.table, self.weights, self.bias = tokenizer, table, weights, bias
        self.label_names = self.data_labels = labels
        self._fast = FastTokenizer.of(tokenizer, MAX_LENGTH)

    @classmethod
    def fit(
        cls, tokenizer: Tokenizer, table: np.ndarray, texts: Sequence[str], labels: np.ndarray, names: list[str]
    ) -> "StaticBaseline":
        untrained = cls(tokenizer, table, np.zeros((len(names), table.shape[1])), np.zeros(len(names)), names)
        weights, bias = _fit(untrained._features(texts), labels, len(names))
        return cls(tokenizer, table, weights, bias, names)

    def save(self, folder: Path) -> None:
        _save(
            folder,
            {"kind": "static", "labels": self.label_names},
            {"table": self.table, "weights": self.weights, "bias": self.bias},
        )
        self.tokenizer.save(str(folder / TOKENIZER))

    @property
    def parameters(self) -> tuple[int, int]:
        """(of the word table, of the rest)."""
        return self.table.size, self.weights.size + self.bias.size

    def logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """[texts, labels] float32."""
        return np.asarray(self._features(_joined(texts, pairs)) @ self.weights.T + self.bias, dtype=np.float32)

    def _features(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self.table[self._ids(text)].mean(0) for text in clean_texts(texts, MAX_LENGTH)])

    def _ids(self, text: str) -> list[int]:
        ids = self._fast.encode(text) if self._fast is not None else None
        return ids if ids is not None else list(self.tokenizer.encode(text).ids[:MAX_LENGTH])


def load_baseline(folder: Path) -> Baseline:
    """What `save` wrote."""
    from safetensors.numpy import load_file

    about = json.loads((folder / BASELINE).read_text())
    arrays = load_file(folder / WEIGHTS)
    if about["kind"] == "tfidf":
        return TfidfBaseline(about["vocabulary"], labels=about["labels"], **arrays)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    return StaticBaseline(tokenizer, labels=about["labels"], **arrays)


def _vectorizer(vocabulary: dict[str, int] | None) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]", vocabulary=vocabulary
    )


def _fit(features: Any, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights [labels, columns] and bias [labels] of a logistic regression; a label never seen gets -1e9."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000, C=4.0).fit(features, labels)
    weights, bias = np.zeros((count, features.shape[1]), np.float32), np.full(count, -1e9, np.float32)
    if len(model.classes_) == 2:  # one row, for the second class
        weights[model.classes_[1]], bias[model.classes_] = model.coef_[0], (0.0, model.intercept_[0])
    else:
        weights[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weights, bias


def _joined(texts: Sequence[str], pairs: Sequence[str] | None) -> list[str]:
    return list(texts) if pairs is None else [f"{a} | {b}" for a, b in zip(texts, pairs, strict=True)]


def _save(folder: Path, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / BASELINE).write_text(json.dumps(about))
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / WEIGHTS)
