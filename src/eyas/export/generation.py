"""Export an encoder-decoder: two ONNX graphs, an encoder and a step of a decoder with keys and values of the past."""

import logging
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from eyas._version import __version__
from eyas.data.readers import read_rows
from eyas.errors import ExportError
from eyas.evaluation.written import word_agreement
from eyas.export.onnx import SMALLEST_INT8_WEIGHT, convert, form_of, quantize, quiet, write_graph
from eyas.export.parity import Parity
from eyas.generation import TextGenerator
from eyas.kinds import GENERATION
from eyas.outputs import OutputFolder
from eyas.runtime.generation import DECODER, ENCODER, GenerationManifest, GenerationPredictor
from eyas.runtime.manifest import CARD, TOKENIZER
from eyas.training.folders import SAMPLE_FILE

logger = logging.getLogger("eyas")

# Required agreement of the words by the precision of the weights; texts that are compared, and those of the self-test.
SMALLEST_AGREEMENT = {"fp32": 0.98, "int8": 0.8}
COMPARED, TESTED = 64, 4
PARTS = ("key", "value")
# Settings of the search in transformers that the runtime lacks, with their values for none.
UNKNOWN: dict[str, tuple[Any, ...]] = {
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "min_length": (None, 0),
    "repetition_penalty": (None, 1.0),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "bad_words_ids": (None, []),
    "min_new_tokens": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "exponential_decay_length_penalty": (None,),
    "sequence_bias": (None, {}, []),
}


class _Encoder(nn.Module):
    """Token ids -> keys and values of each decoder layer's attention to the source."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        start = torch.full_like(input_ids[:, :1], self.model.config.decoder_start_token_id)
        found = self.model(
            input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=start, use_cache=True
        ).past_key_values
        return tuple(part for layer in found.cross_attention_cache.layers for part in (layer.keys, layer.values))


class _Step(nn.Module):
    """A word, and the keys and values of the words before it and of the source -> logits, keys and values."""

    def __init__(self, model: Any, layers: int) -> None:
        super().__init__()
        self.model, self.layers = model, layers

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        half = 2 * self.layers
        past, cross = states[:half], states[half:]
        cache = EncoderDecoderCache(
            [(past[2 * n], past[2 * n + 1], cross[2 * n], cross[2 * n + 1]) for n in range(self.layers)]
        )
        size = self.model.config.hidden_size
        unread = attention_mask.unsqueeze(-1).to(past[0].dtype).expand(-1, -1, size)  # the cache has what is read of it
        found = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=unread),
            attention_mask=attention_mask,
            decoder_input_ids=input_ids,
            past_key_values=cache,
            use_cache=True,
        )
        present = found.past_key_values.self_attention_cache.layers
        return (found.logits[:, -1], *(part for layer in present for part in (layer.keys, layer.values)))


def export_generation(
    model: str | Path,
    out: str | Path,
    int8: bool = False,
    texts: list[str] | None = None,
    min_agreement: float | None = None,
    overwrite: bool = False,
    max_length: int | None = None,
    beams: int | None = None,
) -> Parity:
    """Export an encoder-decoder to encoder.onnx, decoder.onnx, tokenizer.json, manifest.json and README.md.

    Args:
        model: its folder.
        int8: quantize the weights.
        texts: for the comparison with the original; by default the validation sample in `model`.
        min_agreement: required share of equal words; by default 0.98, and 0.8 with int8.
        max_length: maximum number of tokens of a source; by default, and at most, the model's.
        beams: of the beam search, 1 is greedy; by default as in the model's generation_config.json.

    Returns:
        How closely it matches.

    Raises:
        ExportError: the answers differ too much, or the model needs what the runtime lacks.
    """
    writer = TextGenerator.from_pretrained(model, beams)
    network: Any = writer.model.cpu()
    writer.max_length = min(writer.max_length, max_length or writer.max_length)
    _check(network, writer.tokenizer, str(model))
    sample = (texts or _sample(Path(model)))[:COMPARED]
    precision = "int8" if int8 else "fp32"
    settings: dict[str, Any] = {"command": "export", "model": str(Path(model).resolve()), "precision": precision}
    settings |= {"beams": beams, "max_length": writer.max_length}
    with OutputFolder(out, settings, overwrite, resumable=False) as folder:
        logger.info("Exporting %s to ONNX (%s).", model, precision)
        state = _write_graphs(network, folder)
        if int8:
            for name in (ENCODER, DECODER):
                with quiet():
                    quantize(folder / name, SMALLEST_INT8_WEIGHT)
        tokenizer = Tokenizer.from_str(writer.tokenizer.backend_tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.save(str(folder / TOKENIZER), pretty=False)
        manifest = _manifest(network, writer.max_length, precision, state)
        manifest.beams = beams or manifest.beams
        manifest.write(folder)
        exported = GenerationPredictor(folder)
        parity = _compare(writer.predict(sample), exported.predict(sample), precision, min_agreement)
        greedy = GenerationPredictor(folder, beams=1)
        tested = sorted(sample, key=len)[:TESTED]
        manifest.self_test = [
            {"text": text, "generated_text": found} for text, found in zip(tested, greedy.predict(tested), strict=True)
        ]
        manifest.write(folder)
        (folder / CARD).write_text(_card(Path(out).name, parity, network))
    return parity


def _write_graphs(model: Any, folder: Path) -> list[int]:
    """Write both graphs; returns heads and head size of the decoder's keys and values."""
    ids = torch.randint(3, min(50, model.config.vocab_size), (2, 5))
    mask = torch.ones_like(ids)
    batch, source, past = (torch.export.Dim(name) for name in ("batch", "source", "past"))
    texts, given = {0: batch, 1: source}, ["input_ids", "attention_mask"]
    with quiet(), torch.no_grad():
        crosses = _Encoder(model)(ids, mask)
        layers, (_, heads, _, size) = len(crosses) // 2, crosses[0].shape
        names = [f"{layer}.{part}" for layer in range(layers) for part in PARTS]
        own, pasts = [f"cross.{name}" for name in names], [f"past.{name}" for name in names]

        def encoder() -> Any:
            return convert(_Encoder(model), (ids, mask), given, own, (texts, texts))

        def step() -> Any:
            states = (*(torch.randn(2, heads, 3, size) for _ in crosses), *crosses)
            shapes = ({0: batch, 2: past},) * len(crosses) + ({0: batch, 2: source},) * len(crosses)
            outputs = ["logits", *(f"present.{name}" for name in names)]
            inputs = [*given, *pasts, *own]
            return convert(
                _Step(model, layers), (ids[:, :1], mask, *states), inputs, outputs, ({0: batch}, texts, shapes)
            )

        write_graph(form_of(model, given), encoder, model, folder / ENCODER)
        write_graph(form_of(model, [*given, *pasts, *own]), step, model, folder / DECODER)
    return [heads, size]


