from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from eyas.data.datasets import load_data
from eyas.data.tokenization import cut_tokenizer, word_tokenizer

TEXTS = ["the quick brown fox", "jumps over the lazy dog", "quick quick lazy foxes", "unbelievable quickness !"]


def train(kind: str) -> PreTrainedTokenizerFast:
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<pad>", "<unk>"])
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(vocab_size=100, special_tokens=["<pad>", "<unk>"], unk_token="<unk>")
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["<pad>", "<unk>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(TEXTS * 5 + ["some other words that never occur below"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_cut_tokenizer_keeps_segmentation_of_texts(kind: str) -> None:
    teacher = train(kind)
    cut = cut_tokenizer(teacher, Dataset.from_dict({"text": TEXTS}), 64)
    assert cut.get_vocab_size() < len(teacher) + 4
    for text in TEXTS:
        before = teacher.backend_tokenizer.encode(text, add_special_tokens=False).tokens
        assert cut.encode(text, add_special_tokens=False).tokens == before


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_cut_tokenizer_spells_every_word_with_small_vocabulary(kind: str) -> None:
    cut = cut_tokenizer(train(kind), Dataset.from_dict({"text": TEXTS}), 64, vocab_size=60)
    assert "[UNK]" not in cut.encode("lazy quick fox").tokens
    assert cut.get_vocab_size() <= 60


def test_cut_tokenizer_gives_every_text_a_token(tiny_bert: Path, toy_data: Path) -> None:
    cut = cut_tokenizer(AutoTokenizer.from_pretrained(tiny_bert), load_data(toy_data)["train"], 48)
    assert cut.encode("").tokens == ["[CLS]"]
    pair = cut.encode("a", "b")
    assert pair.tokens == ["[CLS]", "a", "[SEP]", "b"]
    assert pair.type_ids == [0, 0, 1, 1]


def test_word_tokenizer_encodes_words() -> None:
    tokenizer = word_tokenizer(["good", "film"], lowercase=True)
    assert tokenizer.encode("Good, film!").tokens == ["[CLS]", "good", "[UNK]", "film", "[UNK]"]
    assert np.array_equal(tokenizer.encode("good film").ids, [2, 4, 5])
