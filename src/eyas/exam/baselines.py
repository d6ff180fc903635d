"""Baselines that every student must beat: linear models on word counts or static embeddings. No torch.

Each decision of the task has its own logistic regression; a regression task has one ridge regression.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tokenizers import Tokenizer

from eyas.kinds import Kind
from eyas.runtime.manifest import TOKENIZER
from eyas.runtime.tokens import TextEncoder, find_alike
from eyas.tasks import Task
from eyas.text import BETWEEN_FIELDS, clean_texts

BASELINE = "baseline.json"
WEIGHTS = "weights.safetensors"
MAX_LENGTH = 256
# The logit of a label that no training text has.
NEVER = -1e9
# Largest number of classes with a logistic regression each.
MOST_BINARY = 20
# Runs of characters in fewer texts are left out.
FEWEST_TEXTS = 2
# Output columns, their weights and their bias.
Part = tuple[list[int], np.ndarray, np.ndarray]


class Features(Protocol):
    """Texts -> a dense or sparse matrix [texts, columns]; for tagging [words, columns]."""

    def __call__(self, texts: Sequence[Any]) -> Any: ...

    def save(self, folder: Path) -> dict[str, np.ndarray]: ...


class Baseline:
    """A linear model with the interface of `Predictor`.

    Args:
        weights, bias: [outputs, columns], [outputs].
    """

    def __init__(self, kind: str, task: Task, features: Features, weights: np.ndarray, bias: np.ndarray) -> None:
        self.kind, self.task, self.features = kind, task, features
        self.weights, self.bias = weights, bias
        # In scipy's layout; otherwise scipy copies the whole matrix for every text.
        self._columns = np.ascontiguousarray(weights.T, dtype=np.float64 if kind != "static" else np.float32)
        self.label_names = self.data_labels = list(task.labels)

    @property
    def parameters(self) -> tuple[int, int]:
        """Number of parameters: (word vectors, all others)."""
        table = self.features.table.size if isinstance(self.features, MeanVectors) else 0
        return table, self.weights.size + self.bias.size

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Logits [texts, outputs] float32; for tagging, `texts` are lists of words and the logits [words, tags]."""
        return np.asarray(self.features(_joined(texts, pairs)) @ self._columns + self.bias, dtype=np.float32)

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"weights": self.weights, "bias": self.bias, **self.features.save(folder)}
        tokie = find_alike(folder / TOKENIZER, MAX_LENGTH) if self.kind == "static" else None
        about = {"kind": self.kind, "task": self.task.kind, "labels": self.label_names, "tokie": tokie}
        (folder / BASELINE).write_text(json.dumps(about))
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / WEIGHTS)


class Counts:
    """Tf-idf of words, word pairs and runs of 2 to 5 characters; for some tasks, listed features (see `LISTED`).

    Words and characters are normalized apart, so that neither outweighs the other.

    Args:
        vocabularies: {n-gram or feature: column} of each part.
        idf: [columns] inverse document frequencies of each part; empty for tagging and fields.
    """

    FILE = "vocabulary.json"

    def __init__(self, vocabularies: list[dict[str, int]], idf: Sequence[np.ndarray], kind: Kind) -> None:
        self.vocabularies, self.idf, self.kind = vocabularies, list(idf), kind
        self._vectorizers = _vectorizers(kind in LISTED, vocabularies)
        for vectorizer, known in zip(self._vectorizers, idf, strict=False):
            vectorizer.idf_ = known

    @classmethod
    def fitted(cls, texts: Sequence[Any], kind: Kind) -> tuple["Counts", Any]:
        """The features of training texts, and their matrix."""
        import scipy.sparse

        vectorizers, rows = _vectorizers(kind in LISTED), list(LISTED[kind](texts)) if kind in LISTED else texts
        matrix = scipy.sparse.hstack([vectorizer.fit_transform(rows) for vectorizer in vectorizers]).tocsr()
        vocabularies = [
            {term: int(column) for term, column in vectorizer.vocabulary_.items()} for vectorizer in vectorizers
        ]
        idf = [] if kind in LISTED else [vectorizer.idf_ for vectorizer in vectorizers]
        return cls(vocabularies, idf, kind), matrix

    def __call__(self, texts: Sequence[Any]) -> Any:
        import scipy.sparse

        rows = list(LISTED[self.kind](texts)) if self.kind in LISTED else texts
        return scipy.sparse.hstack([vectorizer.transform(rows) for vectorizer in self._vectorizers]).tocsr()

    def save(self, folder: Path) -> dict[str, np.ndarray]:
        (folder / self.FILE).write_text(json.dumps(self.vocabularies))
        return {f"idf_{part}": idf for part, idf in enumerate(self.idf)}


