"""What the commands share: their options, and what they do with them. Heavy imports inside."""

import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from datasets import DatasetDict

    from eyas.evaluation.evaluate import Predicts
    from eyas.transfer import TransferSettings

logger = logging.getLogger("eyas")


STUDENTS = (
    "static, cnn, bilstm, cnn-lstm, ensemble:cnn,bilstm,cnn-lstm, bert-tiny, bert-mini, bert-small, bert-medium, \
tinybert-4l, bert-6l, bert"
)


class Precision(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Recipe(StrEnum):
    HARD_LABELS = "hard-labels"
    LOGIT_MSE = "logit-mse"
    SOFT_TARGETS = "soft-targets"
    ANNEALING = "annealing"
    CONTINUATION = "continuation"
    ADAKD = "adakd"
    DKD = "dkd"
    DIST = "dist"
    SRA = "sra"
    PATIENT_SKIP = "patient-skip"
    PATIENT_LAST = "patient-last"
    ALP_KD = "alp-kd"
    RAIL_KD = "rail-kd"
    TINYBERT = "tinybert"
    TINYBERT_IMPROVED = "tinybert-improved"
    BERT_EMD = "bert-emd"
    DISTILBERT = "distilbert"
    MINILM = "minilm"
    MINILMV2 = "minilmv2"
    MLKD = "mlkd"
    SIMKD = "simkd"
    AD_KD = "ad-kd"
    THESEUS = "theseus"


class Kind(StrEnum):
    CLASSIFICATION = "classification"
    TAGGING = "tagging"
    REGRESSION = "regression"
    MULTI_LABEL = "multi-label"
    ASPECTS = "aspects"


# Options that name a file, a folder, or something on the Hub.
PLACES = ("teacher", "model", "source", "unlabelled")
Combination = Annotated[str, typer.Option(help="Of an ensemble's members: logits, probabilities or weights.")]
RecipeOptions = Annotated[
    list[str] | None,
    typer.Option(
        help="Of the recipe, NAME=VALUE: mapping=top or 1-3,2-6, temperature=4 or linear:8:1. Repeatable; `eyas "
        "recipes` lists them.",
        show_default=False,
    ),
]
Embeddings = Annotated[str, typer.Option(help="Word vectors: teacher, random, or a word2vec, GloVe or fastText file.")]
EmbeddingSize = Annotated[int | None, typer.Option(min=1, help="Dimension of the word vectors.", show_default="128")]
HiddenSize = Annotated[
    int | None, typer.Option(min=1, help="Units of the LSTM, filters of a width.", show_default="by student")
]
VocabSize = Annotated[
    int | None, typer.Option(min=1, help="Largest number of tokens.", show_default="all in the texts")
]
Layers = Annotated[int | None, typer.Option(min=1, help="Transformers: layers.", show_default="by student")]
Heads = Annotated[int | None, typer.Option(min=1, help="Transformers: attention heads.", show_default="by student")]
FeedForward = Annotated[
    int | None,
    typer.Option(min=1, help="Transformers: width of the feed-forward layer.", show_default="by student"),
]
Init = Annotated[
    str | None,
    typer.Option(
        help="A pretrained folder; transformers: random, or the teacher's layers: first, last, skip, 1,3,5.",
        show_default="first if as wide as the teacher",
    ),
]
TeacherDtype = Annotated[
    Precision | None, typer.Option("--teacher-dtype", help="float32 or bfloat16.", show_default="fastest here")
]
Data = Annotated[
    str,
    typer.Option(
        help="Folder with train/validation/test files, one CSV, TSV, JSONL, Parquet or CoNLL file, or a Hub data set.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option(help="Folder to write. It appears when it is whole.", show_default=False)]
TeacherFolder = Annotated[
    str, typer.Option(help="Fine-tuned classifier or tagger: a folder or a Hub name.", show_default=False)
]
Text = Annotated[
    str | None,
    typer.Option(help="Column of texts, if not text or sentence; of words, if not tokens.", show_default=False),
]
TextPair = Annotated[str | None, typer.Option(help="Column of second texts, or of a question.", show_default=False)]
Label = Annotated[
    str | None,
    typer.Option(help="Column of labels, if not label or tags; of aspects several: a,b,c.", show_default=False),
]
TaskName = Annotated[
    Kind | None,
    typer.Option("--task", help="What is learned.", show_default="found from the columns"),
]
RepairTags = Annotated[bool, typer.Option("--repair-tags", help="Make I- tags that continue nothing B-.")]
LabelMap = Annotated[
    str | None,
    typer.Option(help="Model's label names in the data's: LABEL_0=negative,LABEL_1=positive.", show_default=False),
]
Seed = Annotated[int, typer.Option(help="Seed for weights, order and dropout. A single file is always split alike.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what other settings left in --out.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
Epochs = Annotated[float | None, typer.Option(min=0.01, help="Passes over the texts.", show_default=False)]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Texts per step.", show_default=False)]
LearningRate = Annotated[float | None, typer.Option(min=0.0, help="Highest learning rate.", show_default=False)]
MaxLength = Annotated[int, typer.Option(min=2, help="Tokens of a text that are read.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder for the teacher's logits; by default found by fingerprint.", show_default=False),
]
Unlabelled = Annotated[
    list[str] | None,
    typer.Option(
        help="More texts for the teacher to label: a file of lines, CSV, JSONL ..., a folder, a 'pattern/*.txt', or a "
        "Hub data set. Repeatable.",
        show_default=False,
    ),
]
MostUnlabelled = Annotated[
    int | None,
    typer.Option(min=1, help="So many of them, those most like the training texts.", show_default="all"),
]
Augment = Annotated[
    list[str] | None,
    typer.Option(
        help="New texts made of the training texts, METHOD:COUNT: tang:20, neighbours:20[:VECTORS], "
        "masked-lm:20:FOLDER, doubts:5:STUDENT; none. Repeatable.",
        show_default="neighbours:10 for up to 10,000 single texts of a classification, else none",
    ),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        help="Which of the new texts to learn from, RULE:SHARE: confident:0.5, uncertain:0.5, "
        "disagreement:0.5:STUDENT, learned:0.5:STUDENT, same-label. Repeatable.",
        show_default=False,
    ),
]


def noted(**record: Any) -> dict[str, Any]:
    """What a run notes of its options: those that were given; of local data and models the whole path."""

    def place(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [place(part) for part in value]
        return str(Path(value).resolve()) if Path(value).exists() else str(value)

    return {name: place(value) if name in PLACES else value for name, value in record.items() if value}


def read_data(
    data: str, text: str | None, text_pair: str | None, label: str | None, task: Kind | None, repair: bool = False
) -> "DatasetDict":
    from eyas.data.datasets import load_data
    from eyas.data.sources import Columns

    return load_data(data, Columns(text, text_pair, label, task and str(task), repair))


def with_default_augment(
    settings: "TransferSettings", augment: list[str] | None, data: "DatasetDict", more_text: bool, recipe: str = ""
) -> "TransferSettings":
    """`settings` with what is augmented by where nobody says; it says so."""
    from dataclasses import replace

    from eyas.transfer.texts import default_augment

    if augment is not None or recipe == Recipe.HARD_LABELS or settings.mixup or settings.smoothing:
        return settings
    chosen = default_augment(data, more_text)
    if chosen:
        logging.getLogger("eyas").info(
            "The student also learns from new texts made of the training texts (--augment %s); --augment none leaves "
            "them out.",
            " ".join(chosen),
        )
    return replace(settings, augment=chosen)


def transfer_settings(
    augment: list[str] | None,
    select: list[str] | None = None,
    most: int | None = None,
    mixup: float = 0.0,
    smoothing: str = "",
) -> "TransferSettings":
    from eyas.transfer import TransferSettings

    methods = tuple(method for method in augment or () if method != "none")
    settings = TransferSettings(methods, tuple(select or ()), most, mixup, smoothing)
    settings.check()
    return settings


def read_unlabelled(files: list[str] | None, data: "DatasetDict", text: str | None, text_pair: str | None) -> Any:
    from eyas.data.datasets import load_unlabelled, task_of
    from eyas.data.sources import Columns

    return load_unlabelled(files, Columns(text, text_pair), task_of(data["train"]).is_tagging) if files else None


def open_classifier(folder: str) -> "Predicts":
    """An exported folder without torch, any other with it."""
    from eyas.runtime.manifest import MANIFEST
    from eyas.runtime.predictor import Predictor

    if (Path(folder) / MANIFEST).is_file():
        return Predictor(folder)
    from eyas.models.classifier import Classifier

    return Classifier.load(folder)


def training_arguments(epochs: float | None, batch_size: int | None, learning_rate: float | None) -> dict[str, Any]:
    given = {
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    return {name: value for name, value in given.items() if value is not None}


def log_to_stderr(quiet: bool) -> None:
    """Our messages to stderr; the libraries' own chatter off."""
    import os

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
