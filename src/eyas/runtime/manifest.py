"""The manifest of an exported folder: its metadata, checksums and self-test."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from eyas._version import __version__
from eyas.errors import ExportError
from eyas.kinds import GENERATION, MEANINGS, Kind
from eyas.tasks import Task

MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
# The results of an exam, if one selected the model.
EXAM = "exam.json"
CARD = "README.md"
FORMAT_VERSION = 4
MOST_EXAMPLES = 4
# The `combination` of a folder of several tasks.
TASKS = "tasks"


@dataclass
class Manifest:
    """`manifest.json` of an exported folder.

    Args:
        task: the model's task, one of `eyas.kinds.KINDS`.
        labels: names in the order of the logits.
        data_labels: names in the training data, in the same order.
        precision: "fp32", "int8", "int4" or "ternary".
        max_length: maximum number of tokens per text.
        vocab_size: rows of its embedding table.
        pair: whether it takes two texts.
        unknown: the token for unknown words.
        tokie: the result of `eyas.runtime.tokens.find_alike`; None if tokie is not used.
        calibration: temperature of the logits, and what it was fitted on; see `eyas.evaluation.calibration`.
        abstain_below: confidence below which the model gives no answer, if any.
        stages: of several models: the folder and name of each, and of a cascade its least confidence (`least`); there
            are no files beside them.
        combination: how they answer together, a key of `eyas.runtime.combination.RULES`, or "tasks": each its own
            task; empty for a cascade.
        output: of one task of several, its output in the model.onnx of the folder around, whose tokenizer it has too.
        arrays: where the weights of a `static` student are in model.onnx; see `eyas.export.arrays`.
        fields: the names of the fields, of a model of rows of fields.
        crf: scores of the first tag, the last tag and each transition, for taggers with a CRF.
        self_test: texts with their expected probabilities, within `tolerance`.
        openvino: checksum of each file in the folder `openvino`, if there is one.
        sha256: checksum of each other file.
    """

    task: Kind
    labels: list[str]
    data_labels: list[str]
    precision: str
    max_length: int
    vocab_size: int
    pair: bool
    self_test: list[dict[str, Any]]
    tolerance: float
    unknown: str = "[UNK]"
    tokie: dict[str, Any] | None = None
    fields: list[str] = field(default_factory=list)
    crf: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    abstain_below: float = 0.0
    arrays: dict[str, Any] | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    combination: str = ""
    output: str = ""
    openvino: dict[str, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    eyas_version: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def meaning(self) -> Task:
        """The task with the model's labels and temperature."""
        return Task(self.task, tuple(self.labels), float((self.calibration or {}).get("temperature", 1.0)))

    @property
    def examples(self) -> list[list[str]]:
        """Texts to try: [text], or [text, text_pair]."""
        texts = [row["text"] if "text" in row else " ".join(row["tokens"]) for row in self.self_test]
        pairs = [[row["text_pair"]] if row.get("text_pair") else [] for row in self.self_test]
        found = [[text, *pair] for text, pair in zip(texts, pairs, strict=True) if text.strip()]
        return found[-MOST_EXAMPLES:]  # the longer ones

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest, and check the files of its folder against it.

        Raises:
            ExportError: no manifest, another format version, a missing, changed or linked file.
        """
        try:
            content = json.loads((folder / MANIFEST).read_text())
        except OSError:
            raise ExportError(
                f"{folder} is not an exported model (it has no {MANIFEST}). "
                "Make one with: eyas export --model ... --out ..."
            ) from None
        except ValueError as error:
            raise ExportError(f"{folder / MANIFEST} is damaged: {error}. Export the model again.") from None
        if not isinstance(content, dict):
            raise ExportError(f"{folder / MANIFEST} is damaged: it is no JSON object. Export the model again.")
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise ExportError(
                f"{folder} has format version {version}, this eyas reads {FORMAT_VERSION}. "
                "Export the model again with this version, or install the one that made it."
            )
        try:
            manifest = cls(**content)
        except TypeError as error:
            raise ExportError(f"{folder / MANIFEST} is not as expected: {error}. Export the model again.") from None
        if manifest.task not in MEANINGS:
            raise ExportError(
                f"{folder} has the task {manifest.task!r}, this eyas knows {', '.join(MEANINGS)}. "
                "Install the version that made it."
            )
        for name in () if manifest.stages else (MODEL, TOKENIZER):
            if name not in manifest.sha256:
                raise ExportError(f"{folder / MANIFEST} lists no checksum of {name}. Export the model again.")
        files = manifest.files(folder)
        for name, expected in manifest.sha256.items():
            if checksum(files, name) != expected:
                raise ExportError(f"{files / name} is not the file that was exported (checksum). Export it again.")
        return manifest

    def files(self, folder: Path) -> Path:
        """Where the model and the tokenizer of `folder` are: one task of several has those of the folder around."""
        return folder.resolve().parent if self.output else folder

    def of_stages(self, stages: list[dict[str, Any]], combination: str = "") -> "Manifest":
        """The manifest of a folder of several models, of which this is the first's, without what is its own."""
        own: dict[str, Any] = {"sha256": {}, "openvino": {}, "calibration": None, "arrays": None, "abstain_below": 0.0}
        own["output"] = ""
        return replace(self, stages=stages, combination=combination, eyas_version=__version__, **own)

    def write_alone(self, folder: Path) -> None:
        """Write the manifest of several models, without files beside it."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    def write(self, folder: Path) -> None:
        """Write the manifest, with the current checksums of the files in `folder`."""
        names = [MODEL, TOKENIZER]
        self.sha256 = {name: checksum(self.files(folder), name) for name in names}
        self.write_alone(folder)


def kind_of(folder: Path) -> str:
    """What a folder's manifest describes: "cascade", "combination", "generation", "tasks", "task" (one of several), or
    "" for another model or none.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text())
        if content.get("task") == GENERATION:
            return GENERATION
        if not content.get("stages"):
            return "task" if content.get("output") else ""
        return {"": "cascade", TASKS: TASKS}.get(content.get("combination", ""), "combination")
    except (OSError, ValueError, AttributeError):
        return ""


def stage_folders(folder: Path) -> list[str]:
    """The folders of the models in `folder`."""
    return [stage["folder"] for stage in json.loads((folder / MANIFEST).read_text())["stages"]]


def renamed_card(card: str, old: str, new: str) -> str:
    """The model card of the folder `old`, for a folder renamed to `new`."""
    for form in ("# {}\n", '"{}"', "--model {} ", "--out {}\n", "--out {} "):
        card = card.replace(form.format(old), form.format(new))
    return card


def checksum(folder: Path, name: str) -> str:
    """sha256 of a plain file directly in `folder`."""
    path = folder / name
    if Path(name).name != name or path.is_symlink() or not path.is_file():
        raise ExportError(f"{path} is missing or not a plain file in the model folder. Export the model again.")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
