"""Teachers that are fine-tuned on several domains (Meta-KD)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import concatenate_datasets

from eyas.data.datasets import is_labeled, load_data, report
from eyas.data.task_data import TaskData
from eyas.errors import DataError, LabelError, ModelError
from eyas.losses import MetaTeacherLoss
from eyas.models.domains import DomainHead
from eyas.models.loading import is_student_folder
from eyas.settings import Columns
from eyas.teachers import AlignedTeacher, Encoder
from eyas.teachers.domains import DomainTexts, write_domains

# Training texts of a domain, at least: the mean of one is itself.
FEWEST_TEXTS = 2


def check_names(domains: Mapping[str, object]) -> None:
    """Raises DataError unless there are several domains, each with a name."""
    if not all(name and isinstance(name, str) for name in domains):
        raise DataError(f"Expected a name for each domain, such as books (--domain), got {list(domains)}.")
    if len(domains) < 2:
        raise DataError(
            f"Expected several domains (--domain), got {', '.join(domains) or 'none'}. For one, use data (--data)."
        )


def load_domains(domains: Mapping[str, Any], columns: Columns | None = None) -> dict[str, TaskData]:
    """The data of each domain, from anything that `load_data` accepts; errors name it."""
    loaded = {}
    for name, source in domains.items():
        try:
            loaded[name] = load_data(source, columns)
        except DataError as error:
            raise type(error)(f"The domain {name}: {error}") from error
    return loaded


def join_domains(domains: Mapping[str, TaskData]) -> TaskData:
    """All texts of all domains as one data set.

    Raises:
        DataError: a domain has too few texts, no single label per text, or other inputs than the first.
        LabelError: a domain has no labels, or other labels than the first.
    """
    check_names(domains)
    first, like = next(iter(domains.items()))
    for name, data in domains.items():
        if not data.task.is_classification:
            raise DataError(f"The domain {name} has {data.task.describe()}, expected one label per text (--domain).")
        if data.is_pair != like.is_pair:
            kinds = ("pairs of texts" if pair else "single texts" for pair in (data.is_pair, like.is_pair))
            raise DataError(
                f"The domain {name} has {next(kinds)}, {first} has {next(kinds)}. Expected the same in all."
            )
        if data.labels != like.labels:
            raise LabelError(
                f"The domain {name} has the labels {data.labels}, {first} has {like.labels}. Expected the same in all: "
                "name them alike, or name the column (--label)."
            )
        if not is_labeled(data["train"]).any():
            raise LabelError(f"The domain {name} has no training text with a label. Label some.")
        if len(set(data["train"]["example_id"])) < FEWEST_TEXTS:
            raise DataError(f"The domain {name} has 1 training text, expected {FEWEST_TEXTS} or more.")
        try:
            data.check_validation()
        except LabelError as error:
            raise LabelError(f"The domain {name}: {error}") from None
    names = ("train", "validation", "test")
    splits = {name: [data[name] for data in domains.values() if name in data] for name in names}
    joined = TaskData({name: concatenate_datasets(parts) for name, parts in splits.items() if parts})
    report(joined)
    return joined


def check_labels(data: TaskData, domains: TaskData) -> None:
    """Raises LabelError unless a student's data have the labels of the domains that its teacher learns."""
    if data.labels != domains.labels:
        raise LabelError(
            f"data (--data) has the labels {data.labels}, the domains have {domains.labels}. Expected the same."
        )


class MetaLesson:
    """What a teacher learns of several domains: its losses, and the scores of its training texts.

    Args:
        model: folder or Hub name of the encoder; its vectors, before the training, score the texts.
        domains: as checked by `join_domains`.
        max_length: maximum number of tokens per text.

    Raises:
        ModelError: the encoder is no transformer, or has no sentence vectors.
    """

    def __init__(self, model: str | Path, domains: Mapping[str, TaskData], max_length: int) -> None:
        if is_student_folder(model):
            raise ModelError(f"{model} is a small student, expected a transformer to fine-tune on domains (--model).")
        encoder = Encoder(model, max_length=max_length)
        config = encoder.model.config
        self.names = list(domains)
        self.texts = DomainTexts.of(encoder, domains)
        self.head = DomainHead(len(domains), config.hidden_size, getattr(config, "hidden_dropout_prob", 0.1))
        self.losses = [MetaTeacherLoss(self.head)]
        self.teacher = AlignedTeacher(self.texts, ())

    def write(self, folder: Path) -> None:
        """Write what `MetaTeacher` reads beside the weights."""
        write_domains(folder, self.names, self.head, self.texts)