class MeanVectors:
    """The mean of static word vectors, which are not trained (as in Model2Vec).

    Args:
        table: [tokens, size] float32.
        encode: a faster equivalent of `tokenizer`.
    """

    def __init__(self, tokenizer: Tokenizer, table: np.ndarray, encode: TextEncoder | None = None) -> None:
        self.tokenizer, self.table = tokenizer, table
        self._encode: Callable[[str], list[int]] = encode or self._ids

    def __call__(self, texts: Sequence[Any]) -> np.ndarray:
        return np.stack([self.table[self._encode(text)].mean(0) for text in clean_texts(texts, MAX_LENGTH)])

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text).ids[:MAX_LENGTH])

    def save(self, folder: Path) -> dict[str, np.ndarray]:
        self.tokenizer.save(str(folder / TOKENIZER))
        return {"table": self.table}


def fit_baseline(
    task: Task, texts: Sequence[Any], labels: np.ndarray, table: np.ndarray | None, tokenizer: Tokenizer | None
) -> Baseline:
    """Fit a linear model on mean word vectors from `table`, or without a table on words and characters.

    Args:
        texts: pairs joined; for tagging lists of words.
        labels: as from `labels_of`.
    """
    if table is not None and tokenizer is not None:
        return fit_on(task, MeanVectors(tokenizer, table), texts, labels)
    counts, matrix = Counts.fitted(texts, task.kind)
    return Baseline("counts", task, counts, *_fit(task, matrix, labels))


def fit_on(task: Task, features: Any, texts: Sequence[Any], labels: np.ndarray) -> Baseline:
    """Fit a linear model on what `features` returns for texts: [texts, size] float32."""
    return Baseline("static", task, features, *_fit(task, features(texts), labels))


def load_baseline(folder: Path) -> Baseline:
    """Load a baseline written by `Baseline.save`."""
    from safetensors.numpy import load_file

    about = json.loads((folder / BASELINE).read_text())
    arrays = load_file(folder / WEIGHTS)
    task = Task(about["task"], tuple(about["labels"]))
    features: Features
    if about["kind"] == "counts":
        vocabularies = json.loads((folder / Counts.FILE).read_text())
        idf = [] if task.kind in LISTED else [arrays[f"idf_{part}"] for part in range(len(vocabularies))]
        features = Counts(vocabularies, idf, task.kind)
    else:
        path, tokie = folder / TOKENIZER, about.get("tokie")
        encode = TextEncoder(path, MAX_LENGTH, **tokie) if tokie else None
        features = MeanVectors(Tokenizer.from_file(str(path)), arrays["table"], encode)
    return Baseline(about["kind"], task, features, arrays["weights"], arrays["bias"])


def _vectorizers(listed: bool, vocabularies: Sequence[dict[str, int] | None] = (None, None)) -> list[Any]:
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

    if listed:
        return [CountVectorizer(analyzer=_identity, vocabulary=vocabularies[0])]
    words, characters = vocabularies
    return [
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]", vocabulary=words),
        TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=FEWEST_TEXTS, vocabulary=characters
        ),
    ]


def _identity(features: list[str]) -> list[str]:
    return features


