"""Every setting, defined once: name, default, range and help. Imports no torch.

The command line, exam plans and the command on the model card are made from these fields. A field with a
`typer.Option` is a command-line option; the others are for Python only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints

import typer

from eyas.errors import ModelError
from eyas.kinds import GENERATION, KINDS

# Maximum tokens per text.
MAX_LENGTH = 256
# The same of students that learn sentence vectors.
SENTENCE_LENGTH = 128
MOST_SEED = 2**32 - 1
STUDENTS = ("static", "cnn", "bilstm", "cnn-lstm")
# Models of rows of categorical fields; cin is rather a teacher.
FIELD_MODELS = ("dagfm", "dagfm-outer", "cin")
# Students that write: a smaller model of the teacher's family, and one of GRUs.
SMALLER, GRU = "encoder-decoder", "gru"
WRITERS = (SMALLER, GRU)
ENSEMBLE = "ensemble"
# How an ensemble combines its members' outputs.
LOGITS, PROBABILITIES, WEIGHTS = "logits", "probabilities", "weights"
COMBINATIONS = (LOGITS, PROBABILITIES, WEIGHTS)
# Sources of word vectors other than files.
MIXED = "mixed"
VECTORS = ("teacher", "random", MIXED)
# Values of `init`: a start from the package's general students, and none.
GENERAL, NO_START = "general", "none"


@dataclass(frozen=True)
class Size:
    """Layers, hidden size, attention heads and feed-forward size; None = the teacher's."""

    layers: int | None = None
    hidden_size: int | None = None
    heads: int | None = None
    feed_forward: int | None = None

    def with_own(self, **sizes: int | None) -> "Size":
        """A copy with the given sizes; None keeps a size."""
        return replace(self, **{name: size for name, size in sizes.items() if size is not None})


TRANSFORMERS: dict[str, Size] = {
    "bert-tiny": Size(2, 128, 2, 512),
    "bert-mini": Size(4, 256, 4, 1024),
    "bert-small": Size(4, 512, 8, 2048),
    "bert-medium": Size(8, 512, 8, 2048),
    "tinybert-4l": Size(4, 312, 12, 1200),
    "bert-6l": Size(6),
    "bert": Size(),
}
STUDENT_NAMES = (
    f"{', '.join([*STUDENTS, f'{ENSEMBLE}:cnn,bilstm,cnn-lstm', *TRANSFORMERS])}; for fields "
    f"{', '.join(FIELD_MODELS)}; to write {', '.join(WRITERS)}"
)


def _option(panel: str) -> Callable[..., Any]:
    def option(help: str, *flags: str, **more: Any) -> Any:
        return typer.Option(*flags, help=help, rich_help_panel=panel, show_default=more.pop("default", True), **more)

    return option


DATA, STUDENT, METHOD, TRAINING, OUTPUT = "Data", "Student", "Method", "Training", "Output"
_student, _method, _data, _training = map(_option, (STUDENT, METHOD, DATA, TRAINING))


class Settings:
    """Base class of settings; rejects values out of range."""

    def __post_init__(self) -> None:
        for name, option in options_of(cast(Any, type(self))).items():
            value, lowest = getattr(self, name), option.min
            if lowest is not None and value is not None and not value >= lowest:
                raise ModelError(f"{name} ({flag_of(name, option)}) is {value}, expected at least {lowest:g}.")


