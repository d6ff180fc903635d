"""Ensembles after training: fit weights, prune members, join students that were trained separately."""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor

from eyas.data.datasets import data_fingerprint, labeled_rows, labels_of, task_of
from eyas.errors import ModelError
from eyas.evaluation.evaluate import aligned_logits
from eyas.evaluation.metrics import task_metrics
from eyas.models.classifier import Classifier
from eyas.models.configuration import EnsembleConfig
from eyas.models.ensemble import MEMBERS, EnsembleForSequenceClassification, combine, subset
from eyas.models.objective import task_loss
from eyas.outputs import OutputFolder
from eyas.settings import COMBINATIONS, LOGITS, WEIGHTS
from eyas.training.folders import SAMPLE_FILE, write_model_folder
from eyas.transfer.augmentation import identity
from eyas.verbosity import without_bars

logger = logging.getLogger("eyas")

STEPS = 200


@dataclass(frozen=True)
class Subset:
    """A subset of an ensemble's members, with its validation score and its number of parameters."""

    members: tuple[str, ...]
    places: tuple[int, ...]
    score: float
    parameters: int


def finish(model: EnsembleForSequenceClassification, tokenizer: Any, validation: Dataset) -> Any:
    """Drop members that diverged, and fit the weights if the combination uses them."""
    kept = [place for place in range(len(model.members)) if place not in model.left_out]
    model = subset(model, kept)
    if model.config.combination == WEIGHTS:
        fit_weights(model, tokenizer, validation)
    return model


def fit_weights(model: EnsembleForSequenceClassification, tokenizer: Any, dataset: Dataset) -> None:
    """Fit the members' weights to the lowest loss on `dataset`. They are positive and sum to 1."""
    dataset = labeled_rows(dataset)
    task, labels = task_of(dataset), torch.from_numpy(labels_of(dataset))
    logits = member_logits(model, tokenizer, dataset)
    raw = torch.zeros(len(logits), requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=0.05)
    with torch.enable_grad():
        for _ in range(STEPS):
            optimizer.zero_grad()
            task_loss(task, combine(task, logits, raw.softmax(0), WEIGHTS), labels).backward()
            optimizer.step()
    model.get_buffer("weights").copy_(raw.detach().softmax(0))
    shares = zip(model.config.members, model.get_buffer("weights").tolist(), strict=True)
    logger.info("Weights: %s.", ", ".join(f"{name} {share:.2f}" for name, share in shares))


def member_logits(model: EnsembleForSequenceClassification, tokenizer: Any, dataset: Dataset) -> Tensor:
    """Logits of each member, [members, rows, labels], in the data's label order."""
    alone = (Classifier(subset(model, [place]), tokenizer) for place in range(len(model.members)))
    return torch.stack([torch.from_numpy(aligned_logits(one, dataset)) for one in alone])


@without_bars()
def prune_ensemble(
    folder: str | Path, dataset: Dataset, out: str | Path, tolerance: float = 0.0, overwrite: bool = False
) -> list[Subset]:
    """Write the smallest subset of members whose score on `dataset` is within `tolerance` of the full ensemble's.

    Args:
        dataset: labeled validation texts, not test texts.
        tolerance: largest allowed drop in score, such as 0.002.

    Returns:
        Every subset: the chosen one first, the others by score.

    Raises:
        ModelError: the model is not an ensemble.
    """
    classifier = Classifier.from_pretrained(folder)
    model = classifier.model
    if not isinstance(model, EnsembleForSequenceClassification):
        raise ModelError(f"{folder} is a {type(model).__name__}, expected an ensemble.")
    output = OutputFolder(
        out,
        {
            "command": "prune-ensemble",
            "model": [str(folder), identity(str(folder))],
            "rows": data_fingerprint(dataset),
            "tolerance": tolerance,
        },
        overwrite,
        resumable=False,
        inputs=[folder],
    )
    every = _subsets(model, classifier.tokenizer, dataset)
    whole = next(found for found in every if len(found.places) == len(model.members))
    enough = [found for found in every if found.score >= whole.score - tolerance]
    chosen = min(enough, key=lambda found: (found.parameters, -found.score))
    with output as partial:
        write_model_folder(subset(model, chosen.places), classifier.tokenizer, dataset, partial)
        _copy_sample(Path(folder), partial)
        (partial / "members.json").write_text(json.dumps([asdict(found) for found in every], indent=1))
    return [chosen, *sorted((found for found in every if found is not chosen), key=lambda found: -found.score)]


