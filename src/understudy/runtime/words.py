"""A word-level tokenizer in plain Python: six times faster than the library on the texts it can read.

For a student that answers in 40 microseconds, the tokenizer is most of the cost.
"""

import json
import re

from tokenizers import Tokenizer

# What BertPreTokenizer does to ASCII: signs stand alone, white space separates, anything else is a word.
_ASCII_WORDS = re.compile(r"[^\s!-/:-@\[-`{-~]+|[!-/:-@\[-`{-~]", re.ASCII)


class WordTokenizer:
    """The same ids as a `tokenizers` word-level tokenizer, for ASCII texts.

    Args:
        vocabulary: {word: id}.
        unknown, start: ids of the token for other words, and of the one every text starts with.
        max_length: tokens kept.
    """

    def __init__(self, vocabulary: dict[str, int], unknown: int, start: int, max_length: int) -> None:
        self.vocabulary, self.unknown, self.start, self.max_length = vocabulary, unknown, start, max_length

    @classmethod
    def of(cls, tokenizer: Tokenizer, max_length: int) -> "WordTokenizer | None":
        """The fast twin of `tokenizer`, or None where it is of another kind."""
        state = json.loads(tokenizer.to_str())
        model, before = state["model"], state.get("pre_tokenizer") or {}
        normal = (state.get("normalizer") or {}).get("type") == "Lowercase"
        if model["type"] != "WordLevel" or before.get("type") != "BertPreTokenizer" or not normal:
            return None
        start = tokenizer.encode("").ids
        special = {token["content"] for token in state["added_tokens"]}
        words = {word: index for word, index in model["vocab"].items() if word not in special}
        if len(start) != 1:
            return None
        return cls(words, model["vocab"][model["unk_token"]], start[0], max_length)

    def encode(self, text: str) -> list[int] | None:
        """Token ids, or None for a text it can't read: not ASCII, or with a special token written in it."""
        if not text.isascii() or "[" in text:
            return None
        find, unknown = self.vocabulary.get, self.unknown
        ids = [find(word, unknown) for word in _ASCII_WORDS.findall(text.lower())]
        return [self.start, *ids[: self.max_length - 1]]
