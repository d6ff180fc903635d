"""The command line: one function per command, heavy imports inside."""

import json
import logging
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from understudy._version import __version__
from understudy.errors import UnderstudyError

if TYPE_CHECKING:
    from datasets import DatasetDict

    from understudy.evaluation.evaluate import Predicts

app = typer.Typer(
    name="understudy",
    help="Distil a fine-tuned BERT into a tiny, fast student, measure it, and ship it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
logger = logging.getLogger("understudy")

TRAIN_PACKAGES = frozenset(
    [
        *("accelerate", "datasets", "filelock", "onnx", "onnxscript", "pyarrow"),
        *("safetensors", "scipy", "sklearn", "torch", "transformers"),
    ]
)


class Student(StrEnum):
    STATIC = "static"
    CNN = "cnn"
    BILSTM = "bilstm"
    CNN_LSTM = "cnn-lstm"


class Precision(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Recipe(StrEnum):
    HARD_LABELS = "hard-labels"
    LOGIT_MSE = "logit-mse"
    SOFT_TARGETS = "soft-targets"


Data = Annotated[
    str,
    typer.Option(
        help="Folder with train/validation/test files, one CSV, TSV, JSONL or Parquet file, or a Hub data set.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option(help="Folder to write. It appears when it is whole.", show_default=False)]
TeacherFolder = Annotated[str, typer.Option(help="Fine-tuned classifier: a folder or a Hub name.", show_default=False)]
Text = Annotated[str | None, typer.Option(help="Column of texts, if not text or sentence.", show_default=False)]
TextPair = Annotated[str | None, typer.Option(help="Column of second texts.", show_default=False)]
Label = Annotated[str | None, typer.Option(help="Column of labels, if not label.", show_default=False)]
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
    list[Path] | None,
    typer.Option(
        help="More texts for the teacher to label: a file of lines, CSV, JSONL ... Repeatable.", show_default=False
    ),
]


@app.command()
def finetune(
    model: Annotated[str, typer.Option(help="Pretrained encoder: a folder or a Hub name.", show_default=False)],
    data: Data,
    out: Out,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    max_length: MaxLength = 256,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Make a teacher: fine-tune a pretrained encoder on labelled data."""
    _log(quiet)
    from understudy.training.finetune import FinetuneSettings
    from understudy.training.finetune import finetune as run

    loaded = _load(data, text, text_pair, label)
    arguments = _arguments(epochs, batch_size, learning_rate)
    settings = FinetuneSettings(arguments=arguments, seed=seed, max_length=max_length)
    run(model, loaded, out, settings, overwrite, record={"source": str(data)})
    logger.info("The teacher is in %s.", out)


@app.command()
def label(
    teacher: TeacherFolder,
    data: Data,
    unlabelled: Unlabelled = None,
    cache: Cache = None,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    max_length: MaxLength = 256,
    dtype: Annotated[
        Precision | None, typer.Option("--teacher-dtype", help="float32 or bfloat16.", show_default="fastest here")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Compute the teacher's logits for every training text, once. distill does it by itself."""
    _log(quiet)
    from understudy.teachers import Teacher
    from understudy.training.distill import transfer_set

    loaded = _load(data, text, text_pair, label)
    transfer = transfer_set(loaded["train"], _load_unlabelled(unlabelled, text, text_pair))
    cached = Teacher(teacher, max_length=max_length, dtype=dtype).label(transfer, cache)
    logger.info("The logits of %s texts are in %s.", f"{cached.fingerprint['rows']:,}", cached.folder)


@app.command()
def distill(
    teacher: TeacherFolder,
    data: Data,
    out: Out,
    student: Annotated[Student, typer.Option(help="Architecture of the student.")] = Student.BILSTM,
    recipe: Annotated[
        Recipe, typer.Option(help="Method; hard-labels is the baseline without a teacher.")
    ] = Recipe.LOGIT_MSE,
    unlabelled: Unlabelled = None,
    embeddings: Annotated[
        str, typer.Option(help="Word vectors: teacher, random, or a word2vec, GloVe or fastText file.")
    ] = "teacher",
    embedding_size: Annotated[
        int | None, typer.Option(min=1, help="Dimension of the word vectors.", show_default="128")
    ] = None,
    hidden_size: Annotated[
        int | None, typer.Option(min=1, help="Units of the LSTM, filters of a width.", show_default="by student")
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(min=1, help="Largest number of tokens.", show_default="all in the texts")
    ] = None,
    freeze_embeddings: Annotated[bool, typer.Option("--freeze-embeddings", help="Do not train word vectors.")] = False,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    max_length: MaxLength = 256,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    label_map: LabelMap = None,
    cache: Cache = None,
    dtype: Annotated[
        Precision | None, typer.Option("--teacher-dtype", help="float32 or bfloat16.", show_default="fastest here")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Ask the teacher in every step (slow).")] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a student on a teacher's answers."""
    _log(quiet)
    from understudy.data.labels import parse_label_map
    from understudy.teachers import Teacher
    from understudy.training.distill import DistillSettings
    from understudy.training.distill import distill as run
    from understudy.training.students import StudentSettings

    loaded = _load(data, text, text_pair, label)
    settings = DistillSettings(
        student=StudentSettings(
            architecture=student,
            embeddings=embeddings,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            vocab_size=vocab_size,
            freeze_embeddings=freeze_embeddings,
            max_length=max_length,
        ),
        recipe=recipe,
        arguments=_arguments(epochs, batch_size, learning_rate),
        seed=seed,
        live=live,
        label_map=parse_label_map(label_map) if label_map else None,
    )
    run(
        Teacher(teacher, max_length=max_length, dtype=dtype),
        loaded,
        out,
        settings,
        unlabelled=_load_unlabelled(unlabelled, text, text_pair),
        cache=cache,
        overwrite=overwrite,
        record={"teacher": teacher, "source": data},
    )
    logger.info("The student is in %s.", out)


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="Student, teacher or exported folder.", show_default=False)],
    data: Data,
    teacher: Annotated[
        str | None, typer.Option(help="Adds retention and agreement with this teacher.", show_default=False)
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test.", show_default="test, else validation")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    label_map: LabelMap = None,
    quiet: Quiet = False,
) -> None:
    """Score a model on a split, beside its teacher."""
    _log(quiet)
    from understudy.data.labels import parse_label_map
    from understudy.evaluation.evaluate import evaluate as run

    loaded = _load(data, text, text_pair, label)
    chosen = split or ("test" if "test" in loaded else "validation")
    if chosen not in loaded:
        raise UnderstudyError(f"{data} has no split {chosen!r}, only {', '.join(loaded)}.")
    other = _classifier(teacher) if teacher else None
    scores = run(_classifier(model), loaded[chosen], other, parse_label_map(label_map) if label_map else None)
    scores = {"model": model, "split": chosen, **scores}
    if as_json:
        print(json.dumps(scores))
        return
    for name, value in scores.items():
        shown = f"{value:.4f}" if isinstance(value, float) else str(value)
        print(f"{name.replace('_', ' '):<18}{shown}")


@app.command()
def predict(
    model: Annotated[str, typer.Option(help="Student, teacher or exported folder.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="Lines of text or JSON; - for standard input.")] = Path("-"),
    all_scores: Annotated[bool, typer.Option("--all-scores", help="The probability of every label.")] = False,
    quiet: Quiet = False,
) -> None:
    """Classify lines as they come: text or JSON in, JSON lines out.

    A JSON line is {"text": ..., "text_pair": ...} or a string. Its other fields are handed through, but for label and
    score, which are the answer.
    """
    _log(quiet)
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    from understudy.data.readers import text_lines
    from understudy.errors import DataError

    classifier = _classifier(model)
    if str(file) == "-":
        _predict_lines(classifier, text_lines(sys.stdin.buffer), "standard input", all_scores)
    elif not file.is_file():
        raise DataError(f"No such file: {file}.")
    else:
        with open(file, "rb") as stream:
            _predict_lines(classifier, text_lines(stream), str(file), all_scores)


@app.command()
def export(
    model: Annotated[str, typer.Option(help="Student or teacher folder.", show_default=False)],
    out: Out,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to int8: a quarter of the size.")] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Texts for the parity check.", show_default="the model's validation sample"),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(help="Smallest share of equal labels.", show_default="1.0, with --int8 0.98"),
    ] = None,
    text: Text = None,
    text_pair: TextPair = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a model as ONNX with tokenizer, labels and model card, and check that it says the same."""
    _log(quiet)
    from understudy.export import export as run

    parity = run(model, out, int8, _parity_texts(data, text, text_pair), min_agreement, overwrite)
    logger.info(
        "Exported to %s: the same label on %.2f %% of %d texts, largest difference of a probability %.4f.",
        out,
        100 * parity.agreement,
        parity.rows,
        parity.difference,
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("demo"),
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """The whole way on built-in data: teacher, two students, scores, export. About 3 minutes on 2 cores."""
    _log(quiet)
    from understudy.demo import run

    run(out, seed, overwrite)


# --- what the commands share -------------------------------------------------------------------------------


def _load(data: str, text: str | None, text_pair: str | None, label: str | None) -> "DatasetDict":
    from understudy.data.datasets import Columns, load_data

    return load_data(data, Columns(text, text_pair, label))


def _load_unlabelled(files: list[Path] | None, text: str | None, text_pair: str | None) -> Any:
    from understudy.data.datasets import Columns, load_unlabelled

    return load_unlabelled(files, Columns(text, text_pair)) if files else None


def _parity_texts(data: str | None, text: str | None, text_pair: str | None) -> list[tuple[str, ...]] | None:
    if data is None:
        return None
    from understudy.data.datasets import Columns, load_data, load_unlabelled

    columns = Columns(text, text_pair)
    single = Path(data).is_file()
    loaded = load_unlabelled([data], columns) if single else load_data(data, columns)["validation"]
    return [tuple(row[c] for c in ("text", "text_pair") if c in row) for row in loaded]


def _classifier(folder: str) -> "Predicts":
    """An exported folder without torch, any other with it."""
    from understudy.runtime.manifest import MANIFEST
    from understudy.runtime.predictor import Predictor

    if (Path(folder) / MANIFEST).is_file():
        return Predictor(folder)
    from understudy.evaluation.classifier import Classifier

    return Classifier.load(folder)


def _predict_lines(classifier: "Predicts", lines: Any, source: str, all_scores: bool) -> None:
    from understudy.data.readers import parse_input_line
    from understudy.errors import DataError
    from understudy.runtime.predictor import softmax
    from understudy.text import clean_text

    for number, line in enumerate(lines, 1):
        row = parse_input_line(line, f"{source}:{number}")
        if not isinstance(row.get("text"), str):
            raise DataError(f"{source}:{number}: expected a text, or a JSON object with one under 'text'.")
        pairs = None if row.get("text_pair") is None else [row["text_pair"]]
        try:
            scores = softmax(classifier.logits([row["text"]], pairs))[0]
        except DataError as error:
            raise DataError(f"{source}:{number}: {error}") from None
        best = int(scores.argmax())
        answer = {
            **row,
            "text": clean_text(row["text"]),
            "label": classifier.label_names[best],
            "score": round(float(scores[best]), 6),
        }
        if all_scores:
            named = zip(classifier.label_names, scores.tolist(), strict=True)
            answer["scores"] = {name: round(score, 6) for name, score in named}
        print(json.dumps(answer, ensure_ascii=False), flush=True)


def _arguments(epochs: float | None, batch_size: int | None, learning_rate: float | None) -> dict[str, Any]:
    given = {
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    return {name: value for name, value in given.items() if value is not None}


def _log(quiet: bool) -> None:
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


def _version(show: bool) -> None:
    if show:
        print(f"understudy {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _terminate(*_: Any) -> NoReturn:
    print("Terminated. Run the same command again to go on where it stopped.", file=sys.stderr)
    sys.exit(143)


def main() -> None:
    """Run the command line: exit code 2 and one paragraph for bad input, 130 for Ctrl-C, 143 for SIGTERM."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(standalone_mode=True)
    except UnderstudyError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in TRAIN_PACKAGES:
            raise
        _fail(f"This command needs {error.name}. Install it with: pip install 'understudy[train]'")
    except OSError as error:
        if error.errno is None:
            raise
        _fail(
            f"{error.strerror}{f': {error.filename}' if error.filename else ''}. "
            "What was finished is kept; run the same command again to go on."
        )
    except SystemExit as error:
        if error.code == 130:  # typer's answer to Ctrl-C
            print("\nInterrupted. Run the same command again to go on where it stopped.", file=sys.stderr)
        raise


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
