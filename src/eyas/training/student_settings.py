"""What a student is like, and what is refused before it is made."""

from dataclasses import dataclass
from pathlib import Path

from eyas.errors import ModelError
from eyas.models import ENSEMBLE, STUDENTS, member_names
from eyas.models.ensemble import COMBINATIONS, LOGITS
from eyas.models.loading import MAX_LENGTH
from eyas.models.transformer import TRANSFORMERS, Size
from eyas.tasks import Task


@dataclass(frozen=True)
class StudentSettings:
    """What a student is like; None = the architecture's default.

    Args:
        architecture: static, cnn, bilstm, cnn-lstm; ensemble:cnn,bilstm,cnn-lstm (some of them over one table of word
            vectors); or a transformer of the teacher's family: bert-tiny, bert-mini,
            bert-small, bert-medium, tinybert-4l, bert-6l, and bert, which has the teacher's own sizes.
        embeddings: where word vectors come from: "teacher" (principal components of its word table), "random", or
            a file of word vectors, which makes a word-level student.
        embedding_size: their dimension; a file decides it itself.
        hidden_size: width of the layers above.
        vocab_size: largest number of tokens; by default all that occur in the transfer set.
        freeze_embeddings: leave the word vectors as they are.
        dropout: probability.
        max_length: tokens of a text that are read.
        char_embedding_size: dimension of a convolution over the characters of each token; 0 = none (taggers only).
        crf: choose tags as a sequence, by a conditional random field (taggers only).
        layers: of a transformer; by default the architecture's.
        heads: of a transformer's attention, likewise.
        feed_forward: width of a transformer's inner layers, likewise.
        init: what a transformer starts from: "random", or layers of the teacher: "first", "last", "skip", or numbers
            such as "1,3,5"; by default the first ones where it is as wide as the teacher, else random. A narrower one
            starts from a projection of them. Or the folder of a pretrained model, whose first layers it takes; for
            the other students, the folder of one that was pretrained.
    """

    architecture: str = "bilstm"
    embeddings: str = "teacher"
    embedding_size: int | None = None
    hidden_size: int | None = None
    vocab_size: int | None = None
    freeze_embeddings: bool = False
    dropout: float | None = None
    max_length: int = MAX_LENGTH
    char_embedding_size: int = 0
    crf: bool = False
    layers: int | None = None
    heads: int | None = None
    feed_forward: int | None = None
    init: str | None = None
    combination: str = LOGITS

    @property
    def is_ensemble(self) -> bool:
        return self.architecture.startswith(f"{ENSEMBLE}:")

    @property
    def reads_as_teacher(self) -> bool:
        """Whether one of our own students reads a single text in the teacher's tokens."""
        return self.embeddings in ("teacher", "random") and not self.vocab_size and not self.init

    @property
    def size(self) -> Size:
        """Of a transformer."""
        return TRANSFORMERS[self.architecture].with_own(
            layers=self.layers, hidden_size=self.hidden_size, heads=self.heads, feed_forward=self.feed_forward
        )

    def is_as_wide(self, width: int) -> bool:
        """Whether a transformer of these settings is as wide as a teacher of `width`."""
        return self.size.hidden_size in (None, width)

    def start(self, width: int) -> str:
        """What a transformer starts from with a teacher of `width`: as `init`, decided."""
        return self.init or ("first" if self.is_as_wide(width) and self.embeddings == "teacher" else "random")

    def copies_layers(self, width: int) -> bool:
        """Whether a transformer starts from layers that know something already, as they are."""
        start = self.start(width)
        return is_folder(start) or (start != "random" and self.is_as_wide(width))


def check_architecture(name: str) -> None:
    """Raises ModelError where there is no such student."""
    if name.partition(":")[0] == ENSEMBLE:
        member_names(name)
        return
    known = (*STUDENTS, *TRANSFORMERS)
    if name not in known:
        raise ModelError(f"No student {name!r}. Expected one of {', '.join(known)}, or {ENSEMBLE}:cnn,bilstm,cnn-lstm.")


def is_folder(init: str | None) -> bool:
    """Whether `init` is a model's folder, or a name on the Hub, and no choice of the teacher's layers."""
    return init is not None and ("/" in init or Path(init).is_dir())


def check_student(settings: StudentSettings, task: Task) -> None:
    """Raises ModelError where there is no such student for `task`."""
    check_architecture(settings.architecture)
    if settings.combination not in COMBINATIONS:
        raise ModelError(f"No combination {settings.combination!r}. Expected one of {', '.join(COMBINATIONS)}.")
    if settings.combination != LOGITS and not settings.is_ensemble:
        raise ModelError(f"{settings.architecture} is one model: leave --combination out.")
    if settings.is_ensemble and task.is_tagging:
        raise ModelError("Ensembles are for texts and pairs; for tagging, choose cnn, bilstm or cnn-lstm.")
    taggers_only = settings.crf or settings.char_embedding_size
    if taggers_only and not task.is_tagging:
        raise ModelError(f"A CRF and characters are for tagging; this is {task.describe()}. Leave them out.")
    if settings.architecture not in TRANSFORMERS:
        if settings.layers or settings.heads or settings.feed_forward:
            raise ModelError(f"{settings.architecture} is no transformer: leave --layers, --heads and --ffn out.")
        if settings.init and not is_folder(settings.init):
            raise ModelError(
                f"{settings.architecture} starts from no layers of the teacher: --init must be the folder of a "
                "pretrained student, or be left out."
            )
        if settings.init and settings.embeddings != "teacher":
            raise ModelError("A pretrained student has word vectors of its own: leave --embeddings or --init out.")
        if settings.init and (settings.is_ensemble or task.is_tagging):
            raise ModelError("Ensembles and taggers can't start from a pretrained student: leave --init out.")
        return
    if taggers_only or settings.embedding_size:
        raise ModelError(
            f"{settings.architecture} has no CRF, no characters, and word vectors as wide as its layers: leave "
            "--embedding-size, --crf and --char-embedding-size out."
        )
    if settings.embeddings not in ("teacher", "random"):
        raise ModelError(f"{settings.architecture} reads pieces of words: --embeddings must be teacher or random.")
