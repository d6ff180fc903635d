"""The model card, README.md: intended use, training and limits."""

import json
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jinja2

from eyas._version import __version__
from eyas.export.parity import Parity
from eyas.kinds import Kind
from eyas.models.loading import input_length, load_classifier, task_of_config
from eyas.outputs import RUN_FILE
from eyas.runtime.manifest import CARD, MODEL, TOKENIZER, Manifest
from eyas.settings import (
    MAX_LENGTH,
    Columns,
    StudentSettings,
    TrainingOptions,
    TransferSettings,
    flag_of,
    options_of,
)
from eyas.tasks import CALIBRATION, COMPRESSION, Task
from eyas.training.folders import SAMPLE_FILE
from eyas.training.recipes import option_text

EXPORTED = """from eyas.serve import Predictor

predictor = Predictor("{name}")
print(predictor({example}))"""
# Ways to use a folder in the format of transformers.
PIPELINE = """import eyas  # registers the architecture with transformers
from transformers import pipeline

print(pipeline("{pipeline}", model="{name}")({example}))"""
ENCODER = """import eyas  # registers the architecture with transformers
from sentence_transformers import SentenceTransformer

print(SentenceTransformer("{name}").encode({example}))"""
OTHER = """from eyas import Classifier

print(Classifier.from_pretrained("{name}")({example}))"""


@dataclass(frozen=True)
class Wording:
    """The card's wording for a kind of task.

    Args:
        what, purpose: what the model is, and what it does.
        pipeline: the pipeline of transformers.
        use: example for a folder in the format of transformers.
    """

    what: str
    purpose: str
    pipeline: str = "text-classification"
    use: str = OTHER


WORDING: dict[Kind, Wording] = {
    "classification": Wording("A text classifier", "It assigns {input} one of {count} labels.", use=PIPELINE),
    "tagging": Wording(
        "A word tagger", "It assigns each word of a sentence one of {count} tags.", "token-classification", PIPELINE
    ),
    "regression": Wording("A regression model for texts", "It predicts a number for {input}."),
    "multi-label": Wording("A multi-label text classifier", "It predicts which of {count} labels apply to {input}."),
    "aspects": Wording("A text classifier for several aspects", "It predicts a label for each aspect of {input}."),
    "fields": Wording("A click predictor", "It gives the probability of 1 for {input}."),
    "vectors": Wording(
        "A sentence encoder",
        "It maps {input} to a vector of {count} numbers; texts of similar meaning get similar vectors.",
        "feature-extraction",
        ENCODER,
    ),
}
MOST_LABELS = 50
# Settings of a run that the card omits, or shows elsewhere.
SILENT = {"command", "teacher_fingerprint", "transfer_set", "transfer_sources", "validation", "model_files", "data"}
SILENT |= {"init", "members", "rows", "labels"}
# Settings by their flags in `eyas distill`.
KINDS_OF_SETTINGS: tuple[Any, ...] = (TransferSettings, StudentSettings, TrainingOptions, Columns)
FLAGS = {
    "teacher": "--teacher",
    "source": "--data",
    "architecture": "--student",
    "recipe": "--recipe",
    "recipe_options": "--option",
    "unlabeled": "--unlabeled",
    **{name: flag_of(name, option) for kind in KINDS_OF_SETTINGS for name, option in options_of(kind).items()},
    "seed": "--seed",
    "live": "--live",
    "teacher_dtype": "--teacher-dtype",
    "teachers": "--teachers",
    "encoder": "--encoder",
    "confidence": "--confidence",
}
AUTOMATIC = {"bf16"}  # eyas chooses it again
DEFAULTS: dict[str, Any] = {item.name: item.default for kind in KINDS_OF_SETTINGS for item in fields(kind)} | {
    "seed": 0
}


def write_model_card(
    folder: Path, name: str, manifest: Manifest, model: Any, parity: Parity, run: dict[str, Any]
) -> None:
    """Write README.md into `folder`, an exported model that will have the name `name`.

    Args:
        run: settings of the training run; empty if unknown.
    """
    size = sum((manifest.files(folder) / file).stat().st_size for file in (MODEL, TOKENIZER))
    about = ModelIO(manifest.meaning, manifest.pair, manifest.max_length, tuple(manifest.fields))
    example = '[("first text", "second text")]' if manifest.pair else about.example
    card = _render(
        about,
        name,
        run,
        exported=True,
        facts=_facts(about, size, model) | {"precision": manifest.precision},
        calibration=getattr(model.config, CALIBRATION, None),
        abstain_below=manifest.abstain_below,
        parameters=model.num_parameters(),
        use=EXPORTED.format(name=name, example=example),
        needs="It needs `eyas` (`onnxruntime`, `tokenizers`, `numpy`), not torch.",
        commands=_commands(run, f"eyas export --model student --out {shlex.quote(name)}", manifest.precision),
        parity=parity,
    )
    (folder / CARD).write_text(card, encoding="utf-8")


