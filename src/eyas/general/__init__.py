"""General students: families that come with the package, pretrained on an encoder before any task.

A family is a folder beside this file, in a compact form: no heads, matrices in int8 with a scale a row, the rest in
float16. `$EYAS_GENERAL` may name another folder of families, also of those that pretrain-student writes.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers
from torch import Tensor
from transformers import AutoTokenizer

from eyas.errors import ModelError
from eyas.models import FamilyConfig, FamilyForSequenceClassification
from eyas.models.loading import load_classifier
from eyas.settings import GENERAL
from eyas.text import clean_texts

FOLDER = Path(__file__).parent
WEIGHTS = "weights.safetensors"
SCALE = ".scale"
HEADS = ("head", "token_heads")
# The smallest share of running words that a family must have as one token to be a start, and the texts that are read.
FEWEST_KNOWN, SAMPLE_TEXTS = 0.6, 2000


def families() -> dict[str, Path]:
    """The families by the name for `init`: general-en and so on, the smallest first."""
    folder = Path(os.environ.get("EYAS_GENERAL", FOLDER)).expanduser()
    found = [path.parent for path in folder.glob("*/config.json") if _is_family(path)]
    found.sort(key=lambda family: _weights(family).stat().st_size)
    return {f"{GENERAL}-{family.name}": family for family in found}


def _is_family(config: Path) -> bool:
    return bool(json.loads(config.read_text()).get("model_type") == FamilyConfig.model_type)


def _weights(family: Path) -> Path:
    return next(path for path in (family / WEIGHTS, family / "model.safetensors") if path.exists())


def check_general(name: str) -> None:
    """Raises ModelError if there is no such family."""
    known = families()
    if name not in known:
        raise ModelError(f"init (--init) is {name!r}, expected one of {', '.join([GENERAL, *known])}.")


def read_general(name: str) -> tuple[FamilyForSequenceClassification, Any]:
    """A family and its tokenizer; its heads may be new.

    Raises:
        ModelError: there is no such family.
    """
    check_general(name)
    known = families()
    if (known[name] / WEIGHTS).exists():
        return read_compact(known[name])
    model, tokenizer = load_classifier(known[name])
    assert isinstance(model, FamilyForSequenceClassification)
    return model, tokenizer


def fingerprint_of_family(name: str) -> str:
    """A checksum of the family's weights, configuration and tokenizer; empty if there is no such family."""
    folder = families().get(name)
    return "" if folder is None else _checksum(folder)


@cache
def _checksum(folder: Path) -> str:
    content = hashlib.sha256()
    for path in (folder / "config.json", folder / "tokenizer.json", _weights(folder)):
        content.update(path.read_bytes())
    return content.hexdigest()


def config_of(name: str) -> FamilyConfig:
    """The configuration of a family."""
    return FamilyConfig.from_pretrained(families()[name])


def shares_of_known_words(texts: Sequence[str], max_length: int) -> dict[str, float]:
    """The share of the running words that each family knows, the largest first."""
    found = {name: known_words(tokenizer_of(name).backend_tokenizer, texts, max_length) for name in families()}
    return dict(sorted(found.items(), key=lambda share: -share[1]))


def known_words(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> float:
    """The share of the running words that are one known token. Words are runs of letters and digits."""
    split, words = pre_tokenizers.BertPreTokenizer(), []
    for text in clean_texts(list(texts[:SAMPLE_TEXTS]), max_length):
        words += [word for word, _ in split.pre_tokenize_str(text) if any(letter.isalnum() for letter in word)]
    tokenizer.no_padding()
    encoded = tokenizer.encode_batch([[word] for word in words], is_pretokenized=True, add_special_tokens=False)
    unknown = {tokenizer.token_to_id("[UNK]"), None}
    known = sum(len(word.ids) == 1 and word.ids[0] not in unknown for word in encoded)
    return known / len(words) if words else 0.0


def tokenizer_of(name: str) -> Any:
    return AutoTokenizer.from_pretrained(families()[name])


def write_compact(model: FamilyForSequenceClassification, tokenizer: Any, folder: Path) -> None:
    """Write a family's encoders and word vectors to `folder`."""
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if not set(HEADS) & set(name.split(".")):
            tensors |= _quantized(name, value) if value.dim() == 2 else {name: _half(value)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)
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
    return model, AutoTokenizer.from_pretrained(folder)


def _quantized(name: str, weight: Tensor) -> dict[str, Tensor]:
    scale = (weight.abs().amax(1) / 127).clamp(min=1e-7).half()
    return {name: (weight / scale.float().unsqueeze(1)).round().clamp(-127, 127).to(torch.int8), name + SCALE: scale}


def _half(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value
