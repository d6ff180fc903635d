"""Replacement words from a masked language model (TinyBERT, Jiao et al. 2020, algorithm 1)."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from eyas.models.loading import input_length, load_masked_lm
from eyas.runtime.alignment import Pieces, WordEncoder, pad
from eyas.teachers.live import autocast, fastest_device, fastest_dtype
from eyas.transfer.neighbors import CASES, Vocabulary, replace_words, whole_words
from eyas.transfer.words import Words, in_place_of, is_dense

TOKENS_PER_BATCH = 8192
LOGITS_PER_BATCH = 20_000_000
MAX_LENGTH = 128


class _Masked(NamedTuple):
    """A text with one word masked: indices of text and word, token ids, the mask's position in them.

    `dense` is true for a word in a script without spaces.
    """

    text: int
    word: int
    ids: list[int]
    place: int
    dense: bool


class MaskedLM:
    """Replaces words: single tokens with the model's predictions, words of several with their static neighbors.

    The vector of such a word is the mean of its tokens'; TinyBERT has GloVe's. As in the algorithm, the model sees the
    masked text alone; TinyBERT's code also shows it the original text.

    Args:
        source: a folder or Hub name of a masked language model.
        known: words that occur, see `whole_words`.
        probability: of replacing a word (0.4 in the paper).
        size: the number of predictions to draw from (15 in the paper).
        dtype: precision of matrix products; None for the fastest on this machine.

    Raises:
        ModelError: the model has no masked language modeling head, no mask token, or another model's tokenizer.
    """

    def __init__(
        self,
        source: str | Path,
        known: Collection[str],
        probability: float = 0.4,
        size: int = 15,
        dtype: str | None = None,
    ) -> None:
        model, self.tokenizer = load_masked_lm(source)
        self.model = cast(Any, model).to(fastest_device())
        self.vocabulary = Vocabulary.of_model(self.model, self.tokenizer, known, size, several=True)
        self.probability, self.size = probability, size
        self.dtype = dtype or fastest_dtype(self.model.device)
        self.max_length = input_length(self.model, self.tokenizer, MAX_LENGTH)
        self._words = WordEncoder(self.tokenizer.backend_tokenizer, self.tokenizer.unk_token)
        names = whole_words(self.tokenizer, known)
        self._name_of = {row: name for name, row in names.items()}
        # Allowed replacements: row 1 for words of a script without spaces, row 0 for others.
        self._allowed = torch.zeros(2, self.model.get_output_embeddings().weight.shape[0], dtype=torch.bool)
        for name, row in names.items():
            self._allowed[int(is_dense(name)), row] = True
        self._allowed = self._allowed.to(self.model.device)

    def variants(self, texts: Sequence[Words], count: int, random: np.random.Generator) -> list[list[Words]]:
        """For each text `count` variants; some may be identical."""
        found = self.candidates(texts)
        return [
            replace_words(text, words, self.probability, count, random)
            for text, words in zip(texts, found, strict=True)
        ]

    def candidates(self, texts: Sequence[Words]) -> list[list[list[str]]]:
        """For each word of each text, its possible replacements."""
        result: list[list[list[str]]] = [[[] for _ in text.words] for text in texts]
        split = self._words.pieces([text.words for text in texts])
        masked, several = [], []
        for number, (text, pieces) in enumerate(zip(texts, split, strict=True)):
            lengths = np.diff(pieces.first, append=len(pieces.ids))
            for word in text.free:
                if not text.words[word][:1].isalpha():
                    continue
                if lengths[word] == 1:
                    masked.append(self._mask(number, word, pieces, is_dense(text.words[word])))
                else:
                    several.append((number, word))
        self.vocabulary.learn({texts[number].words[word] for number, word in several})
        for number, word in several:
            result[number][word] = self.vocabulary.neighbors(texts[number].words[word])
        for (number, word, *_), names in self._predicted(masked):
            result[number][word] = in_place_of(texts[number].words[word], names, self.size)
        return result

    def _mask(self, text: int, word: int, pieces: Pieces, dense: bool) -> _Masked:
        """Mask a word in its context, shortened to what fits into the model."""
        before, after = self._words.before, self._words.after
        room = self.max_length - len(before) - len(after)
        place = int(pieces.first[word])
        start = max(min(place - room // 2, len(pieces.ids) - room), 0)
        ids = [*before, *pieces.ids[start : start + room].tolist(), *after]
        place += len(before) - start
        ids[place] = self.tokenizer.mask_token_id
        return _Masked(text, word, ids, place, dense)

    @torch.no_grad()
    def _predicted(self, masked: list[_Masked]) -> Iterator[tuple[_Masked, list[str]]]:
        """The most likely whole words at each mask; texts of similar length share a batch."""
        masked = sorted(masked, key=lambda item: len(item.ids))
        start = 0
        while start < len(masked):
            tokens = len(masked[min(start + 64, len(masked) - 1)].ids)
            end = start + max(1, min(TOKENS_PER_BATCH // tokens, LOGITS_PER_BATCH // self._allowed.shape[1]))
            batch = masked[start:end]
            ids, mask = (
                torch.from_numpy(array) for array in pad([item.ids for item in batch], self.tokenizer.pad_token_id)
            )
            logits = self._logits_at(ids, mask, torch.tensor([item.place for item in batch]))
            allowed = self._allowed[torch.tensor([int(item.dense) for item in batch], device=logits.device)]
            found = (
                logits.masked_fill(~allowed, -torch.inf).topk(min(CASES * self.size, allowed.shape[1])).indices.tolist()
            )
            for item, rows in zip(batch, found, strict=True):
                yield item, [self._name_of[row] for row in rows if row in self._name_of]
            start = end

    def _logits_at(self, ids: torch.Tensor, mask: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """[batch, vocabulary] logits at one position per text; the output layer skips all others."""
        device = self.model.device
        rows, places = torch.arange(len(ids), device=device), places.to(device)
        last: Any = self.model.get_output_embeddings()
        hook = last.register_forward_pre_hook(lambda _, inputs: (inputs[0][rows, places],))
        try:
            with autocast(device, self.dtype):
                output = self.model(input_ids=ids.to(device), attention_mask=mask.to(device))
        finally:
            hook.remove()
        logits: torch.Tensor = output.logits.float()
        return logits
