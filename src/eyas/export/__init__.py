"""Export a trained classifier to a folder that runs without torch."""

import copy
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from eyas._version import __version__
from eyas.compression import LARGEST, PACKED, rounded_copy, shrunk
from eyas.data.readers import inputs_of, read_rows
from eyas.errors import ExportError
from eyas.export.arrays import find_arrays
from eyas.export.browser import check_page, runtime_files
from eyas.export.generation import export_generation
from eyas.export.model_card import run_settings, write_model_card
from eyas.export.onnx import input_names, write_onnx
from eyas.export.openvino import write_openvino
from eyas.export.parity import Parity, check_parity
from eyas.export.web import write_web
from eyas.models import is_student
from eyas.models.classifier import Classifier
from eyas.models.loading import embedding_rows, is_seq2seq_folder, task_folders
from eyas.outputs import OutputFolder
from eyas.runtime.manifest import MODEL, TOKENIZER, Manifest
from eyas.runtime.openvino import OpenVINOPredictor, load_openvino
from eyas.runtime.predictor import Predictor
from eyas.runtime.tokens import find_alike
from eyas.tasks import CALIBRATION, COMPRESSION
from eyas.text import wrong_shape
from eyas.training.folders import SAMPLE_FILE

logger = logging.getLogger("eyas")

# Temporary: the unquantized graph, which OpenVINO is made from.
FP32 = "fp32.onnx"
SELF_TEST_TEXTS = 8
# Required agreement and tolerated difference of scores, by the precision of the weights.
SMALLEST_AGREEMENT = {"fp32": 1.0, "half": 0.98, "int8": 0.98, "int4": 0.98, "ternary": 0.98}
TOLERANCE = {"fp32": 0.001, "half": 0.01, "int8": 0.05, "int4": 0.05, "ternary": 0.05}


def export_model(
    model: str | Path,
    out: str | Path,
    int8: bool = False,
    texts: list[tuple[Any, ...]] | None = None,
    min_agreement: float | None = None,
    overwrite: bool = False,
    max_length: int | None = None,
    web: bool = False,
    web_runtime: str | Path | None = None,
    openvino: bool = False,
    abstain_below: float = 0.0,
    int4: bool = False,
    ternary: bool = False,
    beams: int | None = None,
) -> Parity:
    """Export a student or teacher folder to ONNX.

    Args:
        model: the folder of a trained classifier, or of a student of several tasks.
        out: gets model.onnx, tokenizer.json, manifest.json and README.md; for several tasks, the last two are also in a
            folder for each.
        int8: quantize to int8, about a quarter of the size.
        texts: real texts for the parity check: 1-tuples, pairs, or for a tagger 1-tuples of lists of words; by default
            the validation sample in `model`.
        min_agreement: required share of equal answers, for regression R²; by default 1.0, and 0.98 with int8.
        max_length: maximum number of tokens per text; by default, and at most, the model's.
        web: also write a folder `web` that runs in the browser; see `eyas.export.web`.
        web_runtime: the folder `dist` of the npm package onnxruntime-web, to copy into `web`; "npm" gets it through
            npm. The page is then opened in headless Chromium, if there is one, as a check.
        openvino: also write a folder `openvino`, weights in float16; see `eyas.serve.OpenVINOPredictor`.
        abstain_below: confidence below which the exported model gives no label; see `PredictMixin.abstain`.
        int4: store weights in 4 bits, and compute as with int8.
        ternary: store weights in 2 bits. A model that was trained so (`eyas.compress`) keeps its answers, and `int8`
            alone stores it so; others lose much.
        beams: of the beam search of a model that writes; by default as in its generation_config.json.

    Returns:
        How closely the exported model matches the original.

    Raises:
        ExportError: the exported model differs too much, there are no texts to check it with, or the page does not
            load.
    """
    if min_agreement is not None and math.isnan(min_agreement):
        raise ExportError("min_agreement (--min-agreement) is NaN, expected a number, usually at most 1.")
    if is_seq2seq_folder(model):
        wanted = {"web": web, "openvino": openvino, "abstain_below": abstain_below, "int4": int4, "ternary": ternary}
        wrong = next((name for name, value in wanted.items() if value), None)
        if wrong:
            raise ExportError(f"{model} writes texts: leave {wrong} (--{wrong.replace('_', '-')}) out.")
        firsts = None if texts is None else [row[0] for row in texts]
        return export_generation(model, out, int8, firsts, min_agreement, overwrite, max_length, beams)
    if beams is not None:
        raise ExportError(f"beams (--beams) is for models that write; {model} does not. Leave it out.")
    if openvino:
        load_openvino()  # fail now if it is missing
    if web_runtime is not None and not web:
        raise ExportError("web_runtime (--web-runtime) needs web (--web): pass both, or neither.")
    given = [name for name, wanted in (("int8", int8), ("int4", int4), ("ternary", ternary)) if wanted]
    if len(given) > 1:
        raise ExportError(f"Expected one precision, got {' and '.join(given)} (--{' --'.join(given)}). Leave one out.")
    if tasks := task_folders(model):
        from eyas.export.several_tasks import export_tasks

        refused = {"texts (--data)": texts, "web (--web)": web, "openvino (--openvino)": openvino,
                   "max_length": max_length, "abstain_below (--abstain-below)": abstain_below}  # fmt: skip
        if unfit := [name for name, value in refused.items() if value]:
            raise ExportError(f"{model} is a student of several tasks, exported without {unfit[0]}. Leave it out.")
        return export_tasks(tasks, out, given[0] if given else "fp32", min_agreement, overwrite)
    classifier = Classifier.from_pretrained(model)
    classifier.abstain(abstain_below)
    if web and classifier.row_fields:
        raise ExportError("Models of rows of fields do not run in the browser: leave web (--web) out.")
    classifier.max_length = min(classifier.max_length, max_length or classifier.max_length)
    firsts, seconds = columns_of(texts or sample_of(Path(model)), classifier)
    pair = seconds is not None
    model_made, precision = stored(classifier.model, Path(model), given[0] if given else "fp32")
    settings: dict[str, Any] = {"command": "export", "model": str(Path(model).resolve()), "precision": precision}
    settings |= {"web": web, "openvino": openvino, "abstain_below": abstain_below, "max_length": classifier.max_length}
    with runtime_files(web_runtime) as runtime, OutputFolder(out, settings, overwrite, resumable=False) as folder:
        names = input_names(classifier.model, classifier.tokenizer)
        logger.info("Exporting %s to ONNX (%s).", model, precision)
        write_onnx(model_made, names, folder / MODEL, precision)
        write_tokenizer(classifier, folder / TOKENIZER, cut=is_cut_before(classifier))
        manifest = manifest_of(classifier, folder / TOKENIZER, precision, firsts, seconds)
        manifest.abstain_below = abstain_below
        manifest.arrays = find_arrays(folder / MODEL, classifier.model)
        parity = checked(manifest, folder, classifier, firsts, seconds, min_agreement)
        if web:
            page = write_web(folder, Path(out).name, runtime, None if is_student(classifier.model) else classifier)
            if runtime:
                unchecked = check_page(page, Path(out).name)
                said = f"was not opened as a check: {unchecked}" if unchecked else "loads in Chromium"
                logger.info("The page %s.", said)
        if openvino:
            graph = write_onnx(model_made, names, folder / FP32) if precision != "fp32" else folder / MODEL
            manifest.openvino = write_openvino(graph, folder)
            (folder / FP32).unlink(missing_ok=True)
            manifest.write(folder)
            least = SMALLEST_AGREEMENT["half"] if min_agreement is None else min_agreement
            half = check_parity(classifier, OpenVINOPredictor(folder), firsts, seconds, least)
            if half.difference > TOLERANCE["half"] * _scale(classifier, firsts, seconds):
                raise _differs_on_openvino(half, pair)
        write_model_card(folder, Path(out).name, manifest, classifier.model, parity, run_settings(Path(model)))
    return parity