@dataclass(frozen=True)
class StudentSettings(Settings):
    """The student model; None = the architecture's default.

    Args:
        architecture: static, cnn, bilstm or cnn-lstm; an ensemble of these that share one table of word vectors, such
            as ensemble:cnn,bilstm,cnn-lstm; or a transformer of the teacher's family: bert-tiny, bert-mini,
            bert-small, bert-medium, tinybert-4l, bert-6l, or bert with the teacher's own sizes. For rows of fields
            dagfm, dagfm-outer or cin.
        layers: layers of a transformer, or of a dagfm; by default the architecture's. Of a student that writes, its
            encoder's.
        decoder_layers: layers of the decoder of a student that writes; by default 1.
        hidden_size: hidden size of a transformer; for other students the LSTM units, or the filters per width.
        heads: attention heads of a transformer.
        feed_forward: size of a transformer's feed-forward layers.
        init: initial weights. For a transformer: "random"; layers of the teacher ("first", "last", "skip", or numbers
            such as "1,3,5"); or the folder of a pretrained model, whose first layers are copied. The default is
            "first" if student and teacher have the same hidden size, otherwise "random". A narrower student starts
            from a projection of the teacher's layers. For other students: "general", one of the package's pretrained
            students, or one of them by name, "general-en"; the folder of a pretrained student; or "none". The default
            of `eyas.distill` and of exams is the general student that knows most words of the training texts, if it
            knows enough of them and has the sizes and word vectors that are asked for.
        embeddings: source of the word vectors: "teacher" (principal components of its embedding table), "random",
            "mixed" (a new vocabulary of `vocab_size` subwords, 5,000 by default, whose vectors are learned in the
            teacher's space), or a file of word vectors, which makes the student word-level.
        embedding_size: dimension of the word vectors; a file has its own.
        vocab_size: maximum number of tokens; by default all tokens in the transfer set.
        freeze_embeddings: do not train the word vectors.
        combination: how an ensemble combines its members: logits, probabilities or weights.
        crf: decode tags as a sequence with a conditional random field (taggers only).
        char_embedding_size: dimension of a convolution over the characters of each token; 0 = none (taggers only).
        max_length: maximum tokens per text.
        compress: methods that make a transformer smaller before it is trained, such as "low-rank:0.25"; see
            `eyas.compress`. It must start from the teacher's layers.
        dropout: dropout probability, at least 0 and less than 1.
    """

    architecture: Annotated[str, _student(f"Architecture: {STUDENT_NAMES}.", "--student")] = "bilstm"
    layers: Annotated[int | None, _student("Layers of a transformer.", min=1, default="by student")] = None
    decoder_layers: Annotated[
        int | None, _student("Layers of the decoder of a student that writes.", min=1, default="1")
    ] = None
    hidden_size: Annotated[
        int | None, _student("Hidden size, LSTM units, or filters per width.", min=1, default="by student")
    ] = None
    heads: Annotated[int | None, _student("Attention heads of a transformer.", min=1, default="by student")] = None
    feed_forward: Annotated[
        int | None, _student("Feed-forward size of a transformer.", min=1, default="by student")
    ] = None
    init: Annotated[
        str | None,
        _student(
            "Initial weights: a pretrained folder; general or none; for a transformer random, or the teacher's layers: "
            "first, last, skip, 1,3,5.",
            default="general if it fits, for a transformer first",
        ),
    ] = None
    embeddings: Annotated[
        str, _student("Word vectors: teacher, random, mixed, or a word2vec, GloVe or fastText file.")
    ] = "teacher"
    embedding_size: Annotated[int | None, _student("Size of the word vectors.", min=1, default="128")] = None
    vocab_size: Annotated[
        int | None, _student("Maximum vocabulary size.", min=1, default="all tokens in the transfer set")
    ] = None
    freeze_embeddings: Annotated[bool, _student("Do not train the word vectors.", "--freeze-embeddings")] = False
    combination: Annotated[str, _student("How an ensemble combines its members: logits, probabilities or weights.")] = (
        LOGITS
    )
    crf: Annotated[bool, _student("Taggers: decode tags as a sequence (CRF).", "--crf")] = False
    char_embedding_size: Annotated[
        int, _student("Taggers: size of a convolution over characters; 0 = none.", min=0)
    ] = 0
    max_length: Annotated[int, _student("Maximum tokens per text.", min=2)] = MAX_LENGTH
    compress: Annotated[
        tuple[str, ...],
        _student(
            "Compress a transformer that starts from the teacher's layers: layers:SHARE, low-rank:SHARE, heads:SHARE, "
            "units:SHARE, prune:SHARE, shared, ternary, int4, int8 (docs/compression.md). Repeatable.",
            default=False,
        ),
    ] = ()
    dropout: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(cast(Any, self.compress), str):
            object.__setattr__(self, "compress", (self.compress,))
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ModelError(f"dropout is {self.dropout}, expected at least 0 and less than 1.")

    @property
    def is_ensemble(self) -> bool:
        return self.architecture.startswith(f"{ENSEMBLE}:")

    @property
    def members(self) -> list[str]:
        """The members of an ensemble; of another student, itself."""
        return member_names(self.architecture) if self.is_ensemble else [self.architecture]

    @property
    def reads_as_teacher(self) -> bool:
        """Whether a non-transformer student keeps the teacher's tokenization of single texts."""
        known = self.embeddings in VECTORS and self.embeddings != MIXED
        return known and not self.vocab_size and self.init in (None, NO_START)

    @property
    def size(self) -> Size:
        """The sizes of a transformer."""
        return TRANSFORMERS[self.architecture].with_own(
            layers=self.layers, hidden_size=self.hidden_size, heads=self.heads, feed_forward=self.feed_forward
        )

    def is_as_wide(self, width: int) -> bool:
        """Whether a transformer with these settings has the teacher's hidden size, `width`."""
        return self.size.hidden_size in (None, width)

    def start(self, width: int) -> str:
        """`init` of a transformer with its default resolved; `width` is the teacher's hidden size."""
        return self.init or ("first" if self.is_as_wide(width) and self.embeddings != "random" else "random")

    def copies_layers(self, width: int) -> bool:
        """Whether a transformer starts from pretrained layers, copied unchanged."""
        start = self.start(width)
        return is_folder(start) or (start != "random" and self.is_as_wide(width))