def _word_features(sentences: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """For each word: the word, its neighbors, prefix, suffix and shape."""
    for words in sentences:
        low = ["<", *(word.lower() for word in words), ">"]
        for place, word in enumerate(words, 1):
            shape = f"s={word[:1].isupper():d}{word.isupper():d}{any(c.isdigit() for c in word):d}{word.isalnum():d}"
            here = low[place]
            yield [f"w={here}", f"<={low[place - 1]}", f">={low[place + 1]}", f"b={here[:3]}", f"e={here[-3:]}", shape]


def _values(texts: Sequence[str]) -> Iterator[list[str]]:
    """For each row of fields its values."""
    for text in texts:
        yield text.split(BETWEEN_FIELDS)


# The tasks whose features are listed, not read from texts: inputs -> a list of features for each.
LISTED: dict[str, Callable[[Sequence[Any]], Iterator[list[str]]]] = {"tagging": _word_features, "fields": _values}


def _fit(task: Task, features: Any, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [outputs, columns] and bias [outputs]."""
    weights = np.zeros((len(task.labels), features.shape[1]), np.float32)
    bias = np.full(len(task.labels), NEVER, np.float32)
    for columns, rows, offsets in FITS[task.kind](task, features, labels):
        weights[columns], bias[columns] = rows, offsets
    return weights, bias


def _ridge(task: Task, features: Any, labels: np.ndarray) -> Iterator[Part]:
    from sklearn.linear_model import Ridge

    known = np.isfinite(labels)
    model = Ridge().fit(features[known], labels[known])
    yield [0], model.coef_, model.intercept_


def _one_label(task: Task, features: Any, labels: np.ndarray) -> Iterator[Part]:
    yield task.groups[0], *_logistic(features, labels, len(task.labels), task.is_tagging)


def _each_label(task: Task, features: Any, labels: np.ndarray) -> Iterator[Part]:
    for column in range(len(task.labels)):
        chosen, offset = _logistic(features, labels[:, column], 2, False)
        yield [column], chosen[1] - chosen[0], offset[1] - offset[0]


def _each_aspect(task: Task, features: Any, labels: np.ndarray) -> Iterator[Part]:
    for number, columns in enumerate(task.groups):
        yield columns, *_logistic(features, labels[:, number] - columns[0], len(columns), False)


FITS: dict[Kind, Callable[[Task, Any, np.ndarray], Iterator[Part]]] = {
    "classification": _one_label,
    "tagging": _one_label,
    "regression": _ridge,
    "multi-label": _each_label,
    "aspects": _each_aspect,
    "fields": _one_label,
}


def _logistic(features: Any, labels: np.ndarray, count: int, tagging: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights [count, columns] and bias [count] of a logistic regression; unseen labels get a bias of -1e9."""
    weights, bias = np.zeros((count, features.shape[1]), np.float32), np.full(count, NEVER, np.float32)
    known = labels >= 0
    present = np.unique(labels[known])
    if len(present) == 1:
        bias[present] = 0.0
        return weights, bias
    model = _classifier(tagging, isinstance(features, np.ndarray), len(present))
    model.fit(features[known], labels[known])
    if len(model.classes_) == 2:  # one row of weights, for the second class
        weights[model.classes_[1]], bias[model.classes_] = model.coef_[0], (0.0, model.intercept_[0])
    elif hasattr(model, "estimators_"):
        weights[model.classes_] = [one.coef_[0] for one in model.estimators_]
        bias[model.classes_] = [one.intercept_[0] for one in model.estimators_]
    else:
        weights[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weights, bias


def _classifier(tagging: bool, dense: bool, classes: int) -> Any:
    """The logistic regression that is fast enough: of many sparse columns, one per class or by stochastic gradients."""
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.multiclass import OneVsRestClassifier

    if dense:
        return LogisticRegression(max_iter=1000, C=4.0)
    if tagging or classes > MOST_BINARY:
        return SGDClassifier(loss="log_loss", alpha=1e-6 if tagging else 1e-5, random_state=0)
    binary = LogisticRegression(solver="liblinear", C=4.0)
    return binary if classes == 2 else OneVsRestClassifier(binary)


def _joined(texts: Sequence[Any], pairs: Sequence[str] | None) -> list[Any]:
    return list(texts) if pairs is None else [f"{a} | {b}" for a, b in zip(texts, pairs, strict=True)]
