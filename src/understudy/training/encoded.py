"""Texts as token ids, in two flat arrays: made once, kept in memory, batched without a Python loop over rows."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from understudy.data.datasets import ids_of, is_pair, labels_of
from understudy.data.tokenization import batches_of_texts, encode


class EncodedTexts(TorchDataset[Any]):
    """Rows of `dataset` for a student. Indexing with a list gives a padded batch, not rows.

    A batch has `input_ids`, `attention_mask`, `token_type_ids` (pairs), `labels` (-100 = none), and what the
    teacher reads: `example_id`, or `text` and `text_pair`.

    Args:
        tokenizer: the student's Hugging Face tokenizer.
        max_length: tokens of a text that are kept.
        truncate: let the tokenizer cut long texts, as transformers need it; a student cuts them itself.
        extra: columns of `dataset` to hand through (`text`, `text_pair`).
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: Any,
        max_length: int,
        truncate: bool = False,
        extra: Sequence[str] = (),
    ) -> None:
        backend = tokenizer.backend_tokenizer
        backend.no_padding()
        if truncate:
            backend.enable_truncation(max_length)
        else:
            backend.no_truncation()
        self.padding = tokenizer.pad_token_id
        pair = is_pair(dataset) and "token_type_ids" in tokenizer.model_input_names
        # A pair's texts are cut by the model, each on its own.
        limit = None if is_pair(dataset) else max_length
        ids, second, lengths = [], [], []
        for batch in batches_of_texts(dataset):
            encodings = encode(backend, batch, max_length)
            rows = [np.array(encoding.ids[:limit], dtype=np.int32) for encoding in encodings]
            ids.append(np.concatenate(rows))
            lengths.append(np.array([len(row) for row in rows], dtype=np.int32))
            if pair:
                second.append(np.concatenate([np.array(e.type_ids, dtype=np.int8) for e in encodings]))
        self.ids = np.concatenate(ids)
        self.second = np.concatenate(second) if second else None
        self.lengths = np.concatenate(lengths)
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
        self.example_ids = ids_of(dataset)
        labels = labels_of(dataset) if "label" in dataset.column_names else np.full(len(dataset), -1)
        self.labels = np.where(labels < 0, -100, labels)
        self.extra = dataset.select_columns([c for c in extra if c in dataset.column_names]) if extra else None

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
            "labels": torch.from_numpy(self.labels[index]),
            "example_id": torch.from_numpy(self.example_ids[index]),
        }
        if self.second is not None:
            batch["token_type_ids"] = self._padded(self.second, places, inside, 0)
        if self.extra is not None:
            batch.update({name: list(column) for name, column in self.extra[index.tolist()].items()})
        return batch

    @staticmethod
    def _padded(flat: np.ndarray, places: np.ndarray, inside: np.ndarray, fill: int) -> torch.Tensor:
        result = np.full(inside.shape, fill, dtype=np.int64)
        result[inside] = flat[places]
        return torch.from_numpy(result)


def already_batched(batch: dict[str, Any]) -> dict[str, Any]:
    """The collator for `EncodedTexts`, which makes whole batches itself."""
    return batch


class LengthGroupedSampler(Sampler[int]):
    """Shuffled order in which texts of like length come together; the same for the same seed and epoch.

    Args:
        lengths: [rows] int.
        batch_size: rows per batch; texts are sorted within runs of 50 batches.
    """

    BATCHES_PER_RUN = 50

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.lengths))
        run = self.batch_size * self.BATCHES_PER_RUN
        for start in range(0, len(order), run):
            rows = order[start : start + run]
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
            # A short last batch goes last: the sampler yields rows, and batches are cut from them in order.
            full, rest = (batches[:-1], batches[-1:]) if len(batches[-1]) < self.batch_size else (batches, [])
            for place in random.permutation(len(full)):
                yield from full[place].tolist()
            for batch in rest:
                yield from batch.tolist()