@dataclass(frozen=True)
class Columns(Settings):
    """The columns to read and the task; None = found by convention.

    Args:
        text: texts; for tagging, the words of each sentence. In a CoNLL file, the column number, from "0". For fields,
            their columns, separated by commas; by default all but the label.
        text_pair: second texts; for tagging, a question about the sentence.
        label: labels, tags or a number; several names, separated by commas, are aspects or binary labels (0 or 1). For
            generation, the texts to write.
        task: one of `eyas.kinds.KINDS`, or "generation".
        repair_tags: change I- tags that do not continue a span to B-.
    """

    text: Annotated[
        str | None,
        _data("Column of texts; for tagging, of words; a,b,c for fields.", default="text, sentence ...; tokens ..."),
    ] = None
    text_pair: Annotated[
        str | None, _data("Column of second texts; for tagging, of a question.", default="by convention")
    ] = None
    label: Annotated[
        str | None, _data("Column of labels or tags; a,b,c for several aspects.", default="label, tags ...")
    ] = None
    task: Annotated[
        str | None, _data(f"Task: {', '.join(KINDS)}; {GENERATION}.", default="inferred from the columns")
    ] = None
    repair_tags: Annotated[bool, _data("Change I- tags that do not continue a span to B-.", "--repair-tags")] = False


@dataclass(frozen=True)
class TransferSettings(Settings):
    """The texts a student is trained on, in addition to the training texts.

    Args:
        max_unlabeled: use at most this many unlabeled texts, the most similar to the training texts first; None = all.
        augment: methods that make new texts from the training texts, such as "tang:20"; see `Augmentation`. () = none;
            None = the default of `eyas.distill` and the command line.
        select: rules that choose among the new texts, such as "uncertain:0.5"; see `Selection`.
        mixup: mix the word vectors of each text with those of another; the strength of `Mixup`, 0 = off.
        smoothing: a masked language model for `Smoothing`; empty = off.
    """

    max_unlabeled: Annotated[
        int | None,
        _data(
            "Use at most this many unlabeled texts, the most similar to the training texts first.",
            min=1,
            default="all",
        ),
    ] = None
    augment: Annotated[
        tuple[str, ...] | None,
        _data(
            "Make new texts from the training texts, METHOD:COUNT: tang:20, neighbors:20[:VECTORS], "
            "masked-lm:20:FOLDER, doubts:5:STUDENT; or none. Repeatable.",
            default="neighbors:10 for classification of up to 10,000 single texts (compress: of our own "
            "students), else none",
        ),
    ] = None
    select: Annotated[
        tuple[str, ...],
        _data(
            "Which of the new texts to train on, RULE:SHARE: confident:0.5, uncertain:0.5, disagreement:0.5:STUDENT, "
            "learned:0.5:STUDENT, same-label. Repeatable.",
            default=False,
        ),
    ] = ()
    mixup: Annotated[float, _data("Mix the word vectors of two texts, shares from Beta(MIXUP, MIXUP).", min=0.0)] = 0.0
    smoothing: Annotated[str, _data("Smooth texts with this masked language model (slow).", default=False)] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("augment", "select"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, (getattr(self, name),))


