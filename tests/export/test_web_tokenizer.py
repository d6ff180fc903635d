"""JavaScript and Python tokenize alike for each kind of tokenizer that `--web` supports; others are refused."""

import json
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import toy_rows
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from eyas.data.tokenization import word_tokenizer
from eyas.errors import ExportError
from eyas.export.web import SOURCES, write_web
from eyas.runtime.alignment import WordEncoder
from eyas.runtime.manifest import MANIFEST, TOKENIZER

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
ODD = ["", " ", "a [CLS] b[SEP]c", "ΣΑΣ Σ", "İstanbul", "a" * 130, "e\u0301 x\u200dy", "\u00a0a\u2003b\ufeffc"]
ODD += ["日本語 text 漢字", "𠀀𪜀b \U0002f800", "हिन्दी ไทย 한국어 العربية", "中文字符" * 500, "ok" * 60]
ODD += ["\U0001f600 great", "a\x00b\x7fc", "don't stop-me_now!", "straße ŒUVRE ﬁ", "\uff46\uff55 \uff5e"]
ODD += ["a <mask> film", "x  <mask>", "[CLS]a[SEP]", "  two  spaces ", "it's we'll I'D", "tab\t\n\n end\n"]
ODD += ["\x85 a\u2028b\x85", "\u0661\u0662 ½", "e\u0301\u0301 \U0001f468\u200d\U0001f469", "\ufeffbom\ufeff"]
ODD += ["foo FOO [new]", "``quoted'' «so»", "a=b+c~`$"]
ODD += ["[new] good\U0001f602\U0001f602ok", "[new]@USER  a@USERb @user \U0001f602"]
TEXTS = [row["text"] for row in toy_rows(200)] + ODD
SENTENCES = [text.split() for text in TEXTS if text.split()]
SENTENCES += [["st.", "ives"] * 60, ["\u200d", "anna", "\ufeff"], ["who", "?", "[SEP]", *["anna", "lives"] * 40]]
LENGTH = 32

BYTES = trainers.BpeTrainer(
    vocab_size=600, special_tokens=NAMES, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
)
ENDS = trainers.BpeTrainer(vocab_size=500, special_tokens=NAMES, end_of_word_suffix="</w>", show_progress=False)
PIECES = trainers.WordPieceTrainer(vocab_size=700, special_tokens=NAMES, show_progress=False)
SCORES = trainers.UnigramTrainer(vocab_size=700, special_tokens=NAMES, unk_token="[UNK]", show_progress=False)
TEMPLATE = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1"}


def _made(model: Any, normalizer: Any, splitter: Any, trainer: Any, processor: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.train_from_iterator([text for text in TEXTS if "[" not in text], trainer)
    special = [(name, tokenizer.token_to_id(name)) for name in NAMES]
    tokenizer.post_processor = processor or processors.TemplateProcessing(**TEMPLATE, special_tokens=special)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.add_tokens([AddedToken("[new]", normalized=True), "\U0001f602"])
    tokenizer.add_tokens([AddedToken("@USER", special=True, rstrip=True, normalized=False)])
    return tokenizer


def _wordpiece(**settings: Any) -> Tokenizer:
    normalizer = normalizers.BertNormalizer(**settings)
    return _made(models.WordPiece(unk_token="[UNK]"), normalizer, pre_tokenizers.BertPreTokenizer(), PIECES)


def _bytes(prefixed: bool, normalizer: Any = None, processor: Any = None) -> Tokenizer:
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=prefixed)
    return _made(models.BPE(), normalizer, splitter, BYTES, processor)


def _herbert() -> Tokenizer:
    model, ends = models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"), (("[SEP]", 3), ("[CLS]", 2))
    normalizer = normalizers.BertNormalizer(lowercase=False)
    return _made(model, normalizer, pre_tokenizers.BertPreTokenizer(), ENDS, processors.BertProcessing(*ends))


def _xlmr() -> Tokenizer:
    steps = [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    splitters = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    return _made(models.Unigram(), normalizers.Sequence(steps), pre_tokenizers.Sequence(splitters), SCORES)


def _deberta() -> Tokenizer:
    steps = [normalizers.Lowercase(), normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " ")]
    steps += [normalizers.NFC(), normalizers.Strip(left=False, right=True)]
    return _made(models.Unigram(), normalizers.Sequence(steps), pre_tokenizers.Metaspace(), SCORES)


