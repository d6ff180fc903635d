"""Tokens of one tokenizer spelled in another: as the other spells the same words itself."""

from itertools import permutations
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from toys import toy_rows
from transformers import PreTrainedTokenizerFast

from eyas.data.subwords import teacher_rows
from eyas.data.tokenization import token_names

TEXTS = [row["text"] for row in toy_rows(80)] + ["playing plays player café", "kindness happiness happier darkness"]
MARKS = {"WordPiece": "##", "byte-level BPE": "Ġ", "Unigram": "▁"}


def tokenizer_of(kind: str, size: int) -> Tokenizer:
    special = ["<unk>", "<mask>"]
    trainer: Any
    if kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    elif kind == "Unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        letters = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=256 + size, special_tokens=special, initial_alphabet=letters, show_progress=False
        )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def pieces(tokenizer: Tokenizer, word: str) -> list[int]:
    """Of a word in a sentence."""
    before = tokenizer.encode("so", add_special_tokens=False).ids
    return tokenizer.encode(f"so {word}", add_special_tokens=False).ids[len(before) :]


@pytest.mark.parametrize(("mine", "theirs"), [*permutations(MARKS, 2), ("WordPiece", "WordPiece")])
def test_tokens_are_spelled_as_the_other_tokenizer_spells_words(mine: str, theirs: str) -> None:
    own, other = tokenizer_of(mine, 400), tokenizer_of(theirs, 120)
    rows = teacher_rows(own, PreTrainedTokenizerFast(tokenizer_object=other, unk_token="<unk>", mask_token="<mask>"))
    words = {word for text in TEXTS for word in text.split() if word.isascii() and len(pieces(own, word)) == 1}
    assert len(words) > 5
    for word in words:
        assert rows[pieces(own, word)[0]] == pieces(other, word)
    names, mark = token_names(other), MARKS[theirs]
    split = [pieces(own, word) for word in ("kindness", "playing", "darkness", "happier")]
    continued = [rows[token] for parts in split for token in parts[1:]]
    for row in continued:
        assert [names[token].startswith(mark) for token in row] == [mark == "##"] * len(row)
    plain = [[names[token].removeprefix(mark) for part in parts for token in rows[part]] for parts in split]
    assert ["".join(word) for word in plain] == ["kindness", "playing", "darkness", "happier"]
