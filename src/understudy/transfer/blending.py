"""Texts that lie between texts: what a student reads in a step is blended from word vectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from understudy.errors import ModelError
from understudy.models.loading import load_masked_lm
from understudy.teachers import Teacher
from understudy.teachers.live import autocast, fastest_dtype

Fields = Mapping[str, Any]


class Blended(NamedTuple):
    """A step: what the student reads, and its objective as a weighted sum over (weight, teacher, batch)."""

    inputs: dict[str, Tensor]
    terms: list[tuple[float, Fields, Fields]]


class Blend(Protocol):
    """Makes a step of a batch. `reads` are the columns of text it needs."""

    reads: ClassVar[tuple[str, ...]]

    def __call__(self, batch: Fields, teacher: Fields, table: nn.Module) -> Blended: ...


class Mixup:
    """Mixes the word vectors of each text with another's (mixup, Zhang et al. 2018; for texts Guo et al. 2019).

    A text is learned with both objectives, each as far as it is in the mixture; for squared error and cross-entropy
    that is the objective with mixed targets.

    Args:
        strength: shares are drawn from Beta(strength, strength), one a step: small = mostly one of the two texts.
    """

    reads: ClassVar[tuple[str, ...]] = ()

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
    share * its own vector + (1 - share) * sum over tokens of probability * vector. The teacher answers for what the
    student reads, in every step.

    Args:
        source: a masked language model with the teacher's tokenizer.
        tokenizer: the student's, cut from the teacher's.
        order: for each label of the student, the teacher's output for it.
        share: how much of a token stays.
        size: how many of the likeliest tokens are summed.

    Raises:
        ModelError: the model has no head for masked words, or another tokenizer than the teacher.
    """

    reads: ClassVar[tuple[str, ...]] = ("text",)

    def __init__(
        self,
        source: str | Path,
        teacher: Teacher,
        tokenizer: Any,
        order: Sequence[int],
        share: float = 0.5,
        size: int = 10,
    ) -> None:
        self.model, own = load_masked_lm(source)
        if own.get_vocab() != teacher.tokenizer.get_vocab():
            raise ModelError(
                f"{source} has another vocabulary than the teacher: its tokens can't be weighed with the teacher's "
                "vectors. Take a masked language model of the teacher's family."
            )
        self.teacher, self.order, self.share, self.size = teacher, list(order), share, size
        self.padding, self.start = tokenizer.pad_token_id, tokenizer.cls_token_id
        self.dtype = fastest_dtype(self.model.device)
        names = own.convert_ids_to_tokens(list(range(len(own))))
        vocabulary = tokenizer.get_vocab()
        self.student_ids = torch.tensor([vocabulary.get(name, -1) for name in names])
        self.unknown = tokenizer.unk_token_id

    def __call__(self, batch: Fields, teacher: Fields, table: nn.Module) -> Blended:
        inputs = self._tokens(batch["text"])
        ids, weights = self._expected(inputs)
        vectors = self.teacher.model.get_input_embeddings()(ids)
        embeds = (vectors * weights.unsqueeze(-1)).sum(2)
        rest = {name: value for name, value in inputs.items() if name != "input_ids"}
        with torch.no_grad(), autocast(self.model.device, self.teacher.dtype):
            logits = self.teacher.model(inputs_embeds=embeds, **rest).logits.float()[:, self.order]
        return Blended(
            self._student_inputs(ids, weights, inputs["attention_mask"], table), [(1.0, {"logits": logits}, batch)]
        )

    def _tokens(self, texts: list[str]) -> dict[str, Tensor]:
        return dict(self.teacher.tokenize(texts).to(self.model.device))

    @torch.no_grad()
    def _expected(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Token ids [batch, length, 1 + size], the text's own first, and their weights."""
        with autocast(self.model.device, self.dtype):
            logits = self.model(**inputs).logits.float()
        likely, ids = logits.topk(self.size, -1)
        weights = (1 - self.share) * likely.softmax(-1)
        own = inputs["input_ids"].unsqueeze(-1)
        return torch.cat([own, ids], -1), torch.cat([torch.full(own.shape, self.share), weights], -1)

    def _student_inputs(self, ids: Tensor, weights: Tensor, mask: Tensor, table: nn.Module) -> dict[str, Tensor]:
        """The same tokens in the student's vocabulary; it has a token before the text and none behind it."""
        known = self.student_ids[ids]
        own = known[..., :1]
        weights = weights * (known >= 0)
        weights = torch.where(own < 0, torch.zeros_like(weights).index_fill(-1, torch.tensor([0]), 1.0), weights)
        known = torch.where(known < 0, self.unknown, known)
        known[:, 0, 0], weights[:, 0] = self.start, 0.0
        weights[:, 0, 0] = 1.0
        weights = weights / weights.sum(-1, keepdim=True)
        vectors = (table(known) * weights.unsqueeze(-1)).sum(2)
        length = mask.sum(1, keepdim=True) - 1
        inside = torch.arange(mask.shape[1], device=mask.device) < length
        return {"inputs_embeds": vectors * inside.unsqueeze(-1), "attention_mask": inside}
