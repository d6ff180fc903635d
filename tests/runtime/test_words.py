import random
import string
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from eyas.data.tokenization import word_tokenizer
from eyas.runtime import words
from eyas.runtime.words import FastTokenizer

WORDS = ["good", "film", "don", "t", "a", "1", "!", "'", "x\x01y"]
PIECES = ["[UNK]", "[CLS]", "good", "##ness", "##s", "un", "##g", "##o", "##d", "g", "a", "b", "##b", "1", "!", "'"]


def _word_pieces(lowercase: bool) -> Tokenizer:
    vocabulary = {piece: index for index, piece in enumerate(PIECES)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=12))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[UNK]", "[CLS]"])
    return _starting(tokenizer)


def _starting(tokenizer: Tokenizer) -> Tokenizer:
    start = tokenizer.token_to_id("[CLS]")
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", start)])
    return tokenizer


@pytest.mark.parametrize("kind", ["words", "pieces", "cased pieces"])
def test_same_ids_as_the_library(kind: str) -> None:
    slow = word_tokenizer(WORDS, lowercase=True) if kind == "words" else _word_pieces(kind == "pieces")
    slow.enable_truncation(20)
    fast = FastTokenizer.of(slow, 20)
    assert fast is not None
    chance = random.Random(0)
    known = [*WORDS, "goodness", "ungoods", "GOOD", "gab", "goodgoodgoodgood"]
    letters = [*known, *string.printable, "\x00", "\x1c", "\x1f", "\x7f", " ", " "]
    read = 0
    for _ in range(3000):
        text = "".join(chance.choice(letters) for _ in range(chance.randrange(40)))
        ids = fast.encode(text)
        read += ids is not None
        assert ids in (None, slow.encode(text).ids), text
    assert read > 600


def test_real_text_and_a_real_vocabulary(shared: Path) -> None:
    slow = AutoTokenizer.from_pretrained(shared / "models" / "minilm-sst2").backend_tokenizer
    slow.no_padding()
    slow.enable_truncation(64)
    fast = FastTokenizer.of(_starting(slow), 64)
    assert fast is not None
    lines = (shared / "data" / "sst2" / "train.tsv").read_text().splitlines()[:5000]
    lines += (shared / "data" / "indonlu" / "terma" / "train.conll").read_text().splitlines()[:2000]
    for line in lines:
        assert fast.encode(line) in (None, slow.encode(line).ids), line


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "REMEMBERED", 2)
    fast = FastTokenizer.of(_word_pieces(True), 20)
    assert fast is not None
    first = fast.encode("good goods un unb")
    assert fast.encode("good goods un unb") == first
    assert len(fast.pieces) == 2


@pytest.mark.parametrize("text", ["café", "[UNK] film", "🙂", "a\x0bb"])
def test_texts_it_leaves_to_the_library(text: str) -> None:
    fast = FastTokenizer.of(word_tokenizer(WORDS, lowercase=True), 20)
    assert fast is not None
    assert fast.encode(text) is None


def test_other_tokenizers_have_no_fast_twin() -> None:
    assert FastTokenizer.of(word_tokenizer(WORDS, lowercase=False), 20) is None
