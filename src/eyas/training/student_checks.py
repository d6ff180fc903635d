"""Which students fit which task."""

import re
from dataclasses import asdict, fields

from eyas.compression import parse_methods
from eyas.errors import ModelError
from eyas.general import check_general
from eyas.models.loading import check_model, is_student_folder
from eyas.models.transformer import STARTS, check_heads, listed_layers
from eyas.settings import (
    COMBINATIONS,
    FIELD_MODELS,
    GENERAL,
    GRU,
    LOGITS,
    NO_START,
    TRANSFORMERS,
    VECTORS,
    WRITERS,
    DistillSettings,
    StudentSettings,
    TransferSettings,
    check_architecture,
    is_folder,
    is_general,
)
from eyas.tasks import Task

# Settings of every model of rows of fields. All fields of a row are read, whatever `max_length` is.
OF_FIELDS = {"architecture", "dropout", "embedding_size", "embeddings", "freeze_embeddings", "max_length", "vocab_size"}
# Settings of students that write: of a smaller model of the teacher's family, of a gru.
OF_SMALLER = {"layers", "decoder_layers", "hidden_size", "heads", "feed_forward", "init", "max_length"}
OF_GRU = {"hidden_size", "init", "max_length"}


def check_student(settings: StudentSettings, task: Task) -> None:
    """Raises ModelError if the settings do not fit each other, or `task`, or `init`."""
    check_student_settings(settings, task)
    check_init(settings)


def check_init(settings: StudentSettings) -> None:
    """Raises ModelError if `init` names no model, or one of another kind than the student."""
    init = str(settings.init)
    if is_general(settings.init) and init != GENERAL:
        check_general(init)
    if not is_folder(settings.init):
        return
    check_model(init)
    if is_student_folder(init) == (settings.architecture in TRANSFORMERS):
        expected = "a pretrained transformer" if settings.architecture in TRANSFORMERS else "a pretrained student"
        raise ModelError(f"init (--init) is {init}, but {settings.architecture} starts from {expected}.")


def check_student_settings(settings: StudentSettings, task: Task | None = None) -> None:
    """Raises ModelError if the settings do not fit each other, or `task`; reads no files."""
    check_architecture(settings.architecture)
    if settings.architecture in FIELD_MODELS or (task is not None and task.reads_fields):
        _check_fields(settings, task)
        return
    if settings.decoder_layers or settings.architecture in WRITERS:
        wrong = "decoder_layers (--decoder-layers)" if settings.decoder_layers else settings.architecture
        raise ModelError(f"{wrong} is for students that write (--task generation). Leave it out.")
    _check_combination(settings)
    for_taggers = settings.crf or settings.char_embedding_size
    if task is not None and not task.is_tagging and for_taggers:
        raise ModelError(
            "crf (--crf) and char_embedding_size (--char-embedding-size) are for tagging; this is "
            f"{task.describe()}. Leave them out."
        )
    if settings.is_ensemble and (for_taggers or (task is not None and task.is_tagging)):
        raise ModelError("Ensembles are for texts and pairs; for tagging, choose cnn, bilstm or cnn-lstm.")
    methods = parse_methods(settings.compress)
    if methods and (settings.architecture not in TRANSFORMERS or settings.start(0) == "random" or settings.hidden_size):
        raise ModelError(
            f"compress (--compress) needs a transformer that starts from the teacher's layers, such as --student bert, "
            f"got {settings.architecture}. To compress a trained student, use eyas.compress (eyas compress)."
        )
    if settings.architecture in TRANSFORMERS:
        _check_transformer(settings)
    else:
        _check_own(settings)


def _check_combination(settings: StudentSettings) -> None:
    if settings.combination not in COMBINATIONS:
        raise ModelError(
            f"combination (--combination) is {settings.combination!r}, expected one of {', '.join(COMBINATIONS)}."
        )
    if settings.combination != LOGITS and not settings.is_ensemble:
        raise ModelError(f"{settings.architecture} is not an ensemble: leave combination (--combination) out.")


