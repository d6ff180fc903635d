"""Words and subwords of every kind of tokenizer."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from eyas.errors import DataError
from eyas.runtime.alignment import WordEncoder
from eyas.text import with_question, word_places

TEXTS = ["They went to Anna in New York.", "Louis saw St. Ives, and went\nto Rome", "  a  b"] * 20


def _byte_level(nested: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    last = pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = pre_tokenizers.Split("\n", "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, last]) if nested else last
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = [AddedToken("<unk>"), AddedToken("</s>")]
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


KINDS = {"byte-level": lambda: _byte_level(False), "nested": lambda: _byte_level(True), "unigram": _unigram}


@pytest.mark.parametrize("kind", KINDS)
def test_word_encoder_finds_first_subwords(kind: str) -> None:
    encoder = WordEncoder(KINDS[kind](), "<unk>")
    words = ["They", "went", "to", "Anna", "zzz", ".", "\u200b"]
    pieces = encoder.pieces([words])[0]
    assert len(pieces.first) == len(words)
    assert not encoder.continues[pieces.ids[pieces.first[:4]]].any()
    assert np.array_equal(np.unique(pieces.words), np.arange(len(words)))


def test_word_encoder_finds_continuations_in_vocabulary_with_gaps() -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "play": 3, "##ing": 7}, unk_token="[UNK]"))
    assert np.flatnonzero(WordEncoder(tokenizer, "[UNK]").continues).tolist() == [7]


@pytest.mark.parametrize("kind", KINDS)
def test_word_encoder_splits_text_into_words(kind: str) -> None:
    text = "They went to Anna, in Louis\nto Rome."
    found = [text[start:end] for start, end in WordEncoder(KINDS[kind](), "<unk>").split(text)]
    assert found == ["They", "went", "to", "Anna", ",", "in", "Louis", "to", "Rome", "."]


def test_word_places_keeps_marks_with_their_letters() -> None:
    assert [("हिन्दी, में")[start:end] for start, end in word_places("हिन्दी, में")] == ["हिन्दी", ",", "में"]


def test_windows_start_with_the_question(teacher_folder: Path) -> None:
    encoder = WordEncoder(Tokenizer.from_file(str(teacher_folder / "tokenizer.json")), "[UNK]")
    sentence = with_question(["a", "film"], ["great", "awful"] * 20)
    windows = list(encoder.windows([sentence], 20))
    asked = encoder.pieces([sentence[:3]])[0].ids.tolist()
    assert len(windows) > 2
    assert all(window.ids[1 : len(asked) + 1] == asked and len(window.ids) <= 20 for window in windows)
    assert np.concatenate([window.words for window in windows]).tolist() == list(range(len(sentence)))
    for window in windows:
        expected = [encoder.pieces([[sentence[word]]])[0].ids[0] for word in window.words]
        assert [window.ids[place] for place in window.positions] == expected
    byte_level = _byte_level(False)
    byte_level.add_special_tokens(["[SEP]"])
    encoder = WordEncoder(byte_level, "<unk>")
    separator = byte_level.token_to_id("[SEP]")
    assert all(list(window.ids).count(separator) == 1 for window in encoder.windows([sentence], 20))
    encoder = WordEncoder(Tokenizer.from_file(str(teacher_folder / "tokenizer.json")), "[UNK]")
    long = with_question(["film"] * 30, ["great"] * 20)  # a question that leaves no room
    assert np.concatenate([window.words for window in encoder.windows([long], 20)]).tolist() == list(range(len(long)))


def test_pieces_refuses_text_instead_of_words() -> None:
    with pytest.raises(DataError, match="Text 0 is a string"):
        WordEncoder(_unigram(), "<unk>").pieces(["a text"])  # type: ignore[list-item]


def test_word_encoder_clears_full_cache(teacher_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full cache is cleared, and known words are encoded as before."""
    from eyas.runtime import alignment

    monkeypatch.setattr(alignment, "REMEMBERED", 3)
    tokenizer = Tokenizer.from_file(str(teacher_folder / "tokenizer.json"))
    expected = [pieces.ids.tolist() for pieces in WordEncoder(tokenizer, "[UNK]").pieces([["a", "great", "film"]])]
    encoder = WordEncoder(tokenizer, "[UNK]")
    for words in (["a", "great"], ["awful", "film", "boring"], ["a", "great", "film"], ["a", "great", "film"]):
        found = encoder.pieces([words])[0].ids.tolist()
    assert [found] == expected
