"""Losses against relations between hidden states: of a text's tokens, or of a batch's texts."""

import torch
from torch import Tensor

from eyas.losses.attentions import attention_distance, dots
from eyas.losses.base import Fields, kl_divergences
from eyas.losses.hidden_states import HiddenStateLoss, StateLoss, masked_mean
from eyas.losses.layer_mapping import normalized
from eyas.losses.schedules import Schedule


class RelationLoss(HiddenStateLoss):
    """Mean squared error of the cosines between the tokens of a text. Needs no projection."""

    paper = "after Park et al. 2019 (relational knowledge distillation)"
    projects = False

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return cosine_error(student, teacher, mask)


class EmbeddingRelationLoss(StateLoss):
    """KL divergence of the softmax over scaled dot products between the embeddings of a text's tokens.

    The mean over tokens. Padding is left out, where the authors' code includes it.
    """

    paper = "MLKD-BERT, Zhang et al. 2024, embedding relation"
    projects = False

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        mask = batch["attention_mask"].bool()
        words = (fields["hidden_states"][0].unsqueeze(1) for fields in (student, teacher))  # one relation head
        ours, theirs = (dots(states, states) for states in words)
        return attention_distance(ours, theirs, mask, "divergence")


class CKALoss(HiddenStateLoss):
    """One minus the linear centered kernel alignment of mapped layers' tokens. Needs no projection."""

    paper = "Kornblith et al. 2019, eq. 5"
    projects = False

    def distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        student, teacher = student[mask], teacher[mask]
        student, teacher = student - student.mean(0), teacher - teacher.mean(0)
        across = (teacher.T @ student).square().sum()
        own = (student.T @ student).norm() * (teacher.T @ teacher).norm()
        alignment: Tensor = across / own.clamp(min=1e-12)
        return 1 - alignment


class SampleRelationLoss(StateLoss):
    """KL divergence of the softmax over scaled dot products between the texts of a batch, on the last first tokens."""

    paper = "MLKD-BERT, Zhang et al. 2024, sample relation"
    of_whole_texts = True
    projects = False

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        firsts = (fields["hidden_states"][-1][:, 0] for fields in (student, teacher))
        ours, theirs = (dots(states, states) for states in firsts)
        return kl_divergences(ours, theirs).mean()


class ContrastiveLoss(StateLoss):
    """Supervised contrast of the last layer's first tokens, of student and teacher together.

    Each of the 2 * batch states should be near those of its own text and of texts with its label, among all others.
    A text without a single label has only itself. Multiplied by the temperature, as in the authors' code.

    Args:
        temperature: of the cosines.
    """

    paper = "MLKD-BERT, Zhang et al. 2024, sample contrast"
    of_whole_texts = True

    def __init__(self, temperature: float = 0.07, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def forward(self, student: Fields, teacher: Fields, batch: Fields, progress: float = 0.0) -> Tensor:
        ours, theirs = self.projected(student["hidden_states"][-1][:, 0]), teacher["hidden_states"][-1][:, 0]
        states = normalized(torch.cat([ours, theirs.to(ours.dtype)]))
        count, labels = len(ours), batch.get("labels")
        same = torch.eye(count, dtype=torch.bool, device=states.device)
        if labels is not None and labels.dim() == 1 and not labels.is_floating_point():
            same = same | ((labels == labels.unsqueeze(1)) & (labels >= 0))
        others = ~torch.eye(2 * count, dtype=torch.bool, device=states.device)
        similar = (same.repeat(2, 2) & others).to(states.dtype)
        scores = states @ states.T / self.temperature
        scores = scores - scores.max(1, keepdim=True).values.detach()
        chances = scores - ((scores.exp() * others).sum(1, keepdim=True) + 1e-7).log()
        return -self.temperature * ((chances * similar).sum(1) / similar.sum(1)).mean()


def cosine_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the cosines between pairs of tokens of `mask` [batch, length]."""
    pairs = mask.unsqueeze(1) & mask.unsqueeze(2)
    return masked_mean((_cosines(student) - _cosines(teacher)).square(), pairs)


def _cosines(states: Tensor) -> Tensor:
    unit = normalized(states)
    return unit @ unit.transpose(-1, -2)
