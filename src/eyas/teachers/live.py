"""The teacher itself: frozen, in eval mode, without gradient."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import torch
from transformers import BatchEncoding, PreTrainedModel

from eyas.models.inside import ATTRIBUTIONS, FIELDS, run
from eyas.models.loading import MAX_LENGTH, input_length, load_classifier, task_of_config
from eyas.runtime.alignment import WordEncoder, pad
from eyas.tasks import Task
from eyas.text import clean_texts

if TYPE_CHECKING:
    from datasets import Dataset

    from eyas.teachers.cached import CachedTeacher

TEXTS_PER_BATCH = 64


class Teacher:
    """A fine-tuned classifier, regressor or tagger that teaches, on the GPU where there is one.

    Args:
        source: a folder, a Hub name, or a loaded model (then with its `tokenizer`).
        max_length: tokens of a text that the teacher reads.
        dtype: precision of its matrix products: "bfloat16", "float32", or None for bfloat16 where the processor
            has it (its logits differ in the third digit; a regression is not rounded so).

    Raises:
        ModelError: the model is not a classifier, has no weights, or another model's tokenizer.
    """

    fields: ClassVar[frozenset[str]] = FIELDS
    reads: ClassVar[tuple[str, ...]] = ("text", "text_pair", "tokens")

    def __init__(
        self,
        source: str | Path | PreTrainedModel,
        tokenizer: Any = None,
        max_length: int = MAX_LENGTH,
        dtype: str | None = None,
    ) -> None:
        model, tokenizer = (source, tokenizer) if isinstance(source, PreTrainedModel) else load_classifier(source)
        self._freeze(model, tokenizer, task_of_config(model.config), max_length, dtype)
        self.data_labels: list[str] = getattr(self.model.config, "data_labels", None) or self.label_names

    def _freeze(self, model: PreTrainedModel, tokenizer: Any, task: Task, max_length: int, dtype: str | None) -> None:
        self.model = cast(Any, model.requires_grad_(False)).to(fastest_device())
        self.tokenizer, self.task = tokenizer, task
        self.model.train(False)
        self.max_length = input_length(self.model, self.tokenizer, max_length)
        self.label_names = list(task.labels)
        fastest = dtype or fastest_dtype(self.model.device)
        self.dtype = dtype or ("float32" if task.kind == "regression" else fastest)
        self._inner_dtype = fastest  # what its layers are read in, where nobody asks for its logits

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Any], fields: Collection[str] = ("logits",)) -> dict[str, Any]:
        """Outputs for `batch["text"]` (and `text_pair`), lists of strings; for tagging `tokens`, lists of words.

        Args:
            fields: which outputs, out of `fields`.

        Returns:
            {field: tensor or tuple of tensors}, float32; `logits` [batch, labels], for tagging
            [words of all sentences, tags]. Where more than logits is asked for, the `attention_mask` of the tokens and
            the number of attention `heads` as well; a tagger then reads the first window of each sentence alone, and
            words behind it have logits of zero.
        """
        if self.task.is_tagging and set(fields) == {"logits"}:
            return {"logits": self._tag(batch["tokens"])}
        if self.task.is_tagging:
            inputs, words = self._beginnings(batch["tokens"])
        else:
            inputs, words = self.tokenize(batch["text"], batch.get("text_pair")), None
        self.model.eval()
        # Attributions are gradients by the word vectors, the weights stay as they are.
        dtype = self.dtype if "logits" in fields else self._inner_dtype
        with autocast(self.model.device, dtype), torch.set_grad_enabled(ATTRIBUTIONS in fields):
            found = self._run(inputs.to(self.model.device), fields)
        outputs = {field: _to_float(found[field]) for field in fields}
        if words is not None and "logits" in outputs:
            logits = torch.zeros(len(words), len(self.label_names), device=self.model.device)
            logits[words >= 0] = outputs["logits"].flatten(0, 1)[words[words >= 0]]
            outputs["logits"] = logits
        if outputs.keys() - {"logits"}:
            outputs |= {"attention_mask": inputs["attention_mask"], "heads": found["heads"]}
        return outputs

    def _run(self, inputs: Mapping[str, torch.Tensor], fields: Collection[str]) -> dict[str, Any]:
        return run(self.model, inputs, fields)

    def _beginnings(self, sentences: Sequence[Sequence[str]]) -> tuple[Any, torch.Tensor]:
        """Model inputs for the first window of each sentence, as a student reads them in training.

        Returns:
            The inputs, and [words of all sentences] the place in the flat batch at which each is read, -1 = behind it.
        """
        before, after = self._words.before, self._words.after
        room = self.max_length - len(before) - len(after)
        pieces = list(self._words.pieces(sentences))
        ids, mask = pad([[*before, *each.ids[:room], *after] for each in pieces], self.tokenizer.pad_token_id)
        starts = len(before) + ids.shape[1] * np.arange(len(pieces))
        words = [
            np.where(each.first < room, start + each.first, -1) for start, each in zip(starts, pieces, strict=True)
        ]
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        return BatchEncoding(inputs), torch.from_numpy(np.concatenate(words))

    @cached_property
    def _words(self) -> WordEncoder:
        return WordEncoder(self.tokenizer.backend_tokenizer, self.tokenizer.unk_token)

    def _tag(self, sentences: Sequence[Sequence[str]]) -> torch.Tensor:
        """[words of all sentences, tags], read at each word's first piece; long sentences in windows."""
        self.model.eval()
        offsets = np.concatenate([[0], np.cumsum([len(words) for words in sentences], dtype=np.int64)])
        result = torch.zeros(int(offsets[-1]), len(self.label_names))
        windows = list(self._words.windows(sentences, self.max_length))
        for start in range(0, len(windows), TEXTS_PER_BATCH):
            part = windows[start : start + TEXTS_PER_BATCH]
            rows = [window.ids for window in part]
            ids, mask = (torch.from_numpy(array) for array in pad(rows, self.tokenizer.pad_token_id))
            device = self.model.device
            with autocast(device, self.dtype):
                logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits.float().cpu()
            for row, window in enumerate(part):
                result[offsets[window.sentence] + window.words] = logits[row, window.positions]
        return result

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """[texts, labels] float32, without the cache; for tagging, lists of words -> [words, tags]."""
        rows = [np.empty((0, len(self.label_names)), dtype=np.float32)]
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            part = slice(start, start + TEXTS_PER_BATCH)
            batch = {"text": list(texts[part]), "text_pair": None if pairs is None else list(pairs[part])}
            batch["tokens"] = batch["text"]
            rows.append(self(batch)["logits"].cpu().numpy())
        return np.concatenate(rows)

    def reading(self, max_length: int) -> Self:
        """The same teacher, who reads no more than `max_length` tokens of a text."""
        shortened = copy(self)
        shortened.max_length = min(self.max_length, max_length)
        return shortened

    def tokenize(self, texts: list[str], pairs: list[str] | None = None) -> Any:
        """Model inputs for a list of texts, padded to the longest."""
        arguments = [clean_texts(column, self.max_length) for column in (texts, pairs) if column is not None]
        return self.tokenizer(
            *arguments, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )

    def label(self, dataset: "Dataset", cache: str | Path | None = None) -> "CachedTeacher":
        """Label every text of `dataset` once; see `eyas.teachers.cached.label_texts`."""
        from eyas.teachers.cached import label_texts

        return label_texts(self, dataset, cache)

    def fingerprint(self) -> dict[str, Any]:
        """What decides its outputs: weights, tokenizer, maximum length, precision, labels."""
        weights = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            weights.update(name.encode())
            weights.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        return {
            "teacher_weights": weights.hexdigest(),
            "tokenizer": hashlib.sha256(_without_truncation(vocabulary).encode()).hexdigest(),
            "max_length": self.max_length,
            "dtype": self.dtype,
            "labels": self.label_names,
            "task": self.task.kind,
        }


def _without_truncation(tokenizer: str) -> str:
    """A tokenizer's state without what the last call left in it."""
    state = json.loads(tokenizer)
    return json.dumps({**state, "truncation": None, "padding": None}, sort_keys=True)


def _to_float(value: Any) -> Any:
    return tuple(map(_to_float, value)) if isinstance(value, tuple | list) else value.detach().float()


def autocast(device: torch.device, dtype: str) -> AbstractContextManager[Any]:
    """Matrix products in `dtype`, "float32" or "bfloat16"."""
    return nullcontext() if dtype == "float32" else torch.autocast(device.type, dtype=getattr(torch, dtype))


def fastest_device() -> torch.device:
    """Where transformers trains: the GPU, or the processor where there is none."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def fastest_dtype(device: torch.device) -> str:
    """The precision of matrix products that is fastest there."""
    return "bfloat16" if has_fast_bfloat16(device) else "float32"


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are faster than float32 there."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
