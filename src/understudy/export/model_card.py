"""The README.md of a model: what it is for, how it was made, what it can't do."""

import json
import math
import shlex
from pathlib import Path
from typing import Any

import jinja2
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer

from understudy._version import __version__
from understudy.export.parity import Parity
from understudy.models.loading import task_of_config
from understudy.outputs import RUN_FILE
from understudy.runtime.manifest import MODEL, TOKENIZER, Manifest

CARD = "README.md"
PIPELINES = {"tagging": "token-classification", "vectors": "feature-extraction"}
WHAT = {
    "classification": "A text classifier",
    "tagging": "A tagger of words",
    "regression": "A model that gives texts a number",
    "multi-label": "A classifier of texts with several labels",
    "aspects": "A classifier of texts by several aspects",
    "vectors": "An encoder of sentences",
}
PURPOSE = {
    "classification": "It tells which of {count} labels fits {input}.",
    "tagging": "It gives each word of a sentence one of {count} tags.",
    "regression": "It gives {input} a number.",
    "multi-label": "It tells which of {count} labels fit {input}.",
    "aspects": "It tells one label for each aspect of {input}.",
    "vectors": "It gives {input} a vector of {count} numbers, near to those of texts that mean the same.",
}
EXPORTED = """from understudy.serve import Predictor

predictor = Predictor("{name}")
print(predictor({example}))"""
STUDENT = """import understudy  # lets transformers know the architecture
from transformers import pipeline

print(pipeline("{pipeline}", model="{name}")({example}))"""
MOST_LABELS = 50
# Of a run's settings, what says nothing to a reader.
SILENT = ("command", "teacher_fingerprint", "transfer_set", "transfer_sources", "validation", "model_files", "data")
# How `understudy distill` calls them.
FLAGS = {
    "teacher": "--teacher",
    "source": "--data",
    "architecture": "--student",
    "recipe": "--recipe",
    "recipe_options": "--option",
    "unlabelled": "--unlabelled",
    "most_unlabelled": "--most-unlabelled",
    "augment": "--augment",
    "select": "--select",
    "mixup": "--mixup",
    "smoothing": "--smoothing",
    "embeddings": "--embeddings",
    "embedding_size": "--embedding-size",
    "hidden_size": "--hidden-size",
    "vocab_size": "--vocab-size",
    "char_embedding_size": "--char-embedding-size",
    "crf": "--crf",
    "layers": "--layers",
    "heads": "--heads",
    "feed_forward": "--ffn",
    "init": "--init",
    "combination": "--combination",
    "freeze_embeddings": "--freeze-embeddings",
    "num_train_epochs": "--epochs",
    "per_device_train_batch_size": "--batch-size",
    "learning_rate": "--learning-rate",
    "max_length": "--max-length",
    "seed": "--seed",
}


def write_model_card(
    folder: Path, name: str, manifest: Manifest, model: Any, parity: Parity, run: dict[str, Any]
) -> None:
    """Write README.md into `folder`, the exported model that will be called `name`.

    Args:
        run: settings of the run that trained it, as far as they are known.
    """
    size = sum((folder / file).stat().st_size for file in (MODEL, TOKENIZER)) / 1e6
    facts = {"precision": manifest.precision, "size on disk": f"{size:.2f} MB", "architecture": type(model).__name__}
    export = f"understudy export --model student --out {name}" + (" --int8" if manifest.precision == "int8" else "")
    card = _card(
        name,
        manifest.task,
        manifest.labels,
        (manifest.pair, manifest.max_length),
        facts,
        run,
        exported=True,
        parameters=model.num_parameters(),
        parity=parity,
        measure="a number" if manifest.task in ("regression", "vectors") else "a probability",
        needs="It needs `onnxruntime`, `tokenizers` and `numpy`, not torch.",
        commands=_commands(run, export),
    )
    (folder / CARD).write_text(card, encoding="utf-8")


