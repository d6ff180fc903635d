import json
import random
import string
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from eyas.data.tokenization import word_tokenizer
from eyas.export import as_wordpiece
from eyas.runtime.tokens import ODD_TEXTS, READ_ALIKE, TextEncoder, find_alike

LENGTH = 20
PIECES = [
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "good",
    "##ness",
    "##n",
    "##s",
    "un",
    "##g",
    "##o",
    "##d",
    "g",
    "a",
    "b",
    "##b",
    "1",
    "!",
]
PIECES += ["'", "é", "##é", "e", "##e", "中", "日", "я", "##я", "👍", "ß", "한", "##한"]
BEFORE, BOTH = "[CLS] $A", "[CLS] $A [SEP]"


def _tokenizer(template: str = BEFORE, without: str = "", **normal: Any) -> Tokenizer:
    vocabulary = {piece: index for index, piece in enumerate(piece for piece in PIECES if piece != without)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=12))
    tokenizer.normalizer = normalizers.BertNormalizer(**normal)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    special = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return tokenizer


def _saved(tokenizer: Tokenizer, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def _encoder(tokenizer: Tokenizer, folder: Path, texts: str) -> TextEncoder:
    """The fast encoder for `texts`; fails unless it was found to agree."""
    path = _saved(tokenizer, folder)
    found = find_alike(path, LENGTH)
    assert found is not None
    assert found["texts"] == texts
    tokenizer.enable_truncation(LENGTH)
    return TextEncoder(path, LENGTH, **found)


@pytest.mark.parametrize("template", [BEFORE, BOTH])
@pytest.mark.parametrize(
    ("normal", "texts"),
    [
        ({"lowercase": True}, "common"),
        ({"lowercase": False}, "common"),
        ({"lowercase": True, "strip_accents": False}, "ascii"),
        ({"lowercase": True, "handle_chinese_chars": False}, "ascii"),
    ],
)
def test_text_encoder_returns_same_ids_as_tokenizers(
    template: str, normal: dict[str, bool], texts: str, tmp_path: Path
) -> None:
    slow = _tokenizer(template, **normal)
    fast = _encoder(slow, tmp_path, texts)
    chance = random.Random(0)
    known = [piece.removeprefix("##") for piece in PIECES]
    letters = [
        *known,
        *ODD_TEXTS.split(),
        *string.printable,
        "goodness",
        "GOOD",
        "\x00",
        "\x7f",
        "\u07fd",
        "\U0010fffe",
    ]
    for _ in range(5000):
        text = "".join(chance.choice([chance.choice(letters), " ", ""]) for _ in range(chance.randrange(40)))
        assert fast(text) == slow.encode(text).ids, text


@pytest.mark.parametrize("lowercase", [True, False])
def test_as_wordpiece_keeps_ids_of_word_level_tokenizer(lowercase: bool, tmp_path: Path) -> None:
    words = ["good", "film", "don", "t", "a", "1", "!", "'", "é", "日", "##s", "ness"]
    slow = word_tokenizer(words, lowercase)
    written = Tokenizer.from_str(json.dumps(as_wordpiece(json.loads(slow.to_str()))))
    fast = _encoder(written, tmp_path, "ascii")
    slow.enable_truncation(LENGTH)
    chance = random.Random(0)
    letters = [*words, *ODD_TEXTS.split(), *string.printable, "GOOD", "goodness", "goods", "[PAD]", "\x00"]
    for _ in range(5000):
        text = "".join(chance.choice([chance.choice(letters), " ", ""]) for _ in range(chance.randrange(40)))
        assert written.encode(text).ids == slow.encode(text).ids, text
        assert fast(text) == slow.encode(text).ids, text


def test_text_encoder_agrees_on_every_common_character(shared: Path, tmp_path: Path) -> None:
    slow = AutoTokenizer.from_pretrained(shared / "models" / "minilm-sst2").backend_tokenizer
    slow.no_padding()
    slow.no_truncation()
    path = _saved(slow, tmp_path)
    fast = TextEncoder(path, 100_000, **(find_alike(path, 100_000) or {}))
    signs = [chr(code) for code in range(0x110000) if READ_ALIKE["common"].fullmatch(chr(code))]
    assert len(signs) > 45_000
    for start in range(0, len(signs), 200):
        text = " ".join(f"a{sign}a {sign}" for sign in signs[start : start + 200])
        assert READ_ALIKE["common"].fullmatch(text)
        assert fast(text) == slow.encode(text).ids, text


def test_text_encoder_agrees_on_real_text(shared: Path, tmp_path: Path) -> None:
    slow = AutoTokenizer.from_pretrained(shared / "models" / "minilm-sst2").backend_tokenizer
    slow.no_padding()
    slow.enable_truncation(64)
    path = _saved(slow, tmp_path)
    lines = (shared / "data" / "sst2" / "train.tsv").read_text().splitlines()[:5000]
    lines += (shared / "data" / "text-id" / "ted_devtest.txt").read_text().splitlines()[:2000]
    found = find_alike(path, 64, lines[:100])
    assert found == {"texts": "common", "before": [101], "after": [102]}
    fast = TextEncoder(path, 64, **found)
    for line in lines:
        assert fast(line) == slow.encode(line).ids, line


def test_odd_texts_match_the_common_pattern() -> None:
    for text in ODD_TEXTS.splitlines():
        assert READ_ALIKE["common"].fullmatch(text), text


@pytest.mark.parametrize("text", ["good\x7fness", "good\x01", "g\u0898d", "\U0010ffff!", "goodness " * 400])
def test_text_encoder_leaves_unusual_texts_to_tokenizers(text: str, tmp_path: Path) -> None:
    slow = _tokenizer(lowercase=True)
    fast = _encoder(slow, tmp_path, "common")
    (tmp_path / "tokenizer.json").write_text("another version by now")
    assert not READ_ALIKE["common"].fullmatch(text)
    assert fast(text) == slow.encode(text).ids


def test_text_encoder_leaves_unsupported_model_to_tokenizers(tmp_path: Path) -> None:
    slow = word_tokenizer(["good", "film"], lowercase=True)
    path = _saved(slow, tmp_path)
    fast = TextEncoder(path, LENGTH, "ascii", before=[2], after=[])
    assert fast("a good film") == slow.encode("a good film").ids
    assert fast.get_vocab_size() == 6


@pytest.mark.parametrize("kind", ["words", "bytes", "types", "ends"])
def test_find_alike_rejects_tokenizers_that_differ(kind: str, tmp_path: Path) -> None:
    slow = {
        "words": lambda: word_tokenizer(["good"], lowercase=True),
        "bytes": lambda: Tokenizer(models.BPE({"a": 0}, [])),
        "types": lambda: _tokenizer("[CLS]:1 $A:0"),
        "ends": lambda: _tokenizer(without="##n"),  # tokie would read "bn" as "b"
    }[kind]()
    assert find_alike(_saved(slow, tmp_path), LENGTH) is None


def test_find_alike_also_checks_given_texts(tmp_path: Path) -> None:
    slow = _tokenizer()
    slow.normalizer = normalizers.Replace("film", "good")  # tokie does not know it
    path = _saved(slow, tmp_path)
    assert find_alike(path, LENGTH, ["a text without it"]) is not None
    assert find_alike(path, LENGTH, ["a good one", "a film"]) is None


def test_manifest_records_texts_for_tokie(exported: dict[tuple[str, bool, bool], Path]) -> None:
    single, pair = (json.loads((exported["cnn", pair, False] / "manifest.json").read_text()) for pair in (False, True))
    assert single["tokie"]["texts"] == "common"
    assert pair["tokie"] is None
