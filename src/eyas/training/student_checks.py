"""Which students there are for which task."""

from eyas.errors import ModelError
from eyas.settings import COMBINATIONS, LOGITS, TRANSFORMERS, VECTORS, StudentSettings, check_architecture, is_folder
from eyas.tasks import Task


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
            raise ModelError(
                f"{settings.architecture} is no transformer: leave --layers, --heads and --feed-forward out."
            )
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
    if settings.embeddings not in VECTORS:
        raise ModelError(f"{settings.architecture} reads pieces of words: --embeddings must be teacher or random.")