def student_card(folder: Path, name: str) -> str:
    """The card of a model folder that transformers reads, to be called `name`."""
    config = AutoConfig.from_pretrained(folder)
    task = task_of_config(config)
    run = run_settings(folder)
    weights = next(folder.glob("*.safetensors"))
    facts = {
        "size on disk": f"{weights.stat().st_size / 1e6:.2f} MB",
        "architecture": (config.architectures or [""])[0],
    }
    length = getattr(config, "max_length", None) or AutoTokenizer.from_pretrained(folder).model_max_length
    return _card(
        name,
        task.kind,
        list(task.labels),
        (bool(getattr(config, "pair", False)), length),
        facts,
        run,
        exported=False,
        parameters=_parameters(weights),
        needs="It needs `understudy[train]`.",
        commands=_commands(run, ""),
    )


def _card(
    name: str,
    task: str,
    labels: list[str],
    reads: tuple[bool, int],
    facts: dict[str, Any],
    run: dict[str, Any],
    exported: bool,
    **more: Any,
) -> str:
    pair, length = reads
    pipeline = PIPELINES.get(task, "text-classification")
    taken = "two texts" if pair else "sentences" if task == "tagging" else "one text"
    part = f"in windows of {length} tokens" if task == "tagging" else f"the first {length} tokens"
    shown = ", ".join(labels[:MOST_LABELS]) + (", ..." if len(labels) > MOST_LABELS else "")
    first = {"labels": f"{len(labels)} dimensions" if task == "vectors" else shown, "input": f"{taken}, {part}"}
    example = '[("first text", "second text")]' if pair and exported else '["some text"]'
    if pair and not exported:
        example = '{"text": "first text", "text_pair": "second text"}'
    use = (EXPORTED if exported else STUDENT).format(name=name, example=example, pipeline=pipeline)
    teacher = str(run.get("teacher", ""))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("model_card.md.jinja").render(
        title=name,
        library="understudy" if exported else "transformers",
        base_model=teacher if teacher and not Path(teacher).exists() and teacher.count("/") == 1 else "",
        pipeline=pipeline,
        what=WHAT[task],
        purpose=PURPOSE[task].format(count=len(labels), input="a pair of texts" if pair else "a text"),
        version=__version__,
        facts={**first, **facts},
        use=use,
        training=_training(run),
        exported=exported,
        **more,
    )


def run_settings(model: Path) -> dict[str, Any]:
    """What is known of the run that made the folder; empty where nothing is."""
    try:
        return dict(json.loads((model / RUN_FILE).read_text())["settings"])
    except (OSError, ValueError, KeyError):
        return {}


def _training(run: dict[str, Any]) -> dict[str, Any]:
    """The settings that somebody chose, in words."""
    said: dict[str, Any] = {}
    for key, value in run.items():
        if key in SILENT or value in (None, False, [], {}, "", 0.0):
            continue
        chosen = {k: v for k, v in value.items() if v not in (None, False, [], "", 0)} if isinstance(value, dict) else 0
        text = ", ".join(f"{k}: {v}" for k, v in chosen.items()) if isinstance(chosen, dict) else value
        if text != "":
            said["data" if key == "source" else key.replace("_", " ")] = text
    return said


def _commands(run: dict[str, Any], then: str) -> str:
    """The command lines that make it again; empty where a setting is not one of theirs."""
    if run.get("command") != "distill" or not {"teacher", "source"} <= run.keys():
        return ""
    if not run.get("arguments", {}).keys() <= FLAGS.keys():
        return ""
    settings = {**run, **run.get("student", {}), **run.get("transfer", {}), **run.get("arguments", {})}
    settings["augment"] = settings.get("augment") or "none"
    words = ["understudy", "distill"]
    for key, flag in FLAGS.items():
        value = settings.get(key)
        if value in (None, False, [], (), {}, "", 0, 0.0):
            continue
        values = [f"{k}={v}" for k, v in value.items()] if isinstance(value, dict) else value
        for each in values if isinstance(values, list | tuple) else [values]:
            words += [flag] if each is True else [flag, str(each)]
    return f"{shlex.join(words)} --out student\n{then}".strip()


def _parameters(weights: Path) -> int:
    with safe_open(weights, framework="np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (no dict)