@without_bars()
def join(
    folders: Sequence[str | Path],
    out: str | Path,
    combination: str = LOGITS,
    dataset: Dataset | None = None,
    overwrite: bool = False,
) -> Path:
    """Combine students that were trained separately over the same frozen word vectors into one ensemble.

    Args:
        combination: one of `COMBINATIONS`.
        dataset: labeled validation texts; required for `weights`.

    Raises:
        ModelError: fewer than two members, a member that is not a single student, or members whose vocabularies, word
            vectors, labels or sizes differ.
    """
    if len(folders) < 2:
        raise ModelError(f"Expected at least two members (--member), got {len(folders)}.")
    if combination not in COMBINATIONS:
        raise ModelError(f"combination (--combination) is {combination!r}, expected one of {', '.join(COMBINATIONS)}.")
    if combination == WEIGHTS and dataset is None:
        raise ModelError("The combination weights is fitted on validation texts: pass rows (--data).")
    parts = [Classifier.from_pretrained(folder) for folder in folders]
    names = [_architecture(part, folder) for part, folder in zip(parts, folders, strict=True)]
    _check_alike(parts, folders)
    first: Any = parts[0].model.config
    config = EnsembleConfig.from_dict(
        {**first.to_dict(), "members": names, "combination": combination, "hidden_size": _common_size(parts, folders)}
    )
    model = EnsembleForSequenceClassification(config)
    model.embeddings.load_state_dict(cast(Any, parts[0].model).embeddings.state_dict())
    for member, part in zip(cast(Any, model.members), parts, strict=True):
        member.encoder.load_state_dict(cast(Any, part.model).encoder.state_dict())
        member.head.load_state_dict(cast(Any, part.model).head.state_dict())
    model.train(False)
    settings = {
        "command": "join",
        "members": [[str(folder), identity(str(folder))] for folder in folders],
        "combination": combination,
        "rows": None if dataset is None else data_fingerprint(dataset),
    }
    output = OutputFolder(out, settings, overwrite, resumable=False, inputs=folders)
    if output.is_finished:
        return output.path
    with output as partial:
        if combination == WEIGHTS and dataset is not None:
            fit_weights(model, parts[0].tokenizer, dataset)
        write_model_folder(model, parts[0].tokenizer, dataset, partial)
        _copy_sample(Path(folders[0]), partial)
    return output.path


def _subsets(model: EnsembleForSequenceClassification, tokenizer: Any, dataset: Dataset) -> list[Subset]:
    task, labels = task_of(dataset), labels_of(dataset)
    logits, weights = member_logits(model, tokenizer, dataset), model.get_buffer("weights")
    sizes = [sum(parameter.numel() for parameter in member.parameters()) for member in model.members]
    found = []
    for count in range(1, len(sizes) + 1):
        for places in combinations(range(len(sizes)), count):
            chosen = weights[list(places)]
            both = combine(task, logits[list(places)], chosen / chosen.sum(), model.config.combination)
            score = task_metrics(task, both.numpy(), labels)[task.metric]
            names = tuple(model.config.members[place] for place in places)
            found.append(Subset(names, places, float(score), sum(sizes[place] for place in places)))
    return found


def _architecture(part: Classifier, folder: str | Path) -> str:
    name = next((name for name, kind in MEMBERS.items() if isinstance(part.model, kind)), None)
    if name is None:
        raise ModelError(
            f"{folder} is a {type(part.model).__name__}, expected a student for texts: {', '.join(MEMBERS)}."
        )
    return name


def _check_alike(parts: Sequence[Classifier], folders: Sequence[str | Path]) -> None:
    """Raises ModelError if members differ in tokens, input, labels or word vectors."""
    first = parts[0]
    for part, folder in zip(parts[1:], folders[1:], strict=True):
        if part.tokenizer.backend_tokenizer.to_str() != first.tokenizer.backend_tokenizer.to_str():
            raise ModelError(
                f"{folder} and {folders[0]} have different vocabularies, but members read the same tokens. Train both "
                "from the same teacher on the same texts."
            )
        for name in ("pair", "max_length"):
            of_part, of_first = (getattr(one.model.config, name) for one in (part, first))
            if of_part != of_first:
                raise ModelError(
                    f"{folder} has {name} {of_part}, but {folders[0]} has {of_first}. Members read the same input."
                )
        if part.label_names != first.label_names or part.task != first.task:
            raise ModelError(
                f"{folder} has the labels {part.label_names}, but {folders[0]} has {first.label_names}. Members need "
                "the same labels in the same order."
            )
        of_part, of_first = (cast(Any, one.model).embeddings.weight for one in (part, first))
        if of_part.shape != of_first.shape or not torch.equal(of_part, of_first):
            raise ModelError(
                f"{folder} and {folders[0]} have different word vectors, but members share one table. Train them with "
                "--freeze-embeddings, or together with --student ensemble:..."
            )


def _common_size(parts: Sequence[Classifier], folders: Sequence[str | Path]) -> int:
    """The hidden size of all members; 0 if each has the default of its architecture."""
    sizes: list[int] = [cast(Any, part.model).config.hidden_size for part in parts]
    own = [type(cast(Any, part.model).config).hidden_size for part in parts]
    if sizes == own:
        return 0
    if len(set(sizes)) > 1:
        raise ModelError(
            f"{', '.join(map(str, folders))} have the hidden sizes {', '.join(map(str, sizes))}. Members need the "
            "default of their architecture, or one size for all: train them with the same --hidden-size."
        )
    return sizes[0]


def _copy_sample(source: Path, target: Path) -> None:
    if (source / SAMPLE_FILE).is_file():
        shutil.copy(source / SAMPLE_FILE, target)
