"""The tokens of one tokenizer in those of another, whatever mark they have for the start or the rest of a word."""

import json
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers

from eyas.data.tokenization import SPECIAL_TOKENS, token_names

BYTES, SPACE, WHOLE = "\u0120", "\u2581", ""  # the marks of byte-level BPE, SentencePiece, and words


def teacher_rows(tokenizer: Tokenizer, teacher: Any) -> list[list[int]]:
    """For each token of a student, its id in the teacher's vocabulary, or the ids of the subwords that spell it there.

    A token that starts a word is spelled as the teacher spells words, one that continues a word as a continuation.
    Empty for the special tokens of a student, and for the mask token.

    Args:
        tokenizer: the student's.
        teacher: a Hugging Face tokenizer.
    """
    vocabulary, backend = teacher.get_vocab(), getattr(teacher, "backend_tokenizer", None)
    without = {*SPECIAL_TOKENS, teacher.mask_token}
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    mark, their_mark = _mark(tokenizer), _mark(backend)
    rows: list[list[int]] = []
    for token in token_names(tokenizer):
        if token in without:
            rows.append([])
        elif token in vocabulary and (mark == their_mark or token in added):
            rows.append([vocabulary[token]])
        else:
            text, starts = (token, True) if token in added else _read(token, mark)
            rows.append(_spelled(text, starts, teacher, their_mark, vocabulary))
    return rows


def _mark(tokenizer: Tokenizer | None) -> str:
    """What marks its tokens: the prefix of WordPiece's continuations, or `BYTES` or `SPACE` where a word starts."""
    if tokenizer is None:
        return WHOLE
    state = json.loads(tokenizer.to_str())
    if state["model"]["type"] == "WordPiece":
        return str(state["model"]["continuing_subword_prefix"])
    steps = json.dumps([state[part] for part in ("normalizer", "pre_tokenizer", "decoder")], ensure_ascii=False)
    return BYTES if '"ByteLevel"' in steps else SPACE if '"Metaspace"' in steps or f'"{SPACE}"' in steps else WHOLE


def _read(token: str, mark: str) -> tuple[str, bool]:
    """The text of a token, and whether it starts a word."""
    if mark == BYTES:
        text = str(decoders.ByteLevel().decode([token]))
        return text.strip(), text.startswith(" ")
    if mark in (SPACE, WHOLE):
        return token.removeprefix(mark), token.startswith(mark)
    return token.removeprefix(mark), not token.startswith(mark)


def _spelled(text: str, starts: bool, teacher: Any, mark: str, vocabulary: dict[str, int]) -> list[int]:
    if mark == WHOLE or (starts and mark not in (BYTES, SPACE)):
        return list(teacher(text, add_special_tokens=False)["input_ids"])
    backend = teacher.backend_tokenizer
    text = backend.normalizer.normalize_str(text).strip(f" {SPACE}") if backend.normalizer else text
    if mark == SPACE:
        return [token.id for token in backend.model.tokenize((SPACE if starts else "") + text)]
    if mark == BYTES:
        words = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str((" " if starts else "") + text)
        return [token.id for word, _ in words for token in backend.model.tokenize(word)]
    return _continued(text, vocabulary, mark)


def _continued(text: str, vocabulary: dict[str, int], mark: str) -> list[int]:
    """The longest tokens that spell the rest of a word, from the left, as WordPiece does; empty if there are none."""
    ids: list[int] = []
    while text:
        length = next((n for n in range(len(text), 0, -1) if mark + text[:n] in vocabulary), 0)
        if not length:
            return []
        ids.append(vocabulary[mark + text[:length]])
        text = text[length:]
    return ids