def _check_own(settings: StudentSettings) -> None:
    """Of a student of our own architectures."""
    if settings.layers or settings.heads or settings.feed_forward:
        raise ModelError(
            f"{settings.architecture} is not a transformer: leave --layers, --heads and --feed-forward out."
        )
    if settings.init in (None, NO_START):
        return
    if not is_folder(settings.init) and not is_general(settings.init):
        raise ModelError(
            f"{settings.architecture} cannot start from teacher layers: init (--init) is {settings.init!r}, "
            "expected general, none or the folder of a pretrained student."
        )
    if settings.embeddings != "teacher":
        raise ModelError("A pretrained student brings its own word vectors: leave --embeddings or --init out.")


def _check_transformer(settings: StudentSettings) -> None:
    size = settings.size
    if is_general(settings.init) or settings.init == NO_START:
        raise ModelError(
            f"{settings.architecture} is a transformer: init (--init) is {settings.init!r}, expected random, layers of "
            "the teacher, or a pretrained folder."
        )
    if settings.init not in (None, "random") and not is_folder(settings.init):
        listed_layers(str(settings.init), size.layers)
    if size.hidden_size and size.heads:
        check_heads(size.hidden_size, size.heads)
    if settings.crf or settings.char_embedding_size or settings.embedding_size:
        raise ModelError(
            f"{settings.architecture} has no CRF and no character vectors, and its word vectors have its hidden size: "
            "leave --embedding-size, --crf and --char-embedding-size out."
        )
    if settings.embeddings not in VECTORS:
        raise ModelError(
            f"{settings.architecture} reads subwords: embeddings (--embeddings) must be one of {', '.join(VECTORS)}."
        )


def check_writer(settings: DistillSettings) -> None:
    """Raises ModelError for settings that are not for students that write."""
    student, usual = settings.student, StudentSettings()
    own = OF_GRU if student.architecture == GRU else OF_SMALLER
    wrong = ["architecture"] * (student.architecture not in (usual.architecture, *WRITERS))
    wrong += [
        name
        for name, value in asdict(student).items()
        if value != getattr(usual, name) and name not in own | {"architecture"}
    ]
    wrong += ["transfer"] * (settings.transfer not in (TransferSettings(), TransferSettings(augment=())))
    wrong += [name for name in ("live", "label_map") if getattr(settings, name)]
    if wrong:
        raise ModelError(
            f"{wrong[0]} is set, but a student that writes is one of {', '.join(WRITERS)} (--student) and takes only "
            f"{', '.join(sorted(own))}. Leave it out."
        )
    if student.architecture == GRU and student.init not in (None, "random"):
        raise ModelError(
            f"init (--init) is {student.init!r}, but a gru has no layers to copy: leave it out, or random."
        )
    start = student.init or "random"
    if start not in ("random", *STARTS) and not re.fullmatch(r"\d+(,\d+)*", start):
        raise ModelError(
            f"init (--init) is {start!r}. A student that writes starts at random, or from the teacher's layers: "
            f"expected random, {', '.join(STARTS)}, or layers of its encoder such as 1,3."
        )


def _check_fields(settings: StudentSettings, task: Task | None) -> None:
    """Raises ModelError if the student or `task` is not for rows of fields, or a setting is not for such a student."""
    name = settings.architecture
    if task is not None and not (task.reads_fields and name in FIELD_MODELS):
        raise ModelError(
            f"{name} does not fit {task.describe()}: for rows of fields (--task fields) choose one of "
            f"{', '.join(FIELD_MODELS)} (--student), for texts any other."
        )
    taken = OF_FIELDS if name == "cin" else OF_FIELDS | {"layers"}
    others = [item.name for item in fields(settings) if getattr(settings, item.name) != item.default]
    others = [other for other in others if other not in taken]
    if others or settings.embeddings not in ("teacher", "random"):
        wrong = others[0] if others else f"embeddings {settings.embeddings}"
        raise ModelError(
            f"{name} has no {wrong}: leave it out. It takes {', '.join(sorted(taken - {'architecture'}))}, and "
            "embeddings are teacher or random."
        )