def _check(model: Any, tokenizer: Any, name: str) -> None:
    if not getattr(tokenizer, "is_fast", False):
        raise ExportError(
            f"{name} has no tokenizer.json (its tokenizer is none of `tokenizers`): it cannot be exported."
        )
    about = model.generation_config
    unknown = [one for one, none in UNKNOWN.items() if getattr(about, one, None) not in none]
    if unknown:
        raise ExportError(
            f"{name} writes with {unknown[0]}={getattr(about, unknown[0])!r}, which the exported model cannot. Remove "
            "it from its generation_config.json."
        )


def _manifest(model: Any, max_length: int, precision: str, state: list[int]) -> GenerationManifest:
    about = model.generation_config
    end = about.eos_token_id if about.eos_token_id is not None else model.config.eos_token_id
    start = about.decoder_start_token_id
    return GenerationManifest(
        precision=precision,
        max_length=max_length,
        longest=int(about.max_new_tokens + 1 if about.max_new_tokens else about.max_length),
        start=int(model.config.decoder_start_token_id if start is None else start),
        end=int(end[0] if isinstance(end, list) else end),
        forced=about.forced_bos_token_id,
        forced_end=last[0] if isinstance(last := about.forced_eos_token_id, list) else last,
        beams=int(about.num_beams or 1),
        length_penalty=float(1.0 if about.length_penalty is None else about.length_penalty),
        early_stopping=about.early_stopping or False,
        state=state,
    )


def _compare(expected: list[str], found: list[str], precision: str, least: float | None) -> Parity:
    """Raises ExportError if fewer words agree than required."""
    shares = word_agreement(expected, found)
    parity = Parity(len(shares), float(shares.mean()), 1 - float(shares.min()), GENERATION)
    least = SMALLEST_AGREEMENT[precision] if least is None else least
    if parity.agreement < least:
        worst = int(shares.argmin())
        raise ExportError(
            f"The exported model disagrees with the original: {parity}; required {least:g}. Nothing was exported. "
            "Export without --int8, or lower min_agreement (--min-agreement).\n"
            f"  {expected[worst]!r:.100} became {found[worst]!r:.100}"
        )
    return parity


def _sample(model: Path) -> list[str]:
    path = model / SAMPLE_FILE
    if not path.is_file():
        raise ExportError(f"{model} has no {SAMPLE_FILE}, so there are no texts to compare. Pass texts (--data).")
    return [row["text"] for _, row in read_rows(path)]


def _card(name: str, parity: Parity, model: Any) -> str:
    family = model.config.model_type.removeprefix("eyas-")
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    head = "---\nlibrary_name: eyas\npipeline_tag: text2text-generation\nlicense: unknown\ntags:\n- eyas\n- onnx\n---\n"
    return (
        f"{head}# {name}\n\nA {family} encoder-decoder of {millions:.1f} million parameters that "
        f"writes texts, exported by eyas {__version__}. Compared with the original: {parity}.\n\n"
        f'```python\nfrom eyas.serve import Predictor\n\nprint(Predictor("{name}")(["some text"]))\n```\n\n'
        "It is meant for text like its training data. What it writes can be wrong, whatever it sounds like.\n"
    )
