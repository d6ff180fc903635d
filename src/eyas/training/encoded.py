"""Texts as token ids in flat arrays: encoded once, kept in memory, batched without a Python loop over rows."""

import logging
from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import Dataset as TorchDataset
from transformers import PreTrainedModel

from eyas.data.datasets import ids_of, is_pair, labels_of, task_of, word_counts_of
from eyas.data.tokenization import batches_of_texts, encode
from eyas.models import is_student
from eyas.models.loading import input_length
from eyas.runtime.alignment import Pieces, WordEncoder
from eyas.runtime.tokens import is_cut
from eyas.settings import MAX_LENGTH
from eyas.spans import continuations

logger = logging.getLogger("eyas")


class EncodedTexts(TorchDataset[Any]):
    """Rows of `dataset` for a student. Indexing with a list gives a padded batch, not rows.

    A batch has `input_ids`, `attention_mask`, `token_type_ids` (pairs), `labels` (-100 = none, for regression NaN), and
    the teacher's inputs: `example_id`, or `text`, `text_pair` and `tokens`.

    Args:
        tokenizer: the student's Hugging Face tokenizer.
        max_length: maximum number of tokens per text.
        truncate: let the tokenizer truncate, as transformers need; our own students do not.
        extra: columns of `dataset` to pass through (`text`, `text_pair`, `tokens`).
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: Any,
        max_length: int,
        truncate: bool = False,
        extra: Sequence[str] = (),
    ) -> None:
        self.dataset, self.name, self.padding = dataset, "", tokenizer.pad_token_id
        self.task = task_of(dataset)
        self.second: np.ndarray | None = None
        self._read(dataset, tokenizer, max_length, truncate)
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
        self.example_ids = ids_of(dataset)
        self.extra = _columns(dataset, extra)

    def _read(self, dataset: Dataset, tokenizer: Any, max_length: int, truncate: bool) -> None:
        """Set `ids`, `lengths`, `second` and `labels`."""
        backend = tokenizer.backend_tokenizer
        backend.no_padding()
        if truncate:
            backend.enable_truncation(max_length)
        else:
            backend.no_truncation()
        pair = is_pair(dataset) and "token_type_ids" in tokenizer.model_input_names
        # The model truncates the texts of a pair, each separately.
        limit = None if is_pair(dataset) else max_length
        ids, second, lengths, cut = [], [], [], 0
        for batch in batches_of_texts(dataset):
            encodings = encode(backend, batch, max_length)
            rows = [np.array(encoding.ids[:limit], dtype=np.int32) for encoding in encodings]
            ids.append(np.concatenate(rows))
            lengths.append(np.array([len(row) for row in rows], dtype=np.int32))
            cut += sum(is_cut(encoding, max_length) for encoding in encodings)
            if pair:
                second.append(np.concatenate([np.array(e.type_ids, dtype=np.int8) for e in encodings]))
        self.ids, self.lengths = np.concatenate(ids), np.concatenate(lengths)
        self.second = np.concatenate(second) if second else None
        if cut:
            logger.warning(
                "%s of %s texts have more tokens than the %d that the model reads: the rest of them is not trained on.",
                f"{cut:,}", f"{len(dataset):,}", max_length,
            )  # fmt: skip
        labels = labels_of(dataset)
        self.labels = np.where(labels < 0, -100, labels) if self.task.decides else labels

    def handing(self, extra: Sequence[str], name: str = "") -> Self:
        """A copy that passes the columns `extra` through; `name` is for training on several data sets."""
        other = copy(self)
        other.extra, other.name = _columns(self.dataset, extra), name
        return other

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Any]:
        index = np.asarray(rows)
        lengths = self.lengths[index]
        inside = np.arange(lengths.max(initial=1)) < lengths[:, None]
        places = (self.offsets[index][:, None] + np.arange(inside.shape[1]))[inside]
        batch: dict[str, Any] = {
            "input_ids": self._padded(self.ids, places, inside, self.padding),
            "attention_mask": torch.from_numpy(inside),
            "labels": self._labels(index, places, inside),
            "example_id": torch.from_numpy(self.example_ids[index]),
        }
        if self.second is not None:
            batch["token_type_ids"] = self._padded(self.second, places, inside, 0)
        if self.name:
            batch["dataset_name"] = self.name
        batch.update(self._more(places, inside))
        if self.extra is not None:
            batch.update({name: list(column) for name, column in self.extra[index.tolist()].items()})
        return batch

    def _labels(self, index: np.ndarray, places: np.ndarray, inside: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.labels[index])

    def _more(self, places: np.ndarray, inside: np.ndarray) -> dict[str, torch.Tensor]:
        return {}

    @staticmethod
    def _padded(flat: np.ndarray, places: np.ndarray, inside: np.ndarray, fill: int) -> torch.Tensor:
        result = np.full(inside.shape, fill, dtype=np.int64)
        result[inside] = flat[places]
        return torch.from_numpy(result)


def _columns(dataset: Dataset, names: Sequence[str]) -> Dataset | None:
    found = [name for name in names if name in dataset.column_names]
    return dataset.select_columns(found) if found else None


class EncodedWords(EncodedTexts):
    """Encoded texts for tagging: `labels` [batch, tokens], and the word of each token.

    A batch also has `words` [batch, tokens] (the word read at a token, -1 = none), `inner` [batch, tokens] bool and
    `word_counts` [batch]. `inner` marks tokens inside a word that look like the start of one, such as the dot of `St.`.
    The student learns to continue the word's tag there, because in raw text such a token is a word of its own.

    Args:
        inner: whether to train on inner tokens.
    """

    def __init__(self, *args: Any, inner: bool = False, **options: Any) -> None:
        self._inner_too = inner
        super().__init__(*args, **options)

    def _read(self, dataset: Dataset, tokenizer: Any, max_length: int, truncate: bool) -> None:
        encoder = WordEncoder(tokenizer.backend_tokenizer, tokenizer.unk_token)
        continues = encoder.continues if self._inner_too else None
        room = max_length - len(encoder.before) - len(encoder.after)
        self.word_counts = word_counts_of(dataset)
        ids, words, inner, lengths = [], [], [], []
        for batch in batches_of_texts(dataset):
            for pieces in encoder.pieces(batch["tokens"]):
                row = _read_places(pieces, continues)[:room]
                sides = [-1] * len(encoder.before), [-1] * len(encoder.after)
                words.append(np.concatenate([sides[0], row, sides[1]]).astype(np.int32))
                first = pieces.first[np.maximum(row, 0)] == np.arange(len(row))
                inner.append(np.concatenate([[False] * len(sides[0]), (row >= 0) & ~first, [False] * len(sides[1])]))
                ids.append(np.concatenate([encoder.before, pieces.ids[:room], encoder.after]).astype(np.int32))
                lengths.append(len(ids[-1]))
        self.ids, self.lengths = np.concatenate(ids), np.array(lengths, dtype=np.int32)
        self.words, self.inner = np.concatenate(words), np.concatenate(inner).astype(bool)
        self.labels = self._token_labels(labels_of(dataset))
        lost = int(self.word_counts.sum() - ((self.words >= 0) & ~self.inner).sum())
        if lost:
            logger.warning("%s words beyond token %d of their sentence are not trained on.", lost, max_length)

    def _token_labels(self, labels: np.ndarray) -> np.ndarray:
        starts = np.repeat(np.cumsum(self.word_counts) - self.word_counts, self.lengths)
        found = labels[np.where(self.words >= 0, starts + self.words, 0)]
        going_on = continuations(self.task.labels)[np.maximum(found, 0)]
        found = np.where(self.inner & (found >= 0), going_on, found)
        return np.where((self.words < 0) | (found < 0), -100, found)

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Any]:
        batch = super().__getitems__(rows)
        batch["word_counts"] = torch.from_numpy(self.word_counts[np.asarray(rows)])
        return batch

    def _labels(self, index: np.ndarray, places: np.ndarray, inside: np.ndarray) -> torch.Tensor:
        return self._padded(self.labels, places, inside, -100)

    def _more(self, places: np.ndarray, inside: np.ndarray) -> dict[str, torch.Tensor]:
        return {
            "words": self._padded(self.words, places, inside, -1),
            "inner": self._padded(self.inner, places, inside, 0).bool(),
        }


def _read_places(pieces: Pieces, continues: np.ndarray | None) -> np.ndarray:
    """[tokens] the word read at each token, or -1."""
    read = np.full(len(pieces.ids), -1, dtype=np.int64)
    if continues is not None:
        starts = ~continues[pieces.ids]
        read[starts] = pieces.words[starts]
    read[pieces.first] = np.arange(len(pieces.first))
    return read


def encoded_for(
    model: PreTrainedModel,
    tokenizer: Any,
    dataset: Dataset | EncodedTexts,
    max_length: int = MAX_LENGTH,
    training: bool = False,
) -> EncodedTexts:
    """Encode `dataset` for `model`, unless it is encoded already. Our own students have their own maximum length.

    Args:
        training: for tagging, also train our own students on inner tokens; see `EncodedWords`.
    """
    if isinstance(dataset, EncodedTexts):
        return dataset
    own = is_student(model)
    length = input_length(model, tokenizer, max_length)
    if task_of(dataset).is_tagging:
        return EncodedWords(dataset, tokenizer, length, truncate=not own, inner=training and own)
    return EncodedTexts(dataset, tokenizer, length, truncate=not own)


def already_batched(batch: dict[str, Any]) -> dict[str, Any]:
    """Collator for `EncodedTexts`, which already returns whole batches."""
    return batch
