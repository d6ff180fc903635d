"""Teachers that were fine-tuned on several domains, and what they know of their training texts."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from datasets import Dataset
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from eyas.data.datasets import ids_of
from eyas.data.task_data import TaskData
from eyas.errors import ModelError
from eyas.models.domains import DomainHead
from eyas.models.inside import DOMAIN_STATES, DOMAINS, FIELDS, SCORES
from eyas.settings import MAX_LENGTH
from eyas.teachers.encoder import Encoder, pooled
from eyas.teachers.live import Teacher

# Beside the weights of a teacher: its domain head, and the domain and score of its training texts.
DOMAINS_FILE = "domains.safetensors"
HEAD = "head."


def prototype_scores(vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """How typical each text is: of its domain, and of the others.

    The mean of two cosines: with the mean of the text's domain, and with the mean of the other domains' means.

    Args:
        vectors: [texts, size] of each domain, at least two domains.

    Returns:
        [texts] of each domain, -1 to 1.
    """
    means = np.stack([own.mean(0) for own in vectors.values()])
    others = [np.delete(means, number, 0).mean(0) for number in range(len(means))]
    return {
        name: (_cosines(own, mean) + _cosines(own, other)) / 2
        for (name, own), mean, other in zip(vectors.items(), means, others, strict=True)
    }


def _cosines(vectors: np.ndarray, other: np.ndarray) -> np.ndarray:
    cosines: np.ndarray = vectors @ other / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(other))
    return cosines


class DomainTexts:
    """The domain and the prototype score of texts, by `example_id`. Answers like a teacher.

    A text that it does not know, such as one made by augmentation, has domain `usual` and that domain's mean score.

    Args:
        ids: [texts] int64; of equal ids the first counts.
        domains: [texts] int.
        scores: [texts] float.
    """

    fields: ClassVar[frozenset[str]] = frozenset({DOMAINS, SCORES})
    reads: ClassVar[tuple[str, ...]] = ("example_id",)

    def __init__(self, ids: np.ndarray, domains: np.ndarray, scores: np.ndarray) -> None:
        self.ids, first = np.unique(ids, return_index=True)
        self.domains, self.scores = domains[first].astype(np.int64), scores[first].astype(np.float32)
        self.usual, self.usual_score = -1, float(self.scores.mean())

    @classmethod
    def of(cls, encoder: Encoder, domains: Mapping[str, TaskData]) -> Self:
        """The training texts of `domains`, scored by the encoder's vectors."""
        ids = {name: ids_of(data["train"]) for name, data in domains.items()}
        vectors = {name: encoder.label(data["train"]).logits(ids[name]).numpy() for name, data in domains.items()}
        scores = prototype_scores(vectors)
        numbers = np.repeat(np.arange(len(ids)), [len(own) for own in ids.values()])
        return cls(np.concatenate([*ids.values()]), numbers, np.concatenate([*scores.values()]))

    def suppose(self, texts: Dataset) -> None:
        """Take unknown texts to be of the domain of most of `texts`; of none if it knows none of them."""
        known = self.domains[np.isin(self.ids, ids_of(texts))]
        if len(known):
            self.usual = int(np.bincount(known).argmax())
            self.usual_score = float(self.scores[self.domains == self.usual].mean())

    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = (DOMAINS, SCORES)) -> dict[str, Any]:
        """`DOMAINS` [texts] int, -1 = none, and `SCORES` [texts] float32, for `batch["example_id"]`."""
        asked = torch.as_tensor(batch["example_id"]).cpu().numpy()
        places = np.searchsorted(self.ids, asked).clip(max=len(self.ids) - 1)
        known = self.ids[places] == asked
        return {
            DOMAINS: torch.from_numpy(np.where(known, self.domains[places], self.usual)),
            SCORES: torch.from_numpy(np.where(known, self.scores[places], np.float32(self.usual_score))),
        }


class MetaTeacher(Teacher):
    """A teacher that `finetune` made from several domains. It also knows the domains of its training texts.

    Args:
        source: its folder.
        max_length: as in `Teacher`.
        dtype: as in `Teacher`.
        texts: the training texts of its student; see `DomainTexts.suppose`.

    Raises:
        ModelError: the folder is of another teacher.
    """

    fields: ClassVar[frozenset[str]] = FIELDS | {DOMAIN_STATES, SCORES}

    def __init__(
        self,
        source: str | Path,
        max_length: int = MAX_LENGTH,
        dtype: str | None = None,
        texts: Dataset | None = None,
    ) -> None:
        if not is_meta_teacher(source):
            raise ModelError(
                f"{source} has no {DOMAINS_FILE}: it was not fine-tuned on several domains. Pass domains to finetune "
                "(--domain)."
            )
        super().__init__(source, max_length=max_length, dtype=dtype)
        with safe_open(Path(source) / DOMAINS_FILE, "pt") as file:
            found: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.domain_names: list[str] = json.loads(file.metadata()["domains"])
        weights = {name.removeprefix(HEAD): value for name, value in found.items() if name.startswith(HEAD)}
        self.head = DomainHead(*weights["embedding.weight"].shape).eval()
        self.head.load_state_dict(weights)
        self.texts = DomainTexts(*(found[name].numpy() for name in ("example_id", DOMAINS, SCORES)))
        if texts is not None:
            self.texts.suppose(texts)

    @torch.no_grad()
    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = ("logits",)) -> dict[str, Any]:
        """As `Teacher.outputs`, for a batch that also has `example_id` if these fields are requested.

        `domain_states` [batch, size] are the domain head's, `prototype_scores` are [batch].
        """
        asked = set(fields)
        if not asked & {DOMAIN_STATES, SCORES}:
            return super().outputs(batch, fields)
        found = super().outputs(batch, asked - {DOMAIN_STATES, SCORES} | {"hidden_states"})
        states, mask = found["hidden_states"][-1], found["attention_mask"]
        known = {name: value.to(states.device) for name, value in self.texts.outputs(batch).items()}
        content = pooled(states[:, 1:], mask[:, 1:], "mean")
        found[DOMAIN_STATES] = self.head.to(states.device).states(content, known[DOMAINS])
        return {**found, SCORES: known[SCORES]}


def is_meta_teacher(source: Any) -> bool:
    """Whether `source` is the folder of a teacher that was fine-tuned on several domains."""
    return (Path(source) / DOMAINS_FILE).is_file()


def open_teacher(source: str, texts: Dataset, max_length: int = MAX_LENGTH, dtype: str | None = None) -> Teacher:
    """The teacher of a folder or Hub name; a `MetaTeacher` if it was fine-tuned on several domains.

    Args:
        texts: the training texts of its student.
        max_length: as in `Teacher`.
        dtype: as in `Teacher`.
    """
    if is_meta_teacher(source):
        return MetaTeacher(source, max_length, dtype, texts)
    return Teacher(source, max_length=max_length, dtype=dtype)


def write_domains(folder: Path, names: Sequence[str], head: DomainHead, texts: DomainTexts) -> None:
    """Write what `MetaTeacher` reads beside the weights of a teacher."""
    arrays = {"example_id": texts.ids, DOMAINS: texts.domains, SCORES: texts.scores}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    tensors |= {f"{HEAD}{name}": value.detach().cpu() for name, value in head.state_dict().items()}
    save_file(tensors, folder / DOMAINS_FILE, {"domains": json.dumps(list(names))})