def _albert() -> Tokenizer:
    steps = [normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    return _made(models.Unigram(), normalizers.Sequence(steps), pre_tokenizers.Metaspace(), SCORES)


ROBERTA = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
WORDS = sorted({word for text in TEXTS for word in text.lower().split()})
KINDS: dict[str, Callable[[], Tokenizer]] = {
    "wordpiece": _wordpiece,
    "wordpiece-cased": lambda: _wordpiece(lowercase=False),
    "wordpiece-accents": lambda: _wordpiece(strip_accents=False, handle_chinese_chars=False),
    "wordpiece-unclean": lambda: _wordpiece(clean_text=False),
    "words": lambda: word_tokenizer(WORDS, lowercase=True),
    "words-cased": lambda: word_tokenizer(WORDS, lowercase=False),
    "bytes": lambda: _bytes(False),
    "bytes-roberta": lambda: _bytes(False, None, ROBERTA),
    "bytes-prefixed": lambda: _bytes(True, None, processors.Sequence([processors.ByteLevel(), ROBERTA])),
    "bytes-nfc": lambda: _bytes(False, normalizers.NFC()),
    "bpe-herbert": _herbert,
    "unigram-xlmr": _xlmr,
    "unigram-deberta": _deberta,
    "unigram-albert": _albert,
}

RUN = """
import { readFileSync } from "node:fs";
import { Tokenizer } from "./tokenizer.js";
const { state, rows, texts, sentences, most } = JSON.parse(readFileSync(0, "utf8"));
const tokenizer = new Tokenizer(state);
console.log(JSON.stringify({
  encoded: rows.map((row) => tokenizer.encode(...row)),
  places: texts.map((text) => tokenizer.places(text)),
  windows: sentences.map((words) => [...tokenizer.windows(words, "[UNK]", most)]),
  continuing: [...tokenizer.continuing].sort((a, b) => a - b),
}));
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("node") is None:
        pytest.skip("no node here (apt-get install nodejs)")
    folder = Path(shutil.copytree(SOURCES, tmp_path_factory.mktemp("node") / "web"))
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "run.js").write_text(RUN)
    return folder


def _order(tokenizer: Tokenizer, parts: list[str]) -> Any:
    """Unigram's cuts of one repeated letter are equally likely: their order is left open."""
    tied = any(len(part) > 1 and len(set(part)) == 1 for part in parts)
    return sorted if tied and isinstance(tokenizer.model, models.Unigram) else list


def _compare(tokenizer: Tokenizer, scripts: Path, texts: list[str]) -> None:
    """Compare JavaScript with Python: ids of texts and of pairs, and the words of a tagger."""
    pairs = list(zip([*texts[1:60], *ODD], [*texts[:59], *reversed(ODD)], strict=True))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    words = WordEncoder(tokenizer, "[UNK]")
    tokenizer.enable_truncation(LENGTH)
    rows = [*([text] for text in texts), *pairs]
    given = {"state": json.loads(tokenizer.to_str()), "rows": rows, "texts": texts, "sentences": SENTENCES}
    command = ["node", "run.js"]  # within the timeout, even for a word of 6,000 bytes
    sent = json.dumps({**given, "most": LENGTH})
    ran = subprocess.run(command, cwd=scripts, input=sent, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    expected = [tokenizer.encode(*row) for row in rows]
    for row, js, py in zip(rows, found["encoded"], expected, strict=True):
        order = _order(tokenizer, row)
        assert (order(js["ids"]), js["types"]) == (order(py.ids), py.type_ids), row
    for text, places in zip(texts, found["places"], strict=True):
        assert [tuple(place) for place in places] == words.split(text), text
    for sentence, windows in zip(SENTENCES, found["windows"], strict=True):
        cut = words.windows([sentence], LENGTH)
        order = _order(tokenizer, sentence)
        assert [(order(window["ids"]), window["words"], window["positions"]) for window in windows] == [
            (order(window.ids), window.words.tolist(), window.positions.tolist()) for window in cut
        ], sentence
    assert found["continuing"] == words.continues.nonzero()[0].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_javascript_agrees_for_each_kind_of_tokenizer(kind: str, scripts: Path) -> None:
    _compare(KINDS[kind](), scripts, TEXTS)


@pytest.mark.process
@pytest.mark.parametrize("name", ["minilm-sst2", "me5-small-en-id"])
def test_javascript_agrees_on_real_text(name: str, scripts: Path, shared: Path) -> None:
    lines = (shared / "data" / "sst2" / "train.tsv").read_text().splitlines()[:2000]
    lines += (shared / "data" / "indonlu" / "terma" / "train.conll").read_text().splitlines()[:1000]
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / name).backend_tokenizer
    _compare(tokenizer, scripts, [*lines, *ODD])


def _with(**changes: Any) -> Tokenizer:
    tokenizer = _wordpiece()
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return tokenizer


def _with_token(token: AddedToken) -> Tokenizer:
    tokenizer = _wordpiece()
    tokenizer.add_tokens([token])
    return tokenizer


def _fused() -> Tokenizer:
    model = models.BPE(unk_token="[UNK]", fuse_unk=True)
    return _made(model, None, pre_tokenizers.ByteLevel(), BYTES)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: _with(pre_tokenizer=pre_tokenizers.Digits()), "the pre_tokenizer Digits"),
        (lambda: _with(normalizer=normalizers.Sequence([normalizers.Prepend("x")])), "the normalizer Prepend"),
        (lambda: _with(post_processor=None), "the post_processor None"),
        (lambda: _with(post_processor=processors.ByteLevel()), "the post_processor ByteLevel"),
        (_fused, "the BPE's fuse_unk"),
        (lambda: _with_token(AddedToken("foo", single_word=True)), "the rules of the added token foo"),
        (lambda: _with_token(AddedToken("FOO", normalized=True)), "the rules of the added token FOO"),
    ],
)
def test_write_web_refuses_unsupported_tokenizer_parts(
    make: Callable[[], Tokenizer], named: str, exported: dict[tuple[str, bool, bool], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported["cnn", False, True], tmp_path / "films"))
    make().save(str(folder / TOKENIZER))
    about = json.loads((folder / MANIFEST).read_text())
    about["sha256"][TOKENIZER] = sha256((folder / TOKENIZER).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(about))
    with pytest.raises(ExportError, match=f"{named} would differ"):
        write_web(folder, folder.name)
    assert not (folder / "web").exists()
