"""A vocabulary of the student's own, with vectors in the teacher's space.

Mixed-vocabulary training, Zhao et al. 2021 (arXiv 1909.11687), section 3: each word of a text is cut with either
vocabulary at random, so that both tables of vectors come to mean the same. The paper trains a BERT on masked words in
this way; here the teacher is frozen, and only the new vectors are trained, to give it back the outputs that it has for
the text in its own words.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, processors, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from eyas.data.datasets import is_pair
from eyas.data.subwords import teacher_rows
from eyas.data.tokenization import PAD, SEPARATOR, SPECIAL_TOKENS, START, UNKNOWN
from eyas.errors import ModelError
from eyas.models import is_student
from eyas.models.positions import position_count
from eyas.teachers import Teacher

logger = logging.getLogger("eyas")

# Size of the vocabulary, as in the paper.
SIZE = 5000
# Probability that a word is cut with the student's vocabulary.
SHARE = 0.5
STEPS, BATCH, LEARNING_RATE, MOST_TEXTS, MOST_TOKENS = 300, 32, 1e-3, 20_000, 128


@dataclass(frozen=True)
class Words:
    """A vocabulary and its vectors.

    Args:
        tokenizer: a Hugging Face tokenizer.
        table: [tokens, size] float32.
    """

    tokenizer: Any
    table: np.ndarray


def words_of(teacher: Teacher) -> Words:
    """The teacher's own."""
    table = cast(nn.Embedding, teacher.model.get_input_embeddings()).weight
    return Words(teacher.tokenizer, table.detach().float().cpu().numpy())


def mixed_words(teacher: Teacher, dataset: Dataset, size: int | None = None) -> Words:
    """A new vocabulary of at most `size` tokens for the texts of `dataset`, with vectors that the teacher understands.

    Raises:
        ModelError: the teacher's tokenizer is not WordPiece.
    """
    backend = teacher.tokenizer.backend_tokenizer
    check_mixed(teacher)
    texts = dataset["text"][:] + (dataset["text_pair"][:] if is_pair(dataset) else [])
    own = new_vocabulary(backend, texts, size or SIZE)
    theirs = words_of(teacher)
    rows = teacher_rows(own, teacher.tokenizer)
    table = np.stack([theirs.table[row].mean(0) if row else theirs.table.mean(0) for row in rows])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=own, pad_token=PAD, unk_token=UNKNOWN, cls_token=START, sep_token=SEPARATOR
    )
    logger.info("A vocabulary of %s subwords learns its vectors from the teacher.", f"{len(wrapped):,}")
    order = np.random.default_rng(0).permutation(len(texts))[:MOST_TEXTS]
    learned = _learn(teacher, own, torch.from_numpy(table), [texts[row] for row in order])
    return Words(wrapped, learned)


def check_mixed(teacher: Teacher) -> None:
    """Raises ModelError if a vocabulary of its own cannot be learned in the space of this teacher."""
    if is_student(teacher.model):
        raise ModelError(
            "embeddings (--embeddings) is mixed, which needs a transformer as the teacher; this one is a student of "
            "eyas. Leave embeddings out."
        )
    backend = getattr(teacher.tokenizer, "backend_tokenizer", None)
    kind = "slow" if backend is None else json.loads(backend.to_str())["model"]["type"]
    if kind != "WordPiece":
        raise ModelError(
            f"embeddings (--embeddings) is mixed, which needs a teacher with a WordPiece tokenizer, as BERT has; this "
            f"one's is {kind}. Leave embeddings out, or choose random."
        )


def new_vocabulary(backend: Tokenizer, texts: Iterable[str], size: int) -> Tokenizer:
    """A WordPiece tokenizer of `size` tokens for these texts, which splits them into words as `backend` does."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(SPECIAL_TOKENS), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    separator, start = ((token, cast(int, tokenizer.token_to_id(token))) for token in (SEPARATOR, START))
    tokenizer.post_processor = processors.BertProcessing(separator, start)
    return tokenizer


class Pieces(dict[str, list[int]]):
    """The tokens of each word, cut once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def __missing__(self, word: str) -> list[int]:
        self[word] = self.tokenizer.encode(word, add_special_tokens=False).ids
        return self[word]


