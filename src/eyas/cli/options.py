"""Options and helpers that the commands share. Heavy imports inside."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyas.errors import EyasError
from eyas.processes import is_first
from eyas.settings import DATA, METHOD, OUTPUT, STUDENT, TRAINING, Columns
from eyas.verbosity import set_verbosity_error, set_verbosity_info, set_verbosity_warning

if TYPE_CHECKING:
    from eyas.data.task_data import TaskData
    from eyas.runtime.predict import PredictMixin


class Precision(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


_DATA = typer.Option(
    help="Folder with train/validation/test files, one CSV, TSV, JSONL, Parquet or CoNLL file, or a Hub data set.",
    show_default=False,
    rich_help_panel=DATA,
)
Data = Annotated[str, _DATA]
OptionalData = Annotated[str | None, _DATA]
Domains = Annotated[
    list[str] | None,
    typer.Option(
        "--domain",
        help="One of several domains on which the teacher is fine-tuned, NAME=DATA (docs/domains.md). Repeatable.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
TeacherFolder = Annotated[
    str,
    typer.Option(
        help="Fine-tuned classifier or tagger: a folder or a Hub name.", show_default=False, rich_help_panel=DATA
    ),
]
_ENCODER = typer.Option(
    help="Pretrained encoder: a folder, an installed package that `eyas encoders` lists, or a Hub name.",
    show_default=False,
    rich_help_panel=DATA,
)
EncoderFolder = Annotated[str, _ENCODER]
EncoderFolders = Annotated[list[str], _ENCODER]
Unlabeled = Annotated[
    list[str] | None,
    typer.Option(
        help="More texts for the teacher to label: a file of lines, CSV, JSONL ..., a folder, a 'pattern/*.txt', or a "
        "Hub data set. Repeatable.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
LabelMap = Annotated[
    str | None,
    typer.Option(
        help="Map the model's label names to the data's: LABEL_0=negative,LABEL_1=positive. Names with commas or "
        "equals signs: a JSON object, or a JSON or YAML file.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
TeacherDtype = Annotated[
    Precision | None,
    typer.Option(
        "--teacher-dtype",
        help="The teacher's precision: float32 or bfloat16.",
        show_default="fastest on this device",
        rich_help_panel=METHOD,
    ),
]
RecipeOptions = Annotated[
    list[str] | None,
    typer.Option(
        help="An option of the recipe, NAME=VALUE: mapping=top or 1-3,2-6, temperature=4 or linear:8:1. Repeatable; "
        "`eyas recipes` lists them.",
        show_default=False,
        rich_help_panel=METHOD,
    ),
]
MaxLength = Annotated[int, typer.Option(min=2, help="Maximum number of tokens per text.", rich_help_panel=STUDENT)]
Seed = Annotated[
    int,
    typer.Option(
        min=0,
        help="Seed for weights, order and dropout. A single file is always split the same way.",
        rich_help_panel=TRAINING,
    ),
]
Out = Annotated[
    Path, typer.Option(help="Output folder, written atomically.", show_default=False, rich_help_panel=OUTPUT)
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder for the teacher's logits.", show_default="by fingerprint", rich_help_panel=OUTPUT),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an --out folder made with other settings.", rich_help_panel=OUTPUT)
]
AbstainBelow = Annotated[
    float | None,
    typer.Option(
        help="Give no label with a lower probability: label is null, and guess holds it. For one label per text or "
        "aspect.",
        show_default=False,
    ),
]
Beams = Annotated[
    int | None,
    typer.Option(
        min=1, help="For models that write: beams of the search, 1 is greedy.", show_default="those of the model"
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.", rich_help_panel=OUTPUT)]


def named(option: str, given: Sequence[str], expected: str) -> dict[str, str]:
    """The values of a repeatable option NAME=VALUE, by name.

    Raises:
        EyasError: another form, which `expected` names, or a name that occurs twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, _, value = text.partition("=")
        name = name.strip()
        if not (name and value):
            raise EyasError(f"{option} is {text!r}, but {expected}.")
        if name in found:
            raise EyasError(f"{option} names {name!r} twice, expected another name for each.")
        found[name] = value
    return found


def named_domains(given: Sequence[str]) -> dict[str, str]:
    """The data of each domain, by name."""
    return named("--domain", given, "several domains are given as --domain NAME=DATA for each")


def read_data(data: str, columns: Columns) -> "TaskData":
    from eyas.data.datasets import load_data

    return load_data(data, columns)


def open_classifier(folder: str) -> "PredictMixin":
    """Open a model: an exported folder without torch, any other with it."""
    from eyas.runtime.manifest import MANIFEST
    from eyas.runtime.predictor import Predictor

    if (Path(folder) / MANIFEST).is_file():
        return Predictor(folder)
    from eyas.models.classifier import Classifier

    return Classifier.from_pretrained(folder)


def open_writer(folder: str, beams: int | None = None) -> Any:
    """Open a model that writes texts: an exported folder without torch, any other with it; None for other models."""
    from eyas.kinds import GENERATION
    from eyas.runtime.manifest import MANIFEST, kind_of

    if (Path(folder) / MANIFEST).is_file():
        if kind_of(Path(folder)) != GENERATION:
            return _without_beams(folder, beams)
        from eyas.runtime.generation import GenerationPredictor

        return GenerationPredictor(folder, beams=beams)
    from eyas.models.loading import is_seq2seq_folder

    if not is_seq2seq_folder(folder):
        return _without_beams(folder, beams)
    from eyas.generation import TextGenerator

    return TextGenerator.from_pretrained(folder, beams)


def _without_beams(folder: str, beams: int | None) -> None:
    """Raises ModelError if beams are asked of a model that writes no texts."""
    from eyas.errors import ModelError

    if beams is not None:
        raise ModelError(f"beams (--beams) is for models that write; {folder} does not. Leave it out.")


def log_to_stderr(quiet: bool) -> None:
    """Log our messages to stderr, and silence the libraries."""
    import os

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    (set_verbosity_warning if quiet else set_verbosity_info)()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # advice to whoever wrote the training loop
    if not is_first():  # the first process says it all
        set_verbosity_error()
