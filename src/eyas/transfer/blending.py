"""Texts that lie between texts: what a student reads in a step is blended from word vectors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from eyas.data.tokenization import student_names
from eyas.errors import ModelError
from eyas.models.loading import load_masked_lm
from eyas.tasks import Task
from eyas.teachers import AlignedTeacher, Teacher
from eyas.teachers.live import autocast, fastest_dtype

Fields = Mapping[str, Any]


class Blended(NamedTuple):
    """A step: what the student reads, and its objective as a weighted sum over (weight, teacher, batch)."""

    inputs: dict[str, Tensor]
    terms: list[tuple[float, Fields, Fields]]


class Blend(Protocol):
    """Makes a step of a batch.

    `reads` are the columns of text it needs; `brings_teacher` says that it asks the teacher itself.
    """

    reads: ClassVar[tuple[str, ...]]
    brings_teacher: ClassVar[bool]

    def __call__(self, batch: Fields, teacher: Fields, table: nn.Module) -> Blended: ...


def check_blend(task: Task, pair: bool) -> None:
    """Raises ModelError where texts can't be blended."""
    if task.is_tagging or pair:
        raise ModelError("Mixup and smoothing are for single texts, not for pairs or the words of a tagger.")


class Mixup:
    """Mixes the word vectors of each text with another's (mixup, Zhang et al. 2018; for texts Guo et al. 2019).

    A text is learned with both objectives, each as far as it is in the mixture; for squared error and cross-entropy
    that is the objective with mixed targets.

    Args:
        strength: shares are drawn from Beta(strength, strength), one a step: small = mostly one of the two texts.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    brings_teacher: ClassVar[bool] = False

    def __init__(self, strength: float = 0.4) -> None:
        self.strength = strength

    def __call__(self, batch: Fields, teacher: Fields, table: nn.Module) -> Blended:
        draw = float(torch.distributions.Beta(self.strength, self.strength).sample())
        share = max(draw, 1 - draw)
        order = torch.randperm(len(batch["input_ids"]))

        def others(fields: Fields) -> Fields:
            return {name: value[order] if isinstance(value, Tensor) else value for name, value in fields.items()}

        mask = batch["attention_mask"].bool()
        vectors = table(batch["input_ids"]) * mask.unsqueeze(-1)
        mixed = share * vectors + (1 - share) * vectors[order]
        inputs = {"inputs_embeds": mixed, "attention_mask": mask | mask[order]}
        return Blended(inputs, [(share, teacher, batch), (1 - share, others(teacher), others(batch))])


class Smoothing:
    """Text smoothing (Wu et al. 2020, "Distilling Knowledge from Pre-trained Language Models via Text Smoothing").

    Each token becomes the expected vector under what a masked language model says there, for student and teacher:
    share * its own vector + (1 - share) * sum over tokens of probability * vector. Special tokens stay. The teacher
    answers for what the student reads, in every step.

    Args:
        source: a masked language model with the teacher's tokenizer.
        aligned: a live teacher.
        tokenizer: the student's, cut from the teacher's.
        share: how much of a token stays.
        size: how many of the likeliest tokens are summed.

    Raises:
        ModelError: the model has no head for masked words, or another tokenizer than the teacher; the student reads
            other pieces of words.
    """

    reads: ClassVar[tuple[str, ...]] = ("text",)
    brings_teacher: ClassVar[bool] = True

    def __init__(
        self,
        source: str | Path,
        aligned: AlignedTeacher,
        tokenizer: Any,
        share: float = 0.5,
        size: int = 10,
    ) -> None:
        teacher: Teacher = aligned.teacher
        self.model, own = load_masked_lm(source)
        cast(Any, self.model).to(teacher.model.device)
        if own.get_vocab() != teacher.tokenizer.get_vocab():
            raise ModelError(
                f"{source} has another vocabulary than the teacher: its tokens can't be weighed with the teacher's "
                "vectors. Take a masked language model of the teacher's family."
            )
        self.teacher, self.order, self.share, self.size = teacher, aligned.order, share, size
        self.dtype = fastest_dtype(self.model.device)
        names = own.convert_ids_to_tokens(list(range(len(own))))
        called = {**{name: name for name in names}, **student_names(own)}
        vocabulary = tokenizer.get_vocab()
        device = self.model.device
        self.student_ids = torch.tensor([vocabulary.get(called[name], -1) for name in names], device=device)
        self.special = torch.tensor(sorted(set(own.all_special_ids)), device=device)
        self.length = int(tokenizer.model_max_length)
        # A student of our own has no token behind the text, where the teacher has one.
        self.behind = len(own("")["input_ids"]) - len(tokenizer("")["input_ids"])

    def __call__(self, batch: Fields, teacher: Fields, table: nn.Module) -> Blended:
        inputs = dict(self.teacher.tokenize(batch["text"]).to(self.model.device))
        ids, weights = self._expected(inputs)
        embeds = _weighted(self.teacher.model.get_input_embeddings(), ids, weights)
        rest = {name: value for name, value in inputs.items() if name != "input_ids"}
        with torch.no_grad(), autocast(self.model.device, self.teacher.dtype):
            logits = self.teacher.model(inputs_embeds=embeds, **rest).logits.float()[:, self.order]
        device = batch["input_ids"].device
        student = self._student_inputs(ids, weights, inputs["attention_mask"], table, device)
        return Blended(student, [(1.0, {"logits": logits.to(device)}, batch)])

    @torch.no_grad()
    def _expected(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Token ids [batch, length, 1 + size], the text's own first, and their weights."""
        with autocast(self.model.device, self.dtype):
            logits = self.model(**inputs).logits.float()
        likely, ids = logits.topk(self.size, -1)
        own = inputs["input_ids"].unsqueeze(-1)
        stays = torch.isin(own, self.special)
        share = torch.where(stays, 1.0, self.share)
        return torch.cat([own, ids], -1), torch.cat([share, (1 - share) * likely.softmax(-1)], -1)

    def _student_inputs(
        self, ids: Tensor, weights: Tensor, mask: Tensor, table: nn.Module, device: torch.device
    ) -> dict[str, Tensor]:
        """The same tokens in the student's vocabulary; what it lacks gives its weight to the rest."""
        known = self.student_ids[ids]
        inside = torch.arange(mask.shape[1], device=mask.device) < (mask.sum(1, keepdim=True) - self.behind)
        if bool((known[..., 0] < 0)[inside].any()):
            raise ModelError(
                "Smoothing needs a student that reads the same pieces of words as the teacher: leave --vocab-size out, "
                "and --embeddings at teacher or random."
            )
        weights = weights * (known >= 0)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
        vectors = _weighted(table, known.clamp(min=0).to(device), weights.to(device))
        inside = inside[:, : self.length].to(device)
        return {"inputs_embeds": vectors[:, : self.length] * inside.unsqueeze(-1), "attention_mask": inside}


def _weighted(table: nn.Module, ids: Tensor, weights: Tensor) -> Tensor:
    """[..., size] the weighted sum of the vectors of `ids` [..., tokens]."""
    total = torch.zeros((), device=ids.device)
    for choice in range(ids.shape[-1]):  # one after the other: all at once would be as many times the batch
        total = total + table(ids[..., choice]) * weights[..., choice].unsqueeze(-1)
    return total