def model_card(folder: Path, name: str) -> str:
    """The card of a student or teacher in the format of transformers, under the name `name`.

    Raises:
        ModelError: `folder` holds no such model.
    """
    model, tokenizer = load_classifier(folder)
    task = task_of_config(model.config)
    pair = bool(getattr(model.config, "pair", '"text_pair"' in _first_line(folder / SAMPLE_FILE)))
    fields = tuple(getattr(model.config, "fields", ()))
    about = ModelIO(task, pair, input_length(model, tokenizer, MAX_LENGTH), fields)
    single = '{"text": "first text", "text_pair": "second text"}' if pair else about.example
    wording = WORDING[task.kind]
    if wording.use is OTHER and pair:
        single = '[("first text", "second text")]'
    run = run_settings(folder)
    return _render(
        about,
        name,
        run,
        exported=False,
        facts=_facts(about, sum(file.stat().st_size for file in folder.glob("*.safetensors")), model),
        calibration=getattr(model.config, CALIBRATION, None),
        parameters=model.num_parameters(),
        use=wording.use.format(name=name, example=single, pipeline=wording.pipeline),
        needs="It needs `eyas[train]`.",
        commands=_commands(run, "", ""),
    )


def run_settings(model: Path) -> dict[str, Any]:
    """Settings of the run that made the folder; empty if unknown."""
    try:
        return dict(json.loads((model / RUN_FILE).read_text())["settings"])
    except (OSError, ValueError, KeyError):
        return {}


@dataclass(frozen=True)
class ModelIO:
    """Inputs and outputs of a model.

    Args:
        pair: whether it takes two texts.
        length: maximum number of tokens.
        fields: of a row, if it reads such.
    """

    task: Task
    pair: bool
    length: int
    fields: tuple[str, ...] = ()

    @property
    def example(self) -> str:
        """One input that is not a pair, in Python."""
        return repr([dict.fromkeys(self.fields, "")]) if self.fields else '["some text"]'


def _render(about: ModelIO, name: str, run: dict[str, Any], exported: bool, **more: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, keep_trailing_newline=True
    )
    text = "a row of categorical fields" if about.fields else "a pair of texts" if about.pair else "a text"
    wording = WORDING[about.task.kind]
    return environment.get_template("model_card.md.jinja").render(
        title=name,
        exported=exported,
        taught=run.get("command") != "finetune",
        teachers=f"{len(run['teacher'])} teachers" if isinstance(run.get("teacher"), list) else "one teacher",
        library="eyas" if exported else "transformers",
        base_model=_hub_name(run.get("teacher") or run.get("model")),
        pipeline=wording.pipeline,
        what=wording.what,
        purpose=wording.purpose.format(count=len(about.task.labels), input=text),
        version=__version__,
        training=_training(run),
        **more,
    )


def _facts(about: ModelIO, size: int, model: Any) -> dict[str, Any]:
    names, tagging = about.task.labels, about.task.is_tagging
    taken = "two texts" if about.pair else "sentences" if tagging else "one text"
    part = f"in windows of {about.length} tokens" if tagging else f"the first {about.length} tokens"
    shown = ", ".join(names[:MOST_LABELS]) + (", ..." if len(names) > MOST_LABELS else "")
    labels = f"{len(names)} dimensions" if about.task.kind == "vectors" else _cell(shown)
    facts = {
        "labels": labels,
        "input": _cell(", ".join(about.fields)) or f"{taken}, {part}",
        "size on disk": f"{size / 1e6:.2f} MB",
    }
    compressed = ", ".join(getattr(model.config, COMPRESSION, None) or ())
    return {**facts, "architecture": type(model).__name__, **({"compressed by": compressed} if compressed else {})}


def _training(run: dict[str, Any]) -> dict[str, str]:
    """The settings that have a value. Paths are cut to their last part, because the card may be public."""
    said: dict[str, str] = {}
    for key, value in run.items():
        value = {k: v for k, v in value.items() if _is_set(k, v)} if isinstance(value, dict) else value
        if key in SILENT or not _is_set(key, value):
            continue
        parts = [f"{k}: {_public(v)}" for k, v in value.items()] if isinstance(value, dict) else [str(_public(value))]
        said["data" if key == "source" else key.replace("_", " ")] = _cell(", ".join(parts))
    return said


def _is_set(key: str, value: Any) -> bool:
    """Whether a setting has a value. A zero counts if it is not the default."""
    return value not in (None, False, [], (), {}, "") or (value == 0 and value is not False and DEFAULTS.get(key) != 0)


def _public(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_public(part) for part in value]
    return Path(value).name if isinstance(value, str) and "/" in value and not _hub_name(value) else value


def _hub_name(value: Any) -> str:
    """`value` if it is a Hub name, else an empty string; local folders are recorded as absolute paths."""
    parts = value.split("/") if isinstance(value, str) else []
    return str(value) if len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~") else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _commands(run: dict[str, Any], then: str, precision: str) -> str:
    """Command lines that reproduce the model; empty if a setting has no flag."""
    if run.get("command") != "distill" or not {"teacher", "source"} <= run.keys():
        return ""
    settings = {key: value for key, value in run.items() if key not in SILENT}
    for part in ("student", "transfer", "arguments"):
        settings |= settings.pop(part, {})
    settings["augment"] = settings.get("augment") or "none"
    if not {key for key, value in settings.items() if _is_set(key, value)} - AUTOMATIC <= FLAGS.keys():
        return ""
    words = ["eyas", "distill"]
    for key, flag in FLAGS.items():
        value = settings.get(key)
        if not _is_set(key, value):
            continue
        values = [f"{k}={option_text(v)}" for k, v in value.items()] if isinstance(value, dict) else value
        for each in values if isinstance(values, list | tuple) else [values]:
            words += [flag] if each is True else [flag, str(_public(each))]
    export = then if precision == "fp32" else f"{then} --{precision}"
    return f"{shlex.join(words)} --out student\n{export}".strip()


def _first_line(path: Path) -> str:
    return next(iter(path.read_text(encoding="utf-8").splitlines()), "") if path.is_file() else ""
