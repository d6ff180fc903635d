"""Texts on which the student departs from the teacher (Jafari et al. 2023, section 3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from eyas.data.labels import ordered_names
from eyas.errors import ModelError
from eyas.models.loading import input_length, load_classifier
from eyas.runtime.alignment import WordEncoder, pad
from eyas.teachers.aligned import AnyTeacher, aligned_by_name, live
from eyas.transfer.neighbors import Vocabulary, replace_words
from eyas.transfer.words import Words

TEXTS_PER_BATCH = 32
MAX_LENGTH = 128


class Doubts:
    """Replaces words with the neighbors that most widen the gap between student and teacher.

    The paper moves a text's vectors along the gradient of ||S(x) - T(x)||^2, with a map between the vectors of
    student and teacher. Here the words are the map: a word is replaced with neighbors whose student and teacher
    vectors are furthest along the two gradients. The result is text, which the teacher then labels.

    Args:
        student: the folder of a student distilled from the teacher.
        vocabulary: words that may replace others.
        probability: of replacing a word.
        best: the number of neighbors to draw from.

    Raises:
        LabelError: the labels are not the teacher's.
    """

    def __init__(
        self,
        student: str | Path,
        teacher: AnyTeacher,
        vocabulary: Vocabulary,
        probability: float = 0.3,
        best: int = 3,
    ) -> None:
        model, tokenizer = load_classifier(student)
        names = ordered_names(model.config.id2label or {})
        self.order = aligned_by_name(teacher, names).order
        if len(self.order) != len(names):
            raise ModelError(
                f"{student} has the labels {names}, the teacher {teacher.label_names}. "
                "Choose a student distilled from this teacher."
            )
        self.vocabulary, self.probability, self.best = vocabulary, probability, best
        self.models = [_EmbeddingModel(model, tokenizer), _EmbeddingModel(live(teacher).model, live(teacher).tokenizer)]

    def variants(self, texts: Sequence[Words], count: int, random: np.random.Generator) -> list[list[Words]]:
        """For each text `count` variants; some may be identical."""
        self.vocabulary.learn({word for text in texts for word in text.words})
        result = []
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            batch = texts[start : start + TEXTS_PER_BATCH]
            for text, candidates in zip(batch, self._candidates(batch), strict=True):
                result.append(replace_words(text, candidates, self.probability, count, random))
        return result

    def _candidates(self, texts: Sequence[Words]) -> list[list[list[str]]]:
        """For each word, the neighbors that most widen the gap."""
        gradients = self._gradients([text.words for text in texts])
        result = []
        for text, of_models in zip(texts, gradients, strict=True):
            near = [self.vocabulary.neighbors(word) for word in text.words]
            result.append([self._widest(others, [g[place] for g in of_models]) for place, others in enumerate(near)])
        return result

    def _widest(self, words: list[str], gradients: Sequence[np.ndarray]) -> list[str]:
        if not words:
            return []
        gains = sum(model.vectors(words) @ gradient for model, gradient in zip(self.models, gradients, strict=True))
        return [words[place] for place in np.argsort(-np.asarray(gains), kind="stable")[: self.best]]

    def _gradients(self, sentences: list[tuple[str, ...]]) -> list[list[np.ndarray]]:
        """For each text, the gap's gradient at its words, [words, size], in student and teacher."""
        inputs = [model.inputs(sentences) for model in self.models]
        student, teacher = (
            m.model(inputs_embeds=x, attention_mask=k).logits for m, (x, k) in zip(self.models, inputs, strict=True)
        )
        gap = (student - teacher[:, self.order].to(student.device)).square().sum()
        gradients = torch.autograd.grad(gap, [vectors for vectors, _ in inputs])
        by_word = [m.by_word(g.float().cpu().numpy(), sentences) for m, g in zip(self.models, gradients, strict=True)]
        return [list(pair) for pair in zip(*by_word, strict=True)]


class _EmbeddingModel:
    """A model that takes word vectors as inputs."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model.eval()
        self.padding = tokenizer.pad_token_id
        self.table = cast(nn.Embedding, model.get_input_embeddings())
        self.words = WordEncoder(tokenizer.backend_tokenizer, tokenizer.unk_token)
        room = input_length(model, tokenizer, MAX_LENGTH)
        self.room = room - len(self.words.before) - len(self.words.after)

    def inputs(self, sentences: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Word vectors [batch, length, size] that require a gradient, and the attention mask."""
        before, after = self.words.before, self.words.after
        rows = [[*before, *pieces.ids[: self.room].tolist(), *after] for pieces in self.words.pieces(sentences)]
        ids, mask = (torch.from_numpy(array).to(self.table.weight.device) for array in pad(rows, self.padding))
        return self.table(ids).detach().requires_grad_(), mask

    def by_word(self, gradient: np.ndarray, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """[batch, length, size] -> for each sentence [words, size], the sum over a word's subwords."""
        start = len(self.words.before)
        result = []
        for row, pieces in zip(gradient, self.words.pieces(sentences), strict=True):
            total = np.zeros((len(pieces.first), gradient.shape[-1]), dtype=np.float32)
            read = min(len(pieces.ids), self.room)
            np.add.at(total, pieces.words[:read], row[start : start + read])
            result.append(total)
        return result

    @torch.no_grad()
    def vectors(self, words: Sequence[str]) -> np.ndarray:
        """[words, size]: the mean over each word's subwords."""
        pieces = self.words.pieces([[word] for word in words])
        return np.stack([self.table.weight[p.ids].mean(0).float().cpu().numpy() for p in pieces])
