"""Models that write, as callables."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from transformers import PreTrainedModel

from eyas.errors import DataError
from eyas.generation.data import source_ids
from eyas.models.loading import input_length, load_seq2seq
from eyas.progress import progress
from eyas.runtime.answers import Answer
from eyas.teachers.live import fastest_device

BATCH = 32


def limit_length(model: Any, most: int) -> None:
    """Let the model write at most so many tokens, the end included."""
    model.generation_config.max_length = most + 1  # with the start token
    model.generation_config.max_new_tokens = None


class TextGenerator:
    """An encoder-decoder as a callable that takes texts; runs on torch.

    Args:
        max_length: maximum number of tokens of a source; by default what the model reads.
        beams: of the beam search, 1 is greedy; by default as in the model's generation_config.json.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, max_length: int | None = None, beams: int | None = None
    ) -> None:
        self.model: Any = model.to(fastest_device()).eval()  # type: ignore[arg-type]
        self.tokenizer, self.beams = tokenizer, beams
        if beams is not None and beams < 1:
            raise DataError(f"beams (--beams) is {beams}, expected at least 1.")
        self.max_length = max_length or input_length(model, tokenizer)
        about = self.model.generation_config
        if not (about.max_length or about.max_new_tokens):  # transformers would end every text after 20 words
            limit_length(self.model, self.max_length)

    @classmethod
    def from_pretrained(cls, folder: str | Path, beams: int | None = None) -> Self:
        """Load a folder or a Hub name; raises ModelError as `load_seq2seq`."""
        return cls(*load_seq2seq(folder), beams=beams)

    def __call__(self, texts: Iterable[str]) -> list[Answer]:
        """One answer, {"generated_text": str}, per text.

        Raises:
            DataError: an input is no text.
        """
        return [{"generated_text": text} for text in self.predict(texts)]

    def predict(self, texts: Iterable[str]) -> list[str]:
        """The text written for each text."""
        if isinstance(texts, str):
            raise DataError("Expected a list of texts, got one text. Put it into a list.")
        given = list(texts)
        rows = source_ids(given, self.tokenizer, self.max_length) if given else []
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        found = [""] * len(rows)
        showing = progress("writing", len(rows), "texts") if len(rows) > BATCH else nullcontext(lambda count: None)
        with showing as advance:
            for start in range(0, len(rows), BATCH):
                part = order[start : start + BATCH]
                written = self.tokenizer.batch_decode(self.ids([rows[row] for row in part]), skip_special_tokens=True)
                for row, text in zip(part, written, strict=True):
                    found[row] = text
                advance(len(part))
        return found

    @torch.no_grad()
    def ids(self, sources: Sequence[list[int]], **options: Any) -> torch.Tensor:
        """Token ids [texts, tokens] written for sources of token ids, from the start token on."""
        batch = self.tokenizer.pad({"input_ids": list(sources)}, return_tensors="pt").to(self.model.device)
        options |= {} if self.beams is None else {"num_beams": self.beams}
        names = {"input_ids", "attention_mask"}
        ids: torch.Tensor = self.model.generate(**{name: batch[name] for name in names}, do_sample=False, **options)
        return ids
