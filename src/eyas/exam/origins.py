"""Where a teacher comes from: its encoder, its `finetune`, and the meta-teacher of several domains."""

import hashlib
import json
from pathlib import Path
from typing import Any

from eyas.encoders import CONFIG, find_encoder, in_hub_cache
from eyas.errors import ModelError
from eyas.exam.loaded import read
from eyas.exam.plan_parts import DataPlan
from eyas.models.loading import is_student_folder
from eyas.outputs import RUN_FILE
from eyas.settings import MAX_LENGTH, FinetuneSettings
from eyas.teachers.encoder import pooling_of
from eyas.training.domains import check_labels, join_domains, load_domains
from eyas.training.finetune import finetune
from eyas.transfer.augmentation import identity


def finetuned(teacher: str) -> dict[str, Any]:
    """The settings of the `finetune` that made a teacher; empty for others."""
    try:
        settings = json.loads((Path(teacher) / RUN_FILE).read_text())["settings"]
        return dict(settings) if settings["command"] == "finetune" else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def encoder_of(teacher: str) -> str | None:
    """The encoder that `finetune` made a teacher from; None if it is not on this machine or has no sentence vectors."""
    settings = finetuned(teacher)
    try:
        files = [Path(row[0]) for row in settings["model_files"]]  # none for a name on the Hub
        folders = sorted((file.parent for file in files if file.name == CONFIG), key=lambda folder: len(folder.parts))
        encoder = str(folders[0]) if folders else in_hub_cache(settings["model"])
        if encoder is None or not Path(encoder, CONFIG).is_file() or is_student_folder(encoder):
            return None
        pooling_of(encoder)
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None
    return encoder


def meta_teacher(entry: DataPlan, folder: Path) -> Path:
    """The teacher, an encoder, fine-tuned on the domains of its data set; in `folder`, once for the same domains.

    Raises:
        LabelError: the data set has other labels than the domains.
    """
    assert entry.domains is not None
    domains = load_domains(entry.domains, entry.columns)
    joined = join_domains(domains)
    check_labels(read(entry), joined)
    about: dict[str, Any] = {
        name: [data.fingerprint(split) for split in ("train", "validation")] for name, data in domains.items()
    }
    about["encoder"] = [entry.teacher[0], identity(find_encoder(entry.teacher[0]))]
    if (entry.max_length or MAX_LENGTH) > MAX_LENGTH:
        about["max_length"] = entry.max_length
    out = folder / hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]
    settings = FinetuneSettings(max_length=entry.max_length or MAX_LENGTH)
    return finetune(entry.teacher[0], joined, out, settings, domains=domains)