@dataclass(frozen=True)
class TrainingOptions(Settings):
    """The training arguments on the command line; None = the default."""

    num_train_epochs: Annotated[
        float | None,
        _training("Epochs, of all stages together.", "--epochs", min=0.01, default="about 4,000 steps a stage"),
    ] = None
    per_device_train_batch_size: Annotated[
        int | None, _training("Examples per step.", "--batch-size", min=1, default="64")
    ] = None
    learning_rate: Annotated[float | None, _training("Peak learning rate.", min=1e-8, default="by student")] = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The options that were given, as fields of `DistillationArguments`."""
        given = {option.name: getattr(self, option.name) for option in fields(self)}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class TeacherTrainingOptions(TrainingOptions):
    """The training arguments of `eyas finetune`."""

    num_train_epochs: Annotated[
        float | None, _training("Epochs.", "--epochs", min=0.01, default="about 1,000 steps")
    ] = None
    per_device_train_batch_size: Annotated[
        int | None, _training("Examples per step.", "--batch-size", min=1, default="32")
    ] = None
    learning_rate: Annotated[
        float | None, _training("Peak learning rate.", min=1e-8, default="5e-5; more for narrow encoders")
    ] = None


@dataclass(frozen=True)
class CompressionTrainingOptions(TrainingOptions):
    """The training arguments of `eyas compress`."""

    num_train_epochs: Annotated[
        float | None,
        _training(
            "Epochs, of all stages together.",
            "--epochs",
            min=0.01,
            default="about 1,000 steps, at most 7.5 epochs; for our own students as in distill",
        ),
    ] = None


@dataclass(frozen=True)
class DistillSettings:
    """How a student is trained.

    Args:
        student: the student model.
        recipe: the distillation method: a key of `RECIPES`, a function that returns stages, or its location,
            "package.module:function". The default is dist; CRF taggers, binary and multi-label classification and
            regression use logit-mse.
        recipe_options: arguments of the recipe's function.
        transfer: texts in addition to the training texts.
        arguments: fields of `DistillationArguments`; they override the recipe's. Without `num_train_epochs` or
            `max_steps`, each stage takes about 4,000 steps, in 4 to 30 epochs, and may stop early.
        seed: for initial weights, data order and dropout.
        patience: stop a stage after this many validations without improvement; by default a third of all validations
            (at least 3), and never if `arguments` set the length.
        live: run the teacher in every step instead of labeling once (slow; for comparison).
        label_map: {teacher's label name: data's label name}, if they cannot be matched automatically.
    """

    student: StudentSettings = field(default_factory=StudentSettings)
    recipe: str | Callable[..., Any] = ""
    recipe_options: dict[str, Any] = field(default_factory=dict)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    arguments: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    patience: int | None = None
    live: bool = False
    label_map: dict[str, str] | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)


@dataclass(frozen=True)
class FinetuneSettings:
    """How a teacher is fine-tuned.

    Args:
        arguments: fields of `DistillationArguments`; they override the defaults. Without `num_train_epochs`, training
            takes about 1,000 steps, in 3 to 20 epochs.
        seed: for the new head, data order and dropout.
        patience: stop after this many validations without improvement; by default a third of all validations (at least
            3), and never if `arguments` set the length.
        max_length: maximum tokens per text.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    patience: int | None = None
    max_length: int = MAX_LENGTH

    def __post_init__(self) -> None:
        check_seed(self.seed)


def check_seed(seed: int) -> None:
    """Raise ModelError for a number that numpy takes for no seed."""
    if not 0 <= seed <= MOST_SEED:
        raise ModelError(f"seed (--seed) is {seed}, expected 0 to {MOST_SEED:,}.")


def check_architecture(name: str) -> None:
    """Raise ModelError for an unknown student."""
    if name.partition(":")[0] == ENSEMBLE:
        member_names(name)
    elif name not in (*STUDENTS, *TRANSFORMERS, *FIELD_MODELS, *WRITERS):
        raise ModelError(f"No student {name!r}. Expected one of {STUDENT_NAMES}.")


def member_names(architecture: str) -> list[str]:
    """`ensemble:cnn,bilstm` -> ["cnn", "bilstm"]; raises ModelError for fewer than two members or unknown ones."""
    names = [name.strip() for name in architecture.partition(":")[2].split(",") if name.strip()]
    unknown = [name for name in names if name not in STUDENTS]
    if unknown:
        raise ModelError(f"{architecture}: no member {unknown[0]!r}. Expected some of {', '.join(STUDENTS)}.")
    if len(names) < 2:
        raise ModelError(
            f"{architecture} has {len(names)} members, expected two or more, such as ensemble:cnn,bilstm,cnn-lstm. "
            "For a single student, give its name without ensemble."
        )
    return names


def is_general(init: str | None) -> bool:
    """Whether `init` is a general student of the package."""
    return init == GENERAL or (init is not None and init.startswith(f"{GENERAL}-") and not is_folder(init))


def is_folder(init: str | None) -> bool:
    """Whether `init` is a model folder or a Hub name, not a choice of the teacher's layers or a general student."""
    return init not in (None, GENERAL) and ("/" in str(init) or Path(str(init)).is_dir())


@cache
def options_of(kind: type[Any]) -> dict[str, Any]:
    """The fields of these settings that are command-line options, by name."""
    hints = get_type_hints(kind, include_extras=True)
    found = {item.name: getattr(hints[item.name], "__metadata__", ()) for item in fields(kind)}
    return {name: metadata[0] for name, metadata in found.items() if metadata}


def flag_of(name: str, option: Any) -> str:
    """The command-line flag of a field."""
    declared: str | None = option.default if isinstance(option.default, str) else None
    return declared or f"--{name.replace('_', '-')}"
