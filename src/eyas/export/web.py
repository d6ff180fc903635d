"""An exported student as a folder that runs in the browser: onnxruntime-web, and the tokenizer in JavaScript."""

import json
import shutil
from pathlib import Path
from typing import Any

from eyas.errors import ExportError
from eyas.models.classifier import Classifier
from eyas.runtime.manifest import MANIFEST, MODEL, TOKENIZER, Manifest

SOURCES = Path(__file__).parents[1] / "runtime" / "web"
WEB, RUNTIME = "web", "ort"
# What the page needs of onnxruntime-web's folder `dist`.
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
# Where transformers.js looks for a graph of that precision.
GRAPHS = {"fp32": Path("onnx", "model.onnx"), "int8": Path("onnx", "model_quantized.onnx")}
DTYPES = {"fp32": "fp32", "int8": "q8"}
# Tasks whose answers its pipelines give.
PIPELINES = {"classification": "text-classification", "tagging": "token-classification"}
# What eyas.js has of normalizers, pre-tokenizers and post-processors, for each kind of tokenizer.
_WORDS: dict[str, tuple[str | None, ...]] = {
    "normalizer": (None, "BertNormalizer", "Lowercase"),
    "pre_tokenizer": ("BertPreTokenizer",),
    "post_processor": ("TemplateProcessing",),
}
_BYTES: dict[str, tuple[str | None, ...]] = {
    "normalizer": (None, "NFC"),
    "pre_tokenizer": ("ByteLevel",),
    "post_processor": ("TemplateProcessing", "RobertaProcessing"),
}
RULES = {"WordPiece": _WORDS, "WordLevel": _WORDS, "BPE": _BYTES}
# Before the page's own script: it asks this in place of a server.
LOCAL = '<script>window.localBackend = import("./eyas.js").then((module) => module.load("."));</script>\n<script>'
README = """# A student in the browser

Open `index.html` through any static web server, such as `python -m http.server`. Nothing is sent anywhere: the model,
its tokenizer and the page are files of this folder.

The folder `ort` holds onnxruntime-web: {files}, from `dist` of the npm package
`onnxruntime-web`. Where it is missing, run here:

    npm pack onnxruntime-web && tar -xzf onnxruntime-web-*.tgz && mkdir ort
    cp {copies} ort/

In your own page:

    import {{ load }} from "./eyas.js";
    const student = await load(".");
    console.log(await student.predict(["some text"]));
"""

TRANSFORMERS_JS = """
transformers.js reads this folder too:

    import {{ env, pipeline }} from "@huggingface/transformers";
    env.localModelPath = "/where/this/folder/lies/";
    env.allowRemoteModels = false;
    const classify = await pipeline("{pipeline}", "web", {{ dtype: "{dtype}" }});
"""


def write_web(folder: Path, name: str, runtime: Path | None = None, transformer: Classifier | None = None) -> Path:
    """Write `folder`/web beside an exported model.

    Args:
        name: what the model is called on the page.
        transformer: the model itself, where transformers.js knows its kind: the folder then has the files that
            transformers.js expects, under the names that it expects.
        runtime: the folder `dist` of the npm package onnxruntime-web, whose files are copied; else the README of the
            new folder says how to get them.

    Raises:
        ExportError: a tokenizer that JavaScript does not have, or `runtime` without the files.
    """
    manifest = Manifest.read(folder)
    _check(manifest, json.loads((folder / TOKENIZER).read_text()), runtime)
    target = folder / WEB
    target.mkdir()
    graph = Path(MODEL)
    if transformer is not None:
        transformer.model.config.save_pretrained(target)
        transformer.tokenizer.save_pretrained(target)
        _limit(target / "tokenizer_config.json", manifest.max_length)
        graph = GRAPHS[manifest.precision]
    (target / graph).parent.mkdir(exist_ok=True)
    shutil.copy2(folder / MODEL, target / graph)
    shutil.copy2(folder / TOKENIZER, target)
    shutil.copy2(SOURCES / "eyas.js", target)
    content = json.loads((folder / MANIFEST).read_text())
    about = {**content, "name": name, "graph": graph.as_posix(), "self_test": []}
    (target / MANIFEST).write_text(json.dumps(about, ensure_ascii=False))
    page = (SOURCES / "index.html").read_text(encoding="utf-8")
    (target / "index.html").write_text(page.replace("<script>", LOCAL, 1), encoding="utf-8")
    copies = " ".join(f"package/dist/{name}" for name in RUNTIME_FILES)
    readme = README.format(files=", ".join(RUNTIME_FILES), copies=copies)
    if transformer is not None and manifest.task in PIPELINES:
        readme += TRANSFORMERS_JS.format(dtype=DTYPES[manifest.precision], pipeline=PIPELINES[manifest.task])
    (target / "README.md").write_text(readme)
    if runtime is not None:
        (target / RUNTIME).mkdir()
        for name in RUNTIME_FILES:
            shutil.copy2(runtime / name, target / RUNTIME)
    return target


def _limit(path: Path, tokens: int) -> None:
    """transformers.js cuts texts by this, not by what tokenizer.json says."""
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "model_max_length": tokens}, indent=2))


def _unknown_rule(task: str, tokenizer: dict[str, Any]) -> str:
    """What eyas.js would read otherwise; empty for nothing."""
    model, added = tokenizer["model"], tokenizer["added_tokens"]
    if model["type"] not in RULES or (model["type"] == "BPE" and task == "tagging"):
        return f"{model['type']} of a {task} model"
    for part, allowed in RULES[model["type"]].items():
        kind = (tokenizer.get(part) or {}).get("type")
        if kind not in allowed:
            return f"the {part} {kind}"
    if model["type"] == "BPE":
        odd = [name for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout") if model.get(name)]
        odd += [] if tokenizer["pre_tokenizer"].get("use_regex", True) else ["use_regex: false"]
        if odd:
            return f"the BPE's {odd[0]}"
    changed = (tokenizer.get("normalizer") or {}).get("type") in ("BertNormalizer", "Lowercase")
    for token in added:
        spaces = task == "tagging" and (token.get("lstrip") or token.get("rstrip"))
        if token.get("single_word") or spaces or (changed and token.get("normalized")):
            return f"the rules of the added token {token['content']}"
    return ""


def _check(manifest: Manifest, tokenizer: dict[str, Any], runtime: Path | None) -> None:
    unknown = _unknown_rule(manifest.task, tokenizer)
    if unknown:
        raise ExportError(
            "--web reads WordPiece tokenizers as BERT has them, word-level ones and, of other models than taggers, "
            f"byte-level BPE as RoBERTa and ModernBERT have it; here it does not know {unknown}. Distil from another "
            "teacher, or with --embeddings FILE, which makes a word-level student."
        )
    missing = [name for name in RUNTIME_FILES if runtime is not None and not (runtime / name).is_file()]
    if missing:
        raise ExportError(
            f"{runtime} has no {missing[0]}: expected the folder dist of the npm package onnxruntime-web "
            "(npm pack onnxruntime-web)."
        )
