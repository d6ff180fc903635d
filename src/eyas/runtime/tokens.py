"""Token ids of one text. tokie, several times as fast as `tokenizers`, is used for texts on which the two agree.

For a student that answers in 20 microseconds, the tokenizer is most of the cost.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models

from eyas.runtime.alignment import special_ids
from eyas.text import clean_texts

# Texts on which both agree, the widest set first: scripts, then symbols, then emoji. Characters that the Unicode tables
# of `tokenizers` lack are left out. From 10,000 bytes on, tokie splits a text and starts threads.
READ_ALIKE = {
    "common": re.compile(
        "[\t\n\r -~\xa0-\u0377\u0384-\u038a\u038c\u038e-\u03a1\u03a3-\u052f\u05d0-\u05ea\u0600-\u061c\u061e-\u06ff"
        "\u0900-\u097f\u0e01-\u0e3a\u0e3f-\u0e5b\u1e00-\u1eff\u3041-\u3096\u3099-\u30ff\u3400-\u9fff\uac00-\ud7a3"
        "\u2000-\u2064\u20a0-\u20c0\u2100-\u218b\u2190-\u2426\u2460-\u2b73\u3000-\u303f\ufb00-\ufb06\ufe00-\ufe0f"
        "\ufeff\uff01-\uffbe\U0001f1e6-\U0001f1ff\U0001f300-\U0001f6d7\U0001f900-\U0001fa53]{,2499}"
    ),
    "ascii": re.compile("[\t\n\r -~]{,9999}"),
}
# Texts on which tokenizers differ, one per line.
ODD_TEXTS = """
don't U.S.A. 3.14 a_b $5 (50%) ... HELLO hello I'm 's
!"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ##ing [unk] [CLS
café cafe\u0301 naïve Ångström straße İstanbul ı ǅ ﬁn Tiếng Việt Σίσυφος Ёлка й
שלום مرحبا، नमस्ते สวัสดี 北京，a中b東京タワー\u3000ＡＢ ｶ 㐀鿿 한국어
“quoted” ‘so’ – — … «» ½² ≠ ∞ → €5 a\xa0b\u2003c\u200bd\u200de\xadf\ufeffg
👍🏽 ❤️ 🇩🇪 👩\u200d👩\u200d👧ok
"""  # noqa: RUF001


def is_cut(encoding: Any, max_length: int) -> bool:
    """Whether a text, or one of a pair, has more tokens than a model reads: truncated already, or yet to be."""
    if encoding.overflowing:
        return True
    if len(encoding.ids) <= max_length:
        return False
    lengths = Counter(side for side, seen in zip(encoding.type_ids, encoding.attention_mask, strict=True) if seen)
    return max(lengths.values(), default=0) > max_length


class TextEncoder:
    """Turns a text into token ids, special tokens included. Its arguments come from `find_alike`.

    `cut` counts the texts that had more tokens than `max_length`.

    Args:
        path: tokenizer.json.
        max_length: maximum number of tokens.
        texts: key of `READ_ALIKE`: the texts for tokie; `tokenizers` reads the others.
        before, after: ids of the special tokens around a text.
    """

    def __init__(self, path: Path, max_length: int, texts: str, before: list[int], after: list[int]) -> None:
        self.max_length, self.before, self.after = max_length, before, after
        self._is_alike = READ_ALIKE[texts].fullmatch
        self._tokie = _read(path)
        self.cut = 0
        self._room = max_length - len(before) - len(after)
        self._file = path.read_bytes()  # read now, because a server's folder may change

    def __call__(self, text: str) -> list[int]:
        if self._tokie is None or not self._is_alike(text):
            encoding = self.tokenizer.encode(text)
            self.cut += is_cut(encoding, self.max_length)
            return list(encoding.ids)
        ids = self._tokie.encode(text, add_special_tokens=False).ids
        self.cut += len(ids) > self._room
        return [*self.before, *ids[: self._room], *self.after]

    def get_vocab_size(self) -> int:
        return int(self.tokenizer.get_vocab_size() if self._tokie is None else self._tokie.vocab_size)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_buffer(self._file)
        tokenizer.enable_truncation(self.max_length)
        return tokenizer


def find_alike(path: Path, max_length: int, texts: Iterable[str] = ()) -> dict[str, Any] | None:
    """Arguments for a `TextEncoder` that agrees with `tokenizers`, on the widest set of `READ_ALIKE`; None if none.

    Tested on `texts` and on unusual ones, for WordPiece only: docs/decisions/0012-tokie.md.
    """
    tokenizer = Tokenizer.from_file(str(path))
    if not _is_plain(tokenizer) or _read(path) is None:
        return None
    if any(token.single_word for token in tokenizer.get_added_tokens_decoder().values()):
        return None  # tokie has other borders of words
    longest = tokenizer.model.max_input_chars_per_word
    marks = [text for token in tokenizer.get_added_tokens_decoder().values() for text in _around(token.content)]
    odd = [*ODD_TEXTS.splitlines(), " ", "\t's", " a\r\n\tb  c ", "good " * 499, *marks]
    odd += [sign * count for sign in "aé中" for count in (longest, longest + 1, 2499)]
    tried = clean_texts([*odd, *texts], max_length)
    before, after = special_ids(tokenizer)
    for kind, pattern in READ_ALIKE.items():
        found: dict[str, Any] = {"texts": kind, "before": before, "after": after}
        encoder = TextEncoder(path, max_length, **found)
        if all(encoder(text) == encoder.tokenizer.encode(text).ids for text in tried if pattern.fullmatch(text)):
            return found
    return None


def _around(name: str) -> list[str]:
    """Texts with an added token, in which its rules (spaces, whole words, normalization) would show."""
    cases = dict.fromkeys((name, name.lower(), name.upper(), name.swapcase()))
    places = ("{}", "a{} b", "a {}b", "a  {}  b", "{0}{0}", "({})", "1{}2")
    return [place.format(case) for case in cases for place in places]


def _is_plain(tokenizer: Tokenizer) -> bool:
    """Whether all type ids are 0, and tokie reads every word as `tokenizers` does with this WordPiece vocabulary.

    tokie drops the end of a word if a subword starts with it, but none equals it: of "bn" with ##ness but no ##n.
    """
    if not isinstance(tokenizer.model, models.WordPiece) or any(tokenizer.encode("a").type_ids):
        return False
    mark = tokenizer.model.continuing_subword_prefix
    ends = {piece.removeprefix(mark) for piece in tokenizer.get_vocab() if piece.startswith(mark)}
    return {end[:1] for end in ends} <= ends


def _read(path: Path) -> Any:
    """A tokie tokenizer; None if tokie is not installed (some machines have no wheels) or cannot read the file."""
    try:
        import tokie
    except ImportError:
        return None
    try:
        return tokie.Tokenizer.from_json(str(path))
    except tokie.TokieError:
        return None
