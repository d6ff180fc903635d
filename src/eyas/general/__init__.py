"""General students: families that come with the package, pretrained on an encoder before any task.

A family is a folder beside this file, in a compact form: no heads, matrices in int8 with a scale a row, the rest in
float16.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from eyas.errors import ModelError
from eyas.models import FamilyConfig, FamilyForSequenceClassification
from eyas.settings import GENERAL
from eyas.text import clean_texts

logger = logging.getLogger("eyas")

FOLDER = Path(__file__).parent
WEIGHTS = "weights.safetensors"
SCALE = ".scale"
HEADS = ("head", "token_heads")
# The smallest share of running words that a family must have as one token to be a start, and the texts that are read.
FEWEST_KNOWN, SAMPLE_TEXTS = 0.6, 2000


def families() -> dict[str, Path]:
    """The families by the name for `init`: general-en and so on, the smallest first.

    They are the package's or, if the variable is set, those of the folder `$EYAS_GENERAL`.
    """
    folder = Path(os.environ.get("EYAS_GENERAL", FOLDER)).expanduser()
    found = [path.parent for path in folder.glob(f"*/{WEIGHTS}")]
    found.sort(key=lambda family: (family / WEIGHTS).stat().st_size)
    return {f"{GENERAL}-{family.name}": family for family in found}


def read_general(name: str) -> tuple[FamilyForSequenceClassification, Any]:
    """A family and its tokenizer; its heads are new.

    Raises:
        ModelError: there is no such family.
    """
    known = families()
    if name not in known:
        raise ModelError(f"init (--init) is {name!r}, expected one of {', '.join([GENERAL, *known])}.")
    return read_compact(known[name])


@cache
def fingerprints() -> dict[str, str]:
    """A checksum of the weights of each family."""
    return {name: hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() for name, folder in families().items()}


def config_of(name: str) -> FamilyConfig:
    """The configuration of a family."""
    return FamilyConfig.from_pretrained(families()[name])


def best_family(texts: Sequence[str], max_length: int) -> tuple[str, float]:
    """The family that knows most of the words of `texts`, and the share that it knows; ("", 0.0) without any."""
    shares = {name: known_words(tokenizer_of(family), texts, max_length) for name, family in families().items()}
    best = max(shares, key=lambda name: shares[name], default="")
    return best, shares.get(best, 0.0)


def known_words(tokenizer: Any, texts: Sequence[str], max_length: int) -> float:
    """The share of the running words that are one known token."""
    backend, known, count = tokenizer.backend_tokenizer, 0, 0
    for encoding in backend.encode_batch(clean_texts(list(texts[:SAMPLE_TEXTS]), max_length), add_special_tokens=False):
        words = np.array([-1 if word is None else word for word in encoding.word_ids])
        words[np.array(encoding.ids) == tokenizer.unk_token_id] = -1
        pieces = np.bincount(words[words >= 0]) if (words >= 0).any() else np.zeros(0)
        known += int((pieces == 1).sum())
        count += len(set(encoding.word_ids) - {None})
    return known / count if count else 0.0


def tokenizer_of(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def write_compact(model: FamilyForSequenceClassification, tokenizer: Any, folder: Path) -> None:
    """Write a family's encoders and word vectors to `folder`."""
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if not set(HEADS) & set(name.split(".")):
            tensors |= _quantized(name, value) if value.dim() == 2 else {name: _half(value)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS)
    config = FamilyConfig.from_dict({**model.config.to_dict(), "id2label": {0: "0"}, "label2id": {"0": 0}})
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_compact(folder: Path) -> tuple[FamilyForSequenceClassification, Any]:
    """What `write_compact` wrote, in float32 and eval mode."""
    model = FamilyForSequenceClassification(FamilyConfig.from_pretrained(folder))
    stored = load_file(folder / WEIGHTS)
    weights = {}
    for name, value in stored.items():
        if not name.endswith(SCALE):
            scale = stored.get(name + SCALE)
            weights[name] = value if not value.is_floating_point() and scale is None else value.float()
            if scale is not None:
                weights[name] *= scale.float().unsqueeze(1)
    _, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    model.train(False)
    return model, tokenizer_of(folder)


def _quantized(name: str, weight: Tensor) -> dict[str, Tensor]:
    scale = (weight.abs().amax(1) / 127).clamp(min=1e-8).half()
    return {name: (weight / scale.float().unsqueeze(1)).round().clamp(-127, 127).to(torch.int8), name + SCALE: scale}


def _half(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value
