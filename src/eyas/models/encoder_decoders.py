"""Encoder-decoders of transformers: new ones, and smaller ones of a teacher's family."""

import copy
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    GenerationConfig,
    MarianConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
)

from eyas.errors import ModelError
from eyas.models.gru import gru_of
from eyas.models.positions import position_count
from eyas.models.transformer import chosen_layers
from eyas.settings import GRU, StudentSettings, is_folder

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
FAMILIES: dict[str, Any] = {"marian": MarianConfig, "bart": BartConfig, "t5": T5Config}
# For each size, its names in the configurations of the families; a model has those of one of them.
NAMES: dict[str, tuple[str, ...]] = {
    "layers": ("encoder_layers", "num_layers"),
    "decoder_layers": ("decoder_layers", "num_decoder_layers"),
    "hidden_size": ("d_model",),
    "heads": ("encoder_attention_heads", "decoder_attention_heads", "num_heads"),
    "feed_forward": ("encoder_ffn_dim", "decoder_ffn_dim", "d_ff"),
}
# The place of a layer in the name of a parameter. T5's first layer holds the positions of all of them.
_LAYER = re.compile(r"\b(encoder|decoder)\.(layers|block)\.(\d+)\.(?!.*relative_attention_bias)")


@dataclass(frozen=True)
class ScratchSizes:
    """The sizes of a model from scratch; `layers` are those of the encoder and of the decoder."""

    layers: int = 3
    hidden_size: int = 256
    heads: int = 4
    feed_forward: int = 1024
    vocab_size: int = 8000


def scratch_sizes(model: str) -> tuple[str, ScratchSizes] | None:
    """`marian:layers=2,hidden_size=64` -> the family and its sizes; None for the name of a pretrained model.

    Raises:
        ModelError: an unknown size, or no whole number above 0.
    """
    family, _, given = model.partition(":")
    if family not in FAMILIES or is_folder(model):
        return None
    pairs = [part.partition("=") for part in given.split(",") if part]
    known = [field.name for field in fields(ScratchSizes)]
    wrong = next((name for name, _, value in pairs if name not in known or not value.isdigit() or value == "0"), None)
    if wrong is not None:
        raise ModelError(
            f"model (--model) is {model!r}: expected {family}, or its sizes as {family}:layers=3,hidden_size=256, of "
            f"{', '.join(known)}."
        )
    return family, ScratchSizes(**{name: int(value) for name, _, value in pairs})


def from_scratch(family: str, sizes: ScratchSizes, texts: Iterable[str], max_length: int) -> tuple[Any, Any]:
    """A random model, and a byte-pair tokenizer trained on `texts`."""
    backend = Tokenizer(models.BPE(unk_token=UNKNOWN))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")]
    )
    backend.decoder = decoders.Metaspace()
    specials = [PAD, END, UNKNOWN]
    trainer = trainers.BpeTrainer(vocab_size=sizes.vocab_size, special_tokens=specials, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(f"$A {END}", special_tokens=[(END, 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, model_max_length=max_length
    )
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    special = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "decoder_start_token_id": 0}
    # Scaled word vectors (Vaswani et al. 2017, 3.4) start a third as large as positions: larger ones learn late.
    more = {"scale_embedding": True, "init_std": 0.32 * sizes.hidden_size**-0.5}
    more |= {"max_position_embeddings": max_length, "forced_eos_token_id": None}
    config = FAMILIES[family](vocab_size=len(tokenizer), **special, **({} if family == "t5" else more))
    _resize(config, {**asdict(sizes), "decoder_layers": sizes.layers})
    return _new(config), tokenizer


def student_of(teacher: PreTrainedModel, settings: StudentSettings) -> Any:
    """A smaller model of the teacher's family, started from the teacher's layers if it is as wide; or a `gru`.

    Raises:
        ModelError: the family's sizes have unknown names, or the settings do not fit.
    """
    if settings.architecture == GRU:
        return gru_of(teacher, settings.hidden_size, settings.init == "random")
    config = copy.deepcopy(teacher.config)
    wide = settings.hidden_size in (None, config.d_model) if hasattr(config, "d_model") else True
    start = settings.init or ("first" if wide else "random")
    if start != "random" and not wide:
        raise ModelError(
            f"init (--init) is {start}, but the hidden size is {settings.hidden_size}, the teacher's {config.d_model}: "
            "its layers cannot be copied. Set init to random."
        )
    sizes = {name: getattr(settings, name) for name in NAMES}
    before = _resize(copy.deepcopy(config), {})
    sizes |= {"layers": settings.layers or min(2, before["layers"]), "decoder_layers": settings.decoder_layers or 1}
    _resize(config, sizes)
    student = _new(config)
    if start == "random":
        return student
    if sizes["decoder_layers"] > before["decoder_layers"]:
        raise ModelError(
            f"decoder_layers (--decoder-layers) is {sizes['decoder_layers']}, but the teacher's decoder has "
            f"{before['decoder_layers']} to copy. Lower it, or set init (--init) to random."
        )
    chosen = {
        side: chosen_layers(start if start in ("first", "last", "skip") or side == "encoder" else "first", count, of)
        for side, count, of in (
            ("encoder", sizes["layers"], before["layers"]),
            ("decoder", sizes["decoder_layers"], before["decoder_layers"]),
        )
    }
    weights = teacher.state_dict()

    def theirs(found: re.Match[str]) -> str:
        return f"{found[1]}.{found[2]}.{chosen[found[1]][int(found[3])] - 1}."

    with torch.no_grad():
        for name, value in student.state_dict().items():
            source = weights.get(_LAYER.sub(theirs, name))
            if source is not None and source.shape == value.shape:
                value.copy_(source)
    return student


def _new(config: Any) -> Any:
    model: Any = AutoModelForSeq2SeqLM.from_config(config)
    model.generation_config = GenerationConfig.from_model_config(config)
    return model


def _resize(config: Any, sizes: dict[str, Any]) -> dict[str, Any]:
    """Set sizes that are not None, and return all.

    Raises:
        ModelError: no known name for a size, or heads that do not divide the hidden size.
    """
    before, found = {}, {}
    for size, names in NAMES.items():
        own = [name for name in names if name in vars(config)]
        if not own:
            raise ModelError(
                f"Cannot make a smaller {config.model_type}: its configuration has no known name for {size}. Choose a "
                "teacher such as T5, BART or Marian."
            )
        before[size] = getattr(config, own[0])
        for name in own if sizes.get(size) else ():
            setattr(config, name, sizes[size])
        found[size] = getattr(config, own[0])
    # T5's heads have a size of their own, which a model that is not resized keeps.
    keeps = "d_kv" in vars(config) and all(found[size] == before[size] for size in ("hidden_size", "heads"))
    if found["hidden_size"] % found["heads"] and not keeps:
        raise ModelError(
            f"hidden_size (--hidden-size) is {found['hidden_size']}, expected a multiple of the {found['heads']} heads "
            "(--heads)."
        )
    if "d_kv" in vars(config) and not keeps:
        config.d_kv = found["hidden_size"] // found["heads"]
    return found


def check_lengths(model: PreTrainedModel, max_length: int) -> None:
    """Raise ModelError if the model has fewer positions than `max_length`."""
    positions = position_count(model)
    if positions and positions < max_length:
        raise ModelError(
            f"max_length (--max-length) is {max_length}, but the model has {positions} positions. Lower it to those."
        )
