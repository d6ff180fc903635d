"""What a student learns at each token of a target. Logits are [batch, tokens, vocabulary]."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from eyas.losses.hidden_states import masked_mean
from eyas.losses.schedules import Schedule

IGNORED = -100


class TopK(NamedTuple):
    """The likeliest words of a distribution over the vocabulary; the other words share the remaining probability.

    Args:
        words: [batch, tokens, k] int64.
        log_probabilities: [batch, tokens, k] float32.
    """

    words: Tensor
    log_probabilities: Tensor


def top_k(logits: Tensor, k: int) -> TopK:
    """The k likeliest words at each token."""
    found = logits.float().log_softmax(-1).topk(min(k, logits.shape[-1]), dim=-1)
    return TopK(found.indices, found.values)


def cross_entropy(logits: Tensor, words: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean over the tokens whose word is not -100."""
    return F.cross_entropy(logits.flatten(0, 1).float(), words.flatten(), label_smoothing=smoothing)


def divergence(logits: Tensor, teacher: Tensor | TopK, mask: Tensor) -> Tensor:
    """KL(teacher || student), a mean over the tokens of `mask` [batch, tokens].

    Of a `TopK`, the words outside count as one: with all words it is the divergence itself, with fewer a lower bound.
    """
    ours = logits.float().log_softmax(-1)
    if isinstance(teacher, Tensor):
        theirs = teacher.float().log_softmax(-1)
        return masked_mean((theirs.exp() * (theirs - ours)).sum(-1), mask)
    ours = ours.gather(-1, teacher.words)
    found = (teacher.log_probabilities.exp() * (teacher.log_probabilities - ours)).sum(-1)
    rest, our_rest = (1 - part.exp().sum(-1) for part in (teacher.log_probabilities, ours))
    smallest = torch.finfo(torch.float32).eps
    known = teacher.words.shape[-1] < logits.shape[-1]  # with all words the rest is a rounding error
    rest, our_rest = rest.clamp(min=smallest), our_rest.clamp(min=smallest)
    return masked_mean(found + known * rest * (rest.log() - our_rest.log()), mask)


def imitation(
    student: Tensor,
    teacher: Tensor,
    context: Tensor,
    gold: Tensor,
    decoded: Tensor,
    special: tuple[int, int],
    full: bool,
) -> Tensor:
    """ImitKD (Lin et al. 2020): the teacher's word (algorithm 1) or distribution (`full`) after each prefix.

    Args:
        student, teacher: logits at each token of `context`.
        context: [batch, tokens] what the decoders read: gold prefixes, or those that the student wrote.
        gold: [batch, tokens] the words of the data, -100 or padding where there is none.
        decoded: [batch] bool: whether the student wrote the context.
        special: ids of padding and end, after which nothing is learned.
        full: the teacher's whole distribution, also for gold prefixes; otherwise its likeliest word, and for gold
            prefixes the word of the data.
    """
    pad, end = special
    known = (context != end) & (context != pad)
    known[:, 0] = True  # the start token is one of them in most families
    if full:
        return divergence(student, teacher, known)
    theirs = teacher.argmax(-1).masked_fill(~known, IGNORED)
    words = torch.where(decoded[:, None], theirs, gold.masked_fill(gold == pad, IGNORED))
    return cross_entropy(student, words)


# The share of gold contexts by progress of training, for ImitKD (Lin et al. 2020).
ANNEALING: dict[str, Schedule] = {
    "exponential": lambda progress: 200.0**-progress,
    "linear": lambda progress: 1 - progress,
    "sigmoid": lambda progress: 1 / (1 + math.exp(20 * (progress - 0.5))),
}
