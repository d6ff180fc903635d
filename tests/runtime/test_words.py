import random
import string

import pytest

from understudy.data.tokenization import word_tokenizer
from understudy.runtime.words import WordTokenizer

WORDS = ["good", "film", "don", "t", "a", "1", "!", "'", "x\x01y"]


def test_same_ids_as_the_library() -> None:
    slow = word_tokenizer(WORDS, lowercase=True)
    slow.enable_truncation(20)
    fast = WordTokenizer.of(slow, 20)
    assert fast is not None
    chance = random.Random(0)
    letters = [*WORDS, *string.printable, "\x00", "\x1c", "\x1f", "\x7f", " ", " ", "GOOD"]
    for _ in range(3000):
        text = "".join(chance.choice(letters) for _ in range(chance.randrange(40)))
        ids = fast.encode(text)
        assert ids == slow.encode(text).ids or (ids is None and "[" in text), text


@pytest.mark.parametrize("text", ["café", "[UNK] film", "🙂"])
def test_texts_it_leaves_to_the_library(text: str) -> None:
    fast = WordTokenizer.of(word_tokenizer(WORDS, lowercase=True), 20)
    assert fast is not None
    assert fast.encode(text) is None


def test_other_tokenizers_have_no_fast_twin() -> None:
    assert WordTokenizer.of(word_tokenizer(WORDS, lowercase=False), 20) is None
