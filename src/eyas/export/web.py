"""Export a student to a folder that runs in the browser: onnxruntime-web, and a tokenizer library in JavaScript."""

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from eyas.errors import ExportError
from eyas.export.browser import RUNTIME_FILES
from eyas.models.classifier import Classifier
from eyas.runtime.manifest import MANIFEST, MODEL, TOKENIZER, Manifest

SOURCES = Path(__file__).parents[1] / "runtime" / "web"
WEB, RUNTIME = "web", "ort"
# Where transformers.js looks for a graph of each precision.
FULL, QUANTIZED = Path("onnx", "model.onnx"), Path("onnx", "model_quantized.onnx")
GRAPHS = {"fp32": FULL, **dict.fromkeys(("int8", "int4", "ternary"), QUANTIZED)}
DTYPES = {"fp32": "fp32", **dict.fromkeys(("int8", "int4", "ternary"), "q8")}
# Tasks that have a pipeline in transformers.js.
PIPELINES = {"classification": "text-classification", "tagging": "token-classification"}
# The runtime in JavaScript. `make vendor` fetches the library that reads tokenizer.json, with its license.
SCRIPTS = ("eyas.js", "tokenizer.js", "tokenizers.min.mjs", "tokenizers.LICENSE")
# What tokenizer.js reads exactly as Python's library does; tests compare the two.
READ = {
    "model": "WordPiece WordLevel BPE Unigram",
    "normalizer": "None BertNormalizer Lowercase NFC NFD NFKC NFKD Nmt Replace Strip StripAccents",
    "pre_tokenizer": "BertPreTokenizer ByteLevel Metaspace WhitespaceSplit",
    "post_processor": "BertProcessing RobertaProcessing TemplateProcessing",
}
# Model settings that tokenizer.js ignores.
IGNORED = {"BPE": ("byte_fallback", "continuing_subword_prefix", "dropout", "fuse_unk"), "Unigram": ("byte_fallback",)}
# Goes before the page's own script, which asks this instead of a server.
LOCAL = '<script>window.localBackend = import("./eyas.js").then((module) => module.load("."));</script>\n<script>'
README = """# A student in the browser

Open `index.html` through any static web server, such as `python -m http.server`. Nothing is sent anywhere: the model,
its tokenizer and the page are files in this folder. `tokenizers.min.mjs` is the npm package `@huggingface/tokenizers`,
under the license in `tokenizers.LICENSE`.

The folder `ort` holds onnxruntime-web: {files}, from `dist` of the npm package
`onnxruntime-web`. If it is missing, export again with `--web-runtime npm`, or run here:

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
    env.localModelPath = "/path/to/the/parent/of/this/folder/";
    env.allowRemoteModels = false;
    const classify = await pipeline("{pipeline}", "web", {{ dtype: "{dtype}" }});
"""


def write_web(folder: Path, name: str, runtime: Path | None = None, transformer: Classifier | None = None) -> Path:
    """Write `folder`/web beside an exported model.

    Args:
        name: the model's name on the page.
        transformer: the original, if transformers.js supports it; the folder then also has the files that
            transformers.js expects.
        runtime: the folder `dist` of the npm package onnxruntime-web, to copy from; without it, the new folder's README
            explains how to get the files.

    Raises:
        ExportError: JavaScript would tokenize differently.
    """
    manifest = Manifest.read(folder)
    _check(Tokenizer.from_file(str(folder / TOKENIZER)))
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
    for script in SCRIPTS:
        shutil.copy2(SOURCES / script, target)
    content = json.loads((folder / MANIFEST).read_text())
    about = {**content, "name": name, "graph": graph.as_posix(), "examples": manifest.examples, "self_test": []}
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
    """Set `model_max_length`, by which transformers.js truncates, ignoring tokenizer.json."""
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "model_max_length": tokens}, indent=2))


def _kinds(part: dict[str, Any] | None) -> list[str]:
    """The types in a part of a tokenizer. The last of several post-processors adds tokens; others change offsets."""
    if part is None:
        return ["None"]
    steps = part.get("normalizers") or part.get("pretokenizers") or part.get("processors", [])[-1:]
    return [kind for step in steps for kind in _kinds(step)] or [part["type"]]


def _unsupported(tokenizer: Tokenizer) -> list[str]:
    """The parts of the tokenizer that tokenizer.js would read differently."""
    state, normalizer = json.loads(tokenizer.to_str()), tokenizer.normalizer
    model = state["model"]
    odd = [
        f"the {part} {kind}"
        for part, known in READ.items()
        for kind in _kinds(state[part])
        if kind not in known.split()
    ]
    odd += [f"the {model['type']}'s {name}" for name in IGNORED.get(model["type"], ()) if model.get(name)]
    for token in state["added_tokens"]:
        name = token["content"]
        changed = normalizer is not None and token["normalized"] and normalizer.normalize_str(name) != name
        odd += [f"the rules of the added token {name}"] if token["single_word"] or changed else []
    return odd


def _check(tokenizer: Tokenizer) -> None:
    odd = _unsupported(tokenizer)
    if odd:
        words = "" if "added token" in odd[0] else ", or with --embeddings FILE, which makes a word-level student"
        raise ExportError(
            f"web (--web) needs a tokenizer that JavaScript reads as Python does, but {odd[0]} would differ. Distill "
            f"from another teacher{words}."
        )