def mixed_pieces(words: Sequence[str], own: Sequence[bool], theirs: Pieces, student: Pieces) -> list[tuple[int, bool]]:
    """The tokens of all words, and whether they are the student's: it cuts the words of which `own` is true."""
    both = zip(words, own, strict=True)
    return [(token, bool(is_own)) for word, is_own in both for token in (student if is_own else theirs)[word]]


def _learn(teacher: Teacher, own: Tokenizer, table: Tensor, texts: list[str]) -> np.ndarray:
    """The table after training: read in both vocabularies, a text gives the teacher's outputs."""
    model: Any = teacher.model
    device = model.device
    frozen = cast(nn.Embedding, model.get_input_embeddings()).weight.detach().float()
    vectors = table.to(device).requires_grad_()
    optimizer = torch.optim.Adam([vectors], lr=LEARNING_RATE)
    random, most = np.random.default_rng(0), min(MOST_TOKENS, position_count(model) or MOST_TOKENS)
    for step, batch in enumerate(_batches(teacher.tokenizer, own, texts, random, most)):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / STEPS)
        with torch.no_grad():
            target = _outputs(model, frozen[batch.plain.to(device)], batch.plain_mask.to(device))
        mixed = torch.where(
            batch.own.to(device).unsqueeze(-1), vectors[batch.own_ids.to(device)], frozen[batch.ids.to(device)]
        )
        found = _outputs(model, mixed, batch.mask.to(device))
        loss = sum(
            (F.mse_loss(one, other) / other.var().clamp_min(1e-6) for one, other in zip(found, target, strict=True))
        )
        optimizer.zero_grad()
        cast(Tensor, loss).backward()
        optimizer.step()
    return vectors.detach().float().cpu().numpy()


def _outputs(model: Any, vectors: Tensor, mask: Tensor) -> list[Tensor]:
    """The mean of the last hidden states, and of a classifier the logits (of a tagger their mean over tokens)."""
    outputs = model(inputs_embeds=vectors, attention_mask=mask, output_hidden_states=True)
    inside = mask.unsqueeze(-1).float()
    states = (outputs.hidden_states[-1].float() * inside).sum(1) / inside.sum(1)
    if getattr(outputs, "logits", None) is None:
        return [states]
    logits = outputs.logits.float()
    return [states, logits if logits.dim() == 2 else (logits * inside).sum(1) / inside.sum(1)]


@dataclass(frozen=True)
class _Batch:
    """Texts in the teacher's words (`plain`), and in both vocabularies: each token's id in either, and which it is."""

    plain: Tensor
    plain_mask: Tensor
    ids: Tensor
    own_ids: Tensor
    own: Tensor
    mask: Tensor


def _batches(
    tokenizer: Any, own: Tokenizer, texts: list[str], random: np.random.Generator, most: int
) -> Iterator[_Batch]:
    backend = tokenizer.backend_tokenizer
    plain_of, own_of = (Pieces(one) for one in (backend, own))
    ends = [tokenizer.cls_token_id, tokenizer.sep_token_id]
    for step in range(STEPS):
        chosen = [texts[(step * BATCH + place) % len(texts)] for place in range(BATCH)]
        rows: list[list[tuple[int, bool]]] = []
        plain: list[list[int]] = []
        for text in chosen:
            words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(_normalized(backend, text))]
            flags = random.random(len(words)) < SHARE
            mixed = mixed_pieces(words, flags.tolist(), plain_of, own_of)
            rows.append([(ends[0], False), *mixed[: most - 2], (ends[1], False)])
            plain.append([ends[0], *[i for w in words for i in plain_of[w]][: most - 2], ends[1]])
        ids, mask = _padded([[i for i, _ in row] for row in rows])
        is_own = _padded([[f for _, f in row] for row in rows])[0].bool()
        whole, whole_mask = _padded(plain)
        yield _Batch(whole, whole_mask, ids.masked_fill(is_own, 0), ids.masked_fill(~is_own, 0), is_own, mask)


def _normalized(backend: Tokenizer, text: str) -> str:
    return str(backend.normalizer.normalize_str(text)) if backend.normalizer else text


def _padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """[rows, longest] with zeros at the end, and which are not padding."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
