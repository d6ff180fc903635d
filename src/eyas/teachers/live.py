"""Live teachers: frozen models in eval mode."""

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
from torch import Tensor
from transformers import BatchEncoding, PreTrainedModel

from eyas import processes
from eyas.models.classifier import Classifier
from eyas.models.inside import ATTRIBUTIONS, FIELDS, run
from eyas.models.loading import load_classifier
from eyas.runtime.alignment import pad
from eyas.settings import MAX_LENGTH
from eyas.tasks import CALIBRATION, Task

if TYPE_CHECKING:
    from datasets import Dataset

    from eyas.teachers.cached import CachedTeacher


# What a configuration says beside the function that the model is.
INCIDENTAL = {"_name_or_path", "architectures", "dtype", "transformers_version", CALIBRATION}


class Teacher(Classifier):
    """A frozen, fine-tuned classifier, regressor or tagger, on the GPU if there is one.

    Args:
        source: a folder, a Hub name, or a loaded model (then with its `tokenizer`).
        max_length: maximum number of tokens the teacher reads per text.
        dtype: precision of its matrix products: "bfloat16", "float32", or None for bfloat16 if the hardware has it.
            bfloat16 changes the logits in the third digit, so regression and fields default to float32.
        task: the model's task; by default from its configuration.

    Raises:
        ModelError: the model is not a classifier, has no weights, or has another model's tokenizer.
    """

    fields: ClassVar[frozenset[str]] = FIELDS
    reads: ClassVar[tuple[str, ...]] = ("text", "text_pair", "tokens")

    def __init__(
        self,
        source: str | Path | PreTrainedModel,
        tokenizer: Any = None,
        max_length: int = MAX_LENGTH,
        dtype: str | None = None,
        task: Task | None = None,
    ) -> None:
        model, tokenizer = (source, tokenizer) if isinstance(source, PreTrainedModel) else load_classifier(source)
        frozen = cast(Any, model.requires_grad_(False)).to(fastest_device())
        super().__init__(frozen, tokenizer, max_length, task)
        fastest = dtype or fastest_dtype(self.model.device)
        self.dtype = dtype or ("float32" if self.task.kind in ("regression", "fields") else fastest)
        self._inner_dtype = fastest  # the precision if no logits are requested

    @torch.no_grad()
    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = ("logits",)) -> dict[str, Any]:
        """Outputs for `batch["text"]` (and `text_pair`), lists of strings; for tagging `tokens`, lists of words.

        Args:
            fields: the outputs to compute, from `Teacher.fields`.

        Returns:
            {field: tensor or tuple of tensors}, float32; `logits` [batch, labels], for tagging
            [words of all sentences, tags]. If other fields are requested, also the `attention_mask` of the tokens and
            the number of attention `heads`. A tagger then reads only the first window of each sentence; later words
            have logits of zero.
        """
        if self.task.is_tagging and set(fields) == {"logits"}:
            return {"logits": torch.from_numpy(self._tag(batch["tokens"]))}
        if self.task.is_tagging:
            inputs, words = self._first_windows(batch["tokens"])
        else:
            inputs, words = self.tokenize(batch["text"], batch.get("text_pair")), None
        self.model.eval()
        # Attributions need gradients of the word vectors; the weights stay frozen.
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

    def _run(self, inputs: Mapping[str, Tensor], fields: Collection[str]) -> dict[str, Any]:
        return run(self.model, inputs, fields)

    def _forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        with autocast(self.model.device, self.dtype):
            return super()._forward(inputs)

    def _first_windows(self, sentences: Sequence[Sequence[str]]) -> tuple[Any, Tensor]:
        """Model inputs for the first window of each sentence, all that a student reads in training.

        Returns:
            The inputs, and [words of all sentences] each word's position in the flattened batch, -1 = not read.
        """
        before, after = self.words.before, self.words.after
        room = self.max_length - len(before) - len(after)
        pieces = list(self.words.pieces(sentences))
        ids, mask = pad([[*before, *each.ids[:room], *after] for each in pieces], self.tokenizer.pad_token_id)
        starts = len(before) + ids.shape[1] * np.arange(len(pieces))
        words = [
            np.where(each.first < room, start + each.first, -1) for start, each in zip(starts, pieces, strict=True)
        ]
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        return BatchEncoding(inputs), torch.from_numpy(np.concatenate(words))

    def reading(self, max_length: int) -> Self:
        """A copy of the teacher that reads at most `max_length` tokens per text."""
        shortened = copy(self)
        shortened.__dict__.pop("fingerprint", None)
        shortened.max_length = min(self.max_length, max_length)
        return shortened

    def label(
        self, dataset: "Dataset", cache: str | Path | None = None, ray: str | None = None, ray_cpus: float = 1
    ) -> "CachedTeacher":
        """Label every text of `dataset` once; see `eyas.teachers.cached.label_texts`."""
        from eyas.teachers.cached import label_texts

        return label_texts(self, dataset, cache, ray, ray_cpus)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines its outputs: weights, configuration, tokenizer, maximum length, precision, labels.

        It is taken once: a model that is trained further needs a new teacher.
        """
        weights, tokenizer = fingerprint_of(self.model, self.tokenizer)
        return {
            "teacher_weights": weights,
            "tokenizer": tokenizer,
            "max_length": self.max_length,
            "dtype": self.dtype,
            "labels": self.label_names,
            "task": self.task.kind,
        }


def fingerprint_of(model: Any, tokenizer: Any) -> tuple[str, str]:
    """Checksums of a model, its weights and configuration, and of its tokenizer."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in INCIDENTAL}
    weights = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return weights.hexdigest(), hashlib.sha256(_without_truncation(vocabulary).encode()).hexdigest()


def _without_truncation(tokenizer: str) -> str:
    """A tokenizer's state without the truncation and padding of its last call."""
    state = json.loads(tokenizer)
    return json.dumps({**state, "truncation": None, "padding": None}, sort_keys=True)


def _to_float(value: Any) -> Any:
    return tuple(map(_to_float, value)) if isinstance(value, tuple | list) else value.detach().float()


def autocast(device: torch.device, dtype: str) -> AbstractContextManager[Any]:
    """Matrix products in `dtype`, "float32" or "bfloat16"."""
    return nullcontext() if dtype == "float32" else torch.autocast(device.type, dtype=getattr(torch, dtype))


def fastest_device() -> torch.device:
    """The device that transformers trains on: the GPU if there is one (of several, this process's), or the CPU."""
    found = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if processes.count() == 1 or found.type == "cpu":
        return found
    return torch.device(found.type, processes.place() % torch.accelerator.device_count())


def fastest_dtype(device: torch.device) -> str:
    """The fastest precision of matrix products on `device`."""
    return "bfloat16" if has_fast_bfloat16(device) else "float32"


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are faster than float32 on `device`."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
