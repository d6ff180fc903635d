"""Pretrain students on an encoder's sentence vectors and states of tokens, before any task."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value, concatenate_datasets
from transformers import TrainerCallback

from eyas import processes
from eyas.data.datasets import ids_of, is_pair
from eyas.data.task_data import TaskData
from eyas.errors import DataError, ModelError
from eyas.outputs import OutputFolder
from eyas.settings import TRANSFORMERS, DistillSettings, is_general
from eyas.teachers import Encoder, aligned_by_name, label_texts
from eyas.training.arguments import with_known_arguments
from eyas.training.checks import check_same_pieces
from eyas.training.recipes import Stage, make_stages, recipe_name, recipe_source, with_shares
from eyas.training.run import DistillationRun
from eyas.training.starts import start_identity, vectors_identity
from eyas.training.steps import with_length
from eyas.training.student_checks import check_student
from eyas.verbosity import without_bars

SRA = "sra"
# Validation texts, which choose the best checkpoint: one in 20, but at most MOST_VALIDATION.
VALIDATION_SHARE, MOST_VALIDATION = 20, 1000
# Files for sentence-transformers: one module, whose logits are the vectors.
SENTENCE_TRANSFORMERS: dict[str, Any] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    ],
    "sentence_bert_config.json": {
        "transformer_task": "sequence-classification",
        "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
        "module_output_name": "sentence_embedding",
    },
}


@without_bars()
def pretrain_student(
    teacher: Encoder,
    dataset: Dataset,
    out: str | Path,
    settings: DistillSettings | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    record: dict[str, Any] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Train students to reproduce an encoder's sentence vectors (Wu et al. 2020, 3.1 and 3.2) and states of tokens.

    An interrupted run resumes, as with `distill`. Without token states, the vectors are computed once and cached.

    Args:
        dataset: single texts, as from `load_unlabeled`.
        settings: `recipe` is sra by default, with `states_weight=1`; other recipes run only their stages that compare
            layers.
        cache: folder for the teacher's vectors; by default chosen by fingerprint.
        record: further settings for `eyas.json`.

    Returns:
        `out`: a family, whose `logits` are sentence vectors, to start students from, to fine-tune, and for
        sentence-transformers. A transformer is no family.

    Raises:
        EyasError: invalid input, raised before any training step.
    """
    settings = with_known_arguments(settings or DistillSettings())
    source = recipe_source(settings.recipe)
    settings = replace(settings, recipe=recipe_name(settings.recipe or SRA))
    if settings.recipe == SRA and settings.student.architecture not in TRANSFORMERS:
        settings = replace(settings, recipe_options={"states_weight": 1.0, **settings.recipe_options})
    stages = _stages(settings)
    data = _split(dataset, settings.seed)
    check_student(settings.student, data.task)
    if is_general(settings.student.init):
        raise ModelError("init (--init) is general, but pretrain-student makes general students. Leave it out.")
    if any("token_states" in loss.student_fields for stage in stages for loss in stage.losses):
        check_same_pieces(SRA, settings.student, teacher, "leave the states of tokens out (--option states_weight=0)")
    settings = with_length(settings, stages, teacher.max_length)
    teacher.check(dataset)
    output = OutputFolder(
        out,
        {
            "command": "pretrain-student",
            **(record or {}),
            **processes.recorded(),
            **asdict(settings),
            **source,
            "teacher_fingerprint": teacher.fingerprint,
            "texts": data.fingerprint("train"),
            **({"init": start_identity(settings.student.init)} if settings.student.init else {}),
            **vectors_identity(settings.student.embeddings),
        },
        overwrite,
    )
    if output.is_finished:
        return output.path
    with output as folder:
        data["validation"] = _with_vectors(data["validation"], teacher)
        aligned = aligned_by_name(teacher, teacher.label_names)
        run = DistillationRun(aligned, data, settings, stages, data["train"])
        run.prepare(cache)
        run.train(teacher.label_names, folder, callbacks)
        if settings.recipe == SRA and processes.is_first():  # other recipes do not train the head
            for name, content in SENTENCE_TRANSFORMERS.items():
                (folder / name).write_text(json.dumps(content, indent=2))
    return output.path


def _stages(settings: DistillSettings) -> list[Stage]:
    """The recipe's stages that need no task."""
    stages = make_stages(settings.recipe, settings.recipe_options)
    chosen = stages if settings.recipe == SRA else [stage for stage in stages if stage.is_below_head]
    if not chosen:
        raise ModelError(
            f"The recipe {settings.recipe} needs the labels of a task. Choose sra, which is for any student, or for "
            "transformers tinybert, minilm or minilmv2."
        )
    return with_shares(str(settings.recipe), chosen)


def _split(dataset: Dataset, seed: int) -> TaskData:
    """Drop duplicate texts and hold some out for validation; `label` stays empty."""
    if is_pair(dataset):
        raise DataError("A sentence encoder reads single texts, got pairs. Name one column with --column.")
    _, first = np.unique(ids_of(dataset), return_index=True)
    rows = np.random.default_rng(seed).permutation(first)
    count = min(len(rows) // VALIDATION_SHARE, MOST_VALIDATION)
    if not count:
        raise DataError(f"Expected at least {VALIDATION_SHARE} different texts, got {len(rows)}.")
    held_out, train = np.sort(rows[:count]), np.sort(rows[count:])
    parts = {name: dataset.select(part) for name, part in (("train", train), ("validation", held_out))}
    return TaskData({name: _with_labels(part, [[]] * len(part)) for name, part in parts.items()})


def _with_vectors(dataset: Dataset, teacher: Encoder) -> Dataset:
    vectors = label_texts(teacher, dataset).logits(ids_of(dataset)).tolist()
    return _with_labels(dataset.remove_columns("label"), vectors)


def _with_labels(dataset: Dataset, labels: Any) -> Dataset:
    schema = Features({"label": List(Value("float32"))})
    return concatenate_datasets([dataset, Dataset.from_dict({"label": labels}, features=schema)], axis=1)
