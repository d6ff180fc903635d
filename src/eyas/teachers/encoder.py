"""A pretrained encoder that was fine-tuned for nothing: it teaches its sentence vectors."""

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
from eyas.errors import ModelError
from eyas.models.inside import ATTRIBUTIONS, FIELDS
from eyas.models.loading import load_body
from eyas.settings import MAX_LENGTH
from eyas.tasks import Task
from eyas.teachers.live import Teacher, autocast

Pooling = Literal["mean", "cls"]
# What sentence-transformers writes beside a model.
POOLING_FILE = Path("1_Pooling") / "config.json"
# Texts looked at, and the spread of their vectors' elements below which all are one.
LOOKED_AT, LEAST_SPREAD = 64, 1e-4


class Encoder(Teacher):
    """A teacher whose `logits` are sentence vectors, [batch, size of its layers].

    Args:
        source: a folder or Hub name of a pretrained encoder, or a loaded model (then with its `tokenizer`).
        pooling: "mean" over the tokens or "cls", the first one; by default what the folder says, else mean.
        max_length: as in `Teacher`.
        dtype: as in `Teacher`.

    Raises:
        ModelError: no such model, or one without weights.
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
        self.pooling = pooling or _own_pooling(source)
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
        """Raises ModelError where all of `dataset` get one vector: there is nothing to learn from."""
        _, first = np.unique(ids_of(dataset), return_index=True)
        sample = dataset.select(first[:LOOKED_AT])["text"][:]
        vectors = torch.from_numpy(self.logits(sample))
        spread = float(vectors.std(0).max()) if len(sample) > 1 else 0.0
        if not spread >= LEAST_SPREAD:
            raise ModelError(
                f"The teacher gives {len(sample)} different texts the same vector (spread {spread:.1g}). It is broken, "
                f"or --pooling {self.pooling} reads a token that says nothing: try the other one."
            )


def pooled(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector a text: states [batch, length, size], mask [batch, length] -> [batch, size]."""
    if pooling == "cls":
        return states[:, 0]
    shares = mask.unsqueeze(-1).to(states.dtype)
    return (states * shares).sum(1) / shares.sum(1).clamp(min=1)


def _own_pooling(source: Any) -> Pooling:
    path = Path(source) / POOLING_FILE if isinstance(source, str | Path) else None
    if path is None or not path.is_file():
        return "mean"
    settings = json.loads(path.read_text())
    modes = [name.removeprefix("pooling_mode_") for name, value in settings.items() if value is True]
    modes = [settings["pooling_mode"]] if isinstance(settings.get("pooling_mode"), str) else modes
    known = {"mean_tokens": "mean", "cls_token": "cls", "mean": "mean", "cls": "cls"}
    found = [known.get(mode) for mode in modes if mode != "include_prompt"]
    if found not in (["mean"], ["cls"]):
        raise ModelError(f"{path} pools by {', '.join(modes)}; here it is mean or cls. Choose one with --pooling.")
    return "mean" if found == ["mean"] else "cls"
