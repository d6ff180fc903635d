"""Blended texts: the student's inputs of a training step are mixed from word vectors."""

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
    """A training step: the student's inputs, and its objective as a weighted sum over (weight, teacher, batch)."""

    inputs: dict[str, Tensor]
    terms: list[tuple[float, Fields, Fields]]


class Blend(Protocol):
    """Turns a batch into a training step.

    `reads` are the text columns it needs; `brings_teacher` is true if it runs the teacher itself.
    """

    reads: ClassVar[tuple[str, ...]]
    brings_teacher: ClassVar[bool]

    def __call__(self, batch: Fields, teacher: Fields, table: nn.Module) -> Blended: ...


def check_blend(task: Task, pair: bool) -> None:
    """Raise ModelError if texts can't be blended."""
    if task.is_tagging or pair:
        raise ModelError("Mixup (--mixup) and smoothing (--smoothing) need single texts, not pairs or tagging.")


class Mixup:
    """Mixes the word vectors of each text with another's (mixup, Zhang et al. 2018; for texts Guo et al. 2019).

    The objectives of both texts are weighted by their shares; for squared error and cross-entropy that is the
    objective with mixed targets.

    Args:
        strength: shares are drawn from Beta(strength, strength), one per step; small = mostly one of the two texts.
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

    For student and teacher, each token's vector is mixed with its expectation under a masked language model:
    share * its own vector + (1 - share) * sum over tokens of probability * vector. Special tokens are unchanged. The
    teacher runs on the smoothed text in every step.

    Args:
        source: a masked language model with the teacher's tokenizer.
        aligned: a live teacher.
        tokenizer: the student's, cut from the teacher's.
        share: the weight of a token's own vector.
        size: the number of most probable tokens in the sum.

    Raises:
        ModelError: the model has no masked language modeling head, or a different tokenizer than the teacher; the
            student has different subwords.
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
                f"{source} does not have the teacher's vocabulary, so its probabilities do not fit the teacher's "
                "vectors. Choose a masked language model of the teacher's family."
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
        # A non-transformer student adds no special token after the text; the teacher does.
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
        """Token ids [batch, length, 1 + size], the original token first, and their weights."""
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
        """The same tokens in the student's vocabulary; the weights of missing tokens go to the others."""
        known = self.student_ids[ids]
        inside = torch.arange(mask.shape[1], device=mask.device) < (mask.sum(1, keepdim=True) - self.behind)
        if bool((known[..., 0] < 0)[inside].any()):
            raise ModelError(
                "Smoothing needs a student with the teacher's subwords: leave out vocab_size (--vocab-size) and init "
                "(--init), and set embeddings (--embeddings) to teacher or random."
            )
        weights = weights * (known >= 0)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
        vectors = _weighted(table, known.clamp(min=0).to(device), weights.to(device))
        inside = inside[:, : self.length].to(device)
        return {"inputs_embeds": vectors[:, : self.length] * inside.unsqueeze(-1), "attention_mask": inside}


def _weighted(table: nn.Module, ids: Tensor, weights: Tensor) -> Tensor:
    """[..., size] the weighted sum of the vectors of `ids` [..., tokens]."""
    total = torch.zeros((), device=ids.device)
    for choice in range(ids.shape[-1]):  # one at a time: all at once would multiply the memory
        total = total + table(ids[..., choice]) * weights[..., choice].unsqueeze(-1)
    return total
