"""Pretrained encoders as teachers of sentence vectors."""

import json
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel

from eyas.data.datasets import ids_of
from eyas.encoders import find_encoder
from eyas.errors import ModelError
from eyas.models.inside import ATTRIBUTIONS, FIELDS
from eyas.models.loading import load_body
from eyas.settings import MAX_LENGTH
from eyas.tasks import Task
from eyas.teachers.live import Teacher, autocast

Pooling = Literal["mean", "cls"]
# The pooling settings of sentence-transformers, relative to the model's folder.
POOLING_FILE = Path("1_Pooling") / "config.json"
# Number of texts that `check` samples, and the standard deviation below which their vectors count as equal.
SAMPLE_SIZE, MIN_SPREAD = 64, 1e-4


class Encoder(Teacher):
    """A teacher whose `logits` are sentence vectors, [batch, hidden size].

    Args:
        source: a folder or Hub name of a pretrained encoder, or a loaded model (then with its `tokenizer`).
        pooling: "mean" over tokens, or "cls", the first token; by default from the model's folder, else mean.
        max_length: as in `Teacher`.
        dtype: as in `Teacher`.

    Raises:
        ModelError: no such model, no weights, or unknown pooling.
    """

    fields: ClassVar[frozenset[str]] = FIELDS - {ATTRIBUTIONS}

    def __init__(
        self,
        source: str | Path | PreTrainedModel,
        tokenizer: Any = None,
        pooling: Pooling | None = None,
        max_length: int = MAX_LENGTH,
        dtype: str | None = None,
    ) -> None:
        model, tokenizer = (source, tokenizer) if isinstance(source, PreTrainedModel) else load_body(source)
        if pooling not in (None, *get_args(Pooling)):
            raise ModelError(f"No pooling {pooling!r}. Expected one of {', '.join(get_args(Pooling))}.")
        self.pooling = pooling or pooling_of(source)
        dimensions = tuple(map(str, range(model.config.hidden_size)))
        super().__init__(model, tokenizer, max_length, dtype, Task("vectors", dimensions))

    def _run(self, inputs: Mapping[str, Tensor], fields: Collection[str]) -> dict[str, Any]:
        found = super()._run(inputs, fields)
        found["logits"] = pooled(found["last_hidden_state"].float(), inputs["attention_mask"], self.pooling)
        return found

    def _forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        with autocast(self.model.device, self.dtype):
            vectors: Tensor = self._run(inputs.to(self.model.device), ("logits",))["logits"]  # type: ignore[attr-defined]
        return vectors

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint, "pooling": self.pooling}

    def check(self, dataset: Dataset) -> None:
        """Raises ModelError if all sampled texts get the same vector."""
        _, first = np.unique(ids_of(dataset), return_index=True)
        sample = dataset.select(first[:SAMPLE_SIZE])["text"][:]
        vectors = torch.from_numpy(self.logits(sample))
        spread = float(vectors.std(0).max()) if len(sample) > 1 else 0.0
        if not spread >= MIN_SPREAD:
            raise ModelError(
                f"The teacher gives {len(sample)} different texts the same vector (spread {spread:.1g}). It is broken, "
                f"or pooling (--pooling) {self.pooling} does not suit it: try the other one."
            )


def pooled(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector per text: states [batch, length, size], mask [batch, length] -> [batch, size]."""
    if pooling == "cls":
        return states[:, 0]
    shares = mask.unsqueeze(-1).to(states.dtype)
    return (states * shares).sum(1) / shares.sum(1).clamp(min=1)


def pooling_of(source: Any) -> Pooling:
    """The pooling that the folder of an encoder records, by default the mean.

    Raises:
        ModelError: the encoder pools in another way.
    """
    path = Path(find_encoder(str(source))) / POOLING_FILE if isinstance(source, str | Path) else None
    if path is None or not path.is_file():
        return "mean"
    settings = json.loads(path.read_text())
    modes = [name.removeprefix("pooling_mode_") for name, value in settings.items() if value is True]
    modes = [settings["pooling_mode"]] if isinstance(settings.get("pooling_mode"), str) else modes
    known = {"mean_tokens": "mean", "cls_token": "cls", "mean": "mean", "cls": "cls"}
    found = [known.get(mode) for mode in modes if mode != "include_prompt"]
    if found not in (["mean"], ["cls"]):
        raise ModelError(f"{path} pools by {', '.join(modes)}, expected mean or cls. Set pooling (--pooling).")
    return "mean" if found == ["mean"] else "cls"