def columns_of(sample: list[tuple[Any, ...]], classifier: Classifier) -> tuple[list[Any], list[str] | None]:
    """The first texts, or sentences, and of pairs the second ones.

    Raises:
        DataError: pairs for a student of single texts, or the reverse.
        ExportError: no texts.
    """
    if not sample:
        raise ExportError("There are no texts for the parity check: expected at least one (texts, --data).")
    pair, pairs = bool(getattr(classifier.model.config, "pair", False)), len(sample[0]) == 2
    if pair != pairs and is_student(classifier.model):
        raise wrong_shape(pair)
    return [row[0] for row in sample], [row[1] for row in sample] if pairs else None


def manifest_of(
    classifier: Classifier, tokenizer: Path, precision: str, firsts: list[Any], seconds: list[str] | None
) -> Manifest:
    """The manifest of a classifier whose tokenizer is written; the self-test is missing."""
    single = seconds is None and not classifier.task.is_tagging and not classifier.row_fields
    return Manifest(
        task=classifier.task.kind,
        labels=classifier.label_names,
        data_labels=classifier.data_labels,
        precision=precision,
        max_length=classifier.max_length,
        vocab_size=embedding_rows(classifier.model),
        pair=seconds is not None,
        self_test=[],
        tolerance=TOLERANCE[precision] * _scale(classifier, firsts, seconds),
        unknown=classifier.tokenizer.unk_token,
        tokie=find_alike(tokenizer, classifier.max_length, firsts) if single else None,
        fields=list(classifier.row_fields),
        crf=_crf(classifier.model),
        calibration=getattr(classifier.model.config, CALIBRATION, None),
        eyas_version=__version__,
    )


def checked(
    manifest: Manifest,
    folder: Path,
    classifier: Classifier,
    firsts: list[Any],
    seconds: list[str] | None,
    min_agreement: float | None,
) -> Parity:
    """Write the manifest of `folder`, compare its answers with those of `classifier`, and add the self-test.

    Raises:
        ExportError: the exported model differs too much.
    """
    manifest.write(folder)
    exported = Predictor(folder)
    smallest = SMALLEST_AGREEMENT[manifest.precision] if min_agreement is None else min_agreement
    parity = check_parity(classifier, exported, firsts, seconds, smallest)
    manifest.self_test = _self_test(exported, firsts, seconds)
    manifest.write(folder)
    return parity


def stored(model: Any, folder: Path, precision: str) -> tuple[Any, str]:
    """The model as it is exported, and its precision: a model that was trained with few bits keeps them in int8.

    Raises:
        ExportError: it was trained with fewer bits than `precision` keeps, or with more.
    """
    trained = next(
        (name for name in getattr(model.config, COMPRESSION, None) or () if name.split(":")[0] in LARGEST), ""
    )
    kind = trained.split(":")[0]
    if kind and precision in PACKED and precision != kind:
        raise ExportError(f"The model was trained as {kind}, got --{precision}. Export it with --int8.")
    made = shrunk(model, folder)
    if kind and precision == "int8":
        return made, kind
    if precision in PACKED and not kind:
        made = rounded_copy(copy.deepcopy(made), precision)
    return made, precision


def _differs_on_openvino(parity: Parity, pair: bool) -> ExportError:
    reason = (
        " OpenVINO ignores the lengths of texts in an LSTM's batch, and bilstm and cnn-lstm read a pair as a batch."
        if pair
        else ""
    )
    return ExportError(
        f"Scores on OpenVINO differ from the model's by up to {parity.difference:.3f}.{reason} Leave openvino "
        "(--openvino) out, or choose another student. Nothing was exported."
    )


def is_cut_before(classifier: Classifier) -> bool:
    """Whether texts are cut before the graph: a student cuts each text of a pair itself, and words have windows."""
    if classifier.task.is_tagging or classifier.row_fields:
        return False
    return not (classifier.pair and is_student(classifier.model))


def write_tokenizer(classifier: Classifier, path: Path, cut: bool) -> None:
    """Write tokenizer.json; with `cut`, it cuts texts to the model's maximum length."""
    state = json.loads(classifier.tokenizer.backend_tokenizer.to_str())
    if cut and state["model"]["type"] == "WordLevel":
        state = as_wordpiece(state)
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.no_padding()
    if cut:
        tokenizer.enable_truncation(classifier.max_length)
    else:
        tokenizer.no_truncation()
    tokenizer.save(str(path), pretty=False)


def as_wordpiece(state: dict[str, Any]) -> dict[str, Any]:
    """Turn a word-level tokenizer.json into WordPiece without continuations, which tokie reads."""
    model, normalizer = state["model"], state["normalizer"]
    if normalizer == {"type": "Lowercase"}:
        others = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents"), False)
        normalizer = {"type": "BertNormalizer", "lowercase": True, **others}
    pieces = {
        "type": "WordPiece",
        "vocab": model["vocab"],
        "unk_token": model["unk_token"],
        "continuing_subword_prefix": " ",  # no token starts with it
        "max_input_chars_per_word": max(map(len, model["vocab"])),
    }
    return {**state, "model": pieces, "normalizer": normalizer}


def _scale(classifier: Classifier, firsts: list[Any], seconds: list[str] | None) -> float:
    """Scale of the outputs: the largest absolute number, at least 1. Probabilities have 1."""
    if classifier.task.decides:
        return 1.0
    return max(1.0, float(np.abs(classifier.logits(firsts, seconds)).max()))


def _crf(model: Any) -> dict[str, Any] | None:
    """The scores of a CRF for the runtime; None without a CRF."""
    if not getattr(model.config, "crf", False):
        return None
    return {name: getattr(model.crf, name).detach().tolist() for name in ("start", "end", "transitions")}


def _self_test(exported: Predictor, firsts: list[Any], seconds: list[str] | None) -> list[dict[str, Any]]:
    """Short texts, so that loading stays fast, with their probabilities on this machine."""
    rows = sorted(range(len(firsts)), key=lambda row: len(firsts[row]))[: SELF_TEST_TEXTS * 4 : 4]
    name = "tokens" if exported.task.is_tagging else "text"
    tests = []
    for row in rows:
        pair = None if seconds is None else [seconds[row]]
        probabilities = exported.task.probabilities(exported.logits([firsts[row]], pair)).reshape(-1)
        texts = {name: firsts[row], **({"text_pair": pair[0]} if pair else {})}
        tests.append({**texts, "probabilities": [round(float(p), 6) for p in probabilities]})
    return tests


def sample_of(model: Path) -> list[tuple[Any, ...]]:
    """The validation texts in a model's folder."""
    path = model / SAMPLE_FILE
    if not path.is_file():
        raise ExportError(
            f"{model} has no {SAMPLE_FILE}, so there are no texts for the parity check. Pass texts (--data)."
        )
    return [inputs_of(row) for _, row in read_rows(path)]


__all__ = ["Parity", "export_model"]
