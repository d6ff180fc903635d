"""Student tokenizers: the teacher's, reduced to the subwords that occur, or one token per word."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from eyas.errors import ModelError
from eyas.runtime.alignment import WordEncoder, splitting_steps
from eyas.text import BETWEEN_FIELDS, IS_VALUE, clean_texts

PAD, UNKNOWN, START, SEPARATOR = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
TEXTS_PER_BATCH = 10_000
# Of rows of fields: the default size of the vocabulary, and the number of rows in which a value must occur.
MOST_VALUES, FEWEST_ROWS = 1_000_000, 2


def batches_of_texts(dataset: Dataset, size: int = TEXTS_PER_BATCH) -> Iterator[dict[str, Any]]:
    """Column batches of `dataset`, `size` rows each."""
    for start in range(0, len(dataset), size):
        yield dataset[start : start + size]


def cut_tokenizer(
    teacher: Any,
    dataset: Dataset,
    max_length: int,
    vocab_size: int | None = None,
    words: bool = False,
    same_places: bool = False,
    whole: bool = False,
) -> Tokenizer:
    """The teacher's tokenizer with only the subwords that occur in `dataset`.

    Single characters are kept, so that any word can still be spelled out, and so are the teacher's added tokens that
    occur, with their rules. `dataset` is segmented as by the teacher, unless `vocab_size` reduces the vocabulary
    further, to the most frequent subwords.

    Args:
        teacher: a fast Hugging Face tokenizer (WordPiece, BPE or Unigram).
        vocab_size: the maximum number of tokens, including special tokens. Added tokens get at most half of it.
        whole: keep the other subwords, too.
        same_places: add special tokens where the teacher does, so that the positions of both correspond.
        words: put a space before the first word, as before the others, to separate words (byte-level tokenizers).

    Raises:
        ModelError: the tokenizer is slow, or of an unsupported kind.
    """
    backend = getattr(teacher, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"The teacher's tokenizer is a {type(teacher).__name__} without a tokenizer.json, expected a fast "
            "tokenizer. Convert it with AutoTokenizer and save it again."
        )
    counts = _token_counts(backend, dataset, max_length, teacher.unk_token)
    added = added_tokens(teacher, counts, vocab_size)
    state = json.loads(backend.to_str())
    kind = state["model"]["type"]
    if kind not in _CUTS:
        raise ModelError(
            f"A {kind} tokenizer cannot be reduced; use embeddings=FILE (--embeddings FILE) for a word-level student."
        )
    pieces = {piece if isinstance(piece, str) else piece[0] for piece in state["model"]["vocab"]}
    counts += Counter(dict.fromkeys(pieces, 1)) if whole else Counter()
    never = {token.content for token in added_tokens(teacher)} - {piece for piece in pieces if counts[piece]}
    outside = {teacher.unk_token, *SPECIAL_TOKENS, *never}
    state["model"] = _CUTS[kind](state["model"], counts, outside, vocab_size and vocab_size - len(added))
    state["added_tokens"] = []
    state["truncation"] = state["padding"] = state["post_processor"] = None
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer = _with_template(tokenizer, added)
    tokenizer = _with_places_of(tokenizer, teacher) if same_places else tokenizer
    return separating_words(tokenizer) if words else tokenizer


def separating_words(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with a space before the first word, as before the others, if it separates words by it."""
    state = json.loads(tokenizer.to_str())
    steps = [step for step in splitting_steps(state) if step.get("type") == "ByteLevel"]
    if not steps:
        return tokenizer
    for step in steps:
        step["add_prefix_space"] = True
    separating = Tokenizer.from_str(json.dumps(state))
    trimmed = processors.ByteLevel(trim_offsets=True)  # a word's offsets exclude the space before it
    separating.post_processor = processors.Sequence([trimmed, separating.post_processor])
    return separating


def added_tokens(teacher: Any, counts: Counter[str] | None = None, vocab_size: int | None = None) -> list[AddedToken]:
    """The added tokens of a Hugging Face tokenizer in the order of their ids, except those that every student has.

    Args:
        counts: keep the tokens that occur.
        vocab_size: keep the most frequent ones, at most half of it.
    """
    decoder = teacher.added_tokens_decoder
    found = [decoder[index] for index in sorted(decoder) if decoder[index].content not in SPECIAL_TOKENS]
    if counts is None:
        return found
    found = [token for token in found if counts[token.content]]
    most = sorted(found, key=lambda token: -counts[token.content])[: vocab_size and vocab_size // 2]
    return [token for token in found if token in most]


def word_tokenizer(words: Sequence[str], lowercase: bool, added: Sequence[AddedToken] = ()) -> Tokenizer:
    """One token per word; words are runs of letters and digits, and each other symbol is a token.

    Args:
        added: tokens with rules of their own, such as a teacher's mask token or emoji; they come last.
    """
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*SPECIAL_TOKENS, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase() if lowercase else None
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _with_template(tokenizer, added)


def field_tokenizer(dataset: Dataset, fields: Sequence[str], vocab_size: int | None = None) -> Tokenizer:
    """One token for each field of a row: its value, if the value is frequent enough, or [UNK].

    After the special tokens come the fields without a value, in their order: what a model reads an [UNK] there as.
    Memory stays flat: of more than four times as many values, the rarest so far are forgotten.

    Args:
        dataset: rows as from `load_data`.
        vocab_size: maximum number of tokens, by default `MOST_VALUES`; the most frequent values are kept.
    """
    first = dict.fromkeys([*SPECIAL_TOKENS, *(f"{name}{IS_VALUE}" for name in fields)])
    room = max((vocab_size or MOST_VALUES) - len(first), 1)
    counts: Counter[str] = Counter()
    for batch in batches_of_texts(dataset):
        counts.update(value for text in batch["text"] for value in text.split(BETWEEN_FIELDS))
        if len(counts) > 4 * room:
            counts = Counter(dict(counts.most_common(2 * room)))
    frequent = [value for value, count in counts.most_common() if count >= FEWEST_ROWS and value not in first][:room]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate([*first, *frequent])}, UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(BETWEEN_FIELDS, "removed")
    return _with_template(tokenizer)


def word_counts(dataset: Dataset, tokenizer: Tokenizer) -> Counter[str]:
    """How often each word and each added token of `dataset` occurs, for a tokenizer as from `word_tokenizer`."""
    added = {index: token.content for index, token in tokenizer.get_added_tokens_decoder().items()}
    unknown = tokenizer.token_to_id(UNKNOWN)
    words: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for batch in batches_of_texts(dataset):
        for column in ("text", "text_pair"):
            texts = batch.get(column, [])
            for text, encoding in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
                for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
                    if index in added and index != unknown:
                        counts[added[index]] += 1
                    else:
                        words[text[start:end]] += 1
    for word, count in words.items():
        counts[tokenizer.normalizer.normalize_str(word) if tokenizer.normalizer else word] += count
    return counts


def wrap_tokenizer(tokenizer: Tokenizer, max_length: int, pair: bool) -> PreTrainedTokenizerFast:
    """Wrap as a Hugging Face tokenizer. Students read `input_ids`, and for pairs `token_type_ids`."""
    names = ["input_ids", "token_type_ids", "attention_mask"] if pair else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=START,
        sep_token=SEPARATOR,
        padding_side="right",
        model_max_length=max_length * (2 if pair else 1),
        model_input_names=names,
    )


def encode(tokenizer: Any, batch: dict[str, Any], max_length: int) -> list[Any]:
    """Encode a column batch like the student's ONNX runtime: clean and shorten the texts, never truncate tokens."""
    texts = clean_texts(batch["text"], max_length)
    if "text_pair" not in batch:
        return list(tokenizer.encode_batch_fast(texts))
    return list(tokenizer.encode_batch_fast(list(zip(texts, clean_texts(batch["text_pair"], max_length), strict=True))))


def token_names(tokenizer: Tokenizer) -> list[str]:
    """The token of each id; added tokens as they were added, not normalized."""
    names = [tokenizer.id_to_token(index) or "" for index in range(tokenizer.get_vocab_size())]
    for index, token in tokenizer.get_added_tokens_decoder().items():
        names[index] = token.content
    return names


def token_frequencies(tokenizer: Tokenizer, dataset: Dataset, max_length: int) -> np.ndarray:
    """[vocabulary] float64: how often each token occurs in `dataset`."""
    counts = np.zeros(tokenizer.get_vocab_size(), dtype=np.float64)
    for batch in batches_of_texts(dataset):
        ids = [i for encoding in encode(tokenizer, batch, max_length) for i in encoding.ids]
        counts += np.bincount(ids, minlength=len(counts))
    return counts


def _token_counts(backend: Tokenizer, dataset: Dataset, max_length: int, unknown: str) -> Counter[str]:
    """How often each token occurs; in sentences of words, as taggers read them."""
    plain = Tokenizer.from_str(json.dumps({**json.loads(backend.to_str()), "post_processor": None}))
    plain.no_truncation()
    plain.no_padding()
    frequencies = token_frequencies(plain, dataset, max_length)
    if "tokens" in dataset.column_names:
        encoder = WordEncoder(plain, unknown)
        for batch in batches_of_texts(dataset):
            for pieces in encoder.pieces(batch["tokens"]):
                frequencies += np.bincount(pieces.ids, minlength=len(frequencies))
    names = {index: token for token, index in plain.get_vocab().items()}
    return Counter({names[int(i)]: int(frequencies[i]) for i in np.flatnonzero(frequencies)})


def _with_template(tokenizer: Tokenizer, added: Sequence[AddedToken] = ()) -> Tokenizer:
    # Every text starts with a special token, so that even an empty text has one token.
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.add_tokens(list(added))
    start, separator = tokenizer.token_to_id(START), tokenizer.token_to_id(SEPARATOR)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A",
        pair=f"{START}:0 $A:0 {SEPARATOR}:1 $B:1",
        special_tokens=[(START, start), (SEPARATOR, separator)],
    )
    return tokenizer


def _with_places_of(tokenizer: Tokenizer, teacher: Any) -> Tokenizer:
    """Add special tokens where the teacher does, under the student's names."""
    names = student_names(teacher)
    texts = {"single": (["a"],), "pair": (["a"], ["a"])}
    templates = {}
    for kind, sides in texts.items():
        encoding = teacher(*sides, is_split_into_words=False)
        ids, types = encoding["input_ids"][0], encoding.encodings[0].type_ids
        parts: list[str] = []
        for token, kind_of_text, side in zip(ids, types, encoding.sequence_ids(0), strict=True):
            name = f"{'$A' if side == 0 else '$B'}" if side is not None else names[teacher.convert_ids_to_tokens(token)]
            part = f"{name}:{kind_of_text}"
            if not parts or parts[-1] != part or side is None:
                parts.append(part)
        templates[kind] = " ".join(parts)
    special = [(name, tokenizer.token_to_id(name)) for name in (START, SEPARATOR)]
    tokenizer.post_processor = processors.TemplateProcessing(**templates, special_tokens=special)
    return tokenizer


def marks_both_ends(teacher: Any) -> bool:
    """Whether the tokenizer adds one special token before and one after a text, and pads on the right."""
    marks = teacher("a", return_special_tokens_mask=True)["special_tokens_mask"]
    return sum(marks) == 2 and bool(marks[0] and marks[-1]) and teacher.padding_side == "right"


def student_names(teacher: Any) -> dict[str, str]:
    """The teacher's special tokens -> their names in a student."""
    pairs = {
        START: (teacher.cls_token, teacher.bos_token),
        SEPARATOR: (teacher.sep_token, teacher.eos_token),
        PAD: (teacher.pad_token,),
        UNKNOWN: (teacher.unk_token,),
    }
    return {
        teacher_name: student_name
        for student_name, several in pairs.items()
        for teacher_name in several
        if teacher_name
    }


# --- cutting: (model as in tokenizer.json, counts, tokens outside the model, size) -> model --------------


def _kept(alphabet: Iterable[str], counts: Counter[str], outside: set[str], size: int | None) -> list[str]:
    """Special tokens, the alphabet, then subwords by frequency; at most `size` in total."""
    ranked = [token for token, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    kept = dict.fromkeys([*SPECIAL_TOKENS, *alphabet, *(t for t in ranked if t not in outside)])
    if size is not None and size < len(kept):
        return list(kept)[: max(size, len(SPECIAL_TOKENS) + 1)]
    return list(kept)


def _cut_wordpiece(model: Any, counts: Counter[str], outside: set[str], size: int | None) -> Any:
    prefix = model["continuing_subword_prefix"]
    used = {c for token in counts if token not in outside for c in token.removeprefix(prefix)}
    alphabet = [t for t in model["vocab"] if t.removeprefix(prefix) in used and len(t.removeprefix(prefix)) == 1]
    kept = _kept(alphabet, counts, outside, size)
    return {**model, "unk_token": UNKNOWN, "vocab": {token: index for index, token in enumerate(kept)}}


def _cut_unigram(model: Any, counts: Counter[str], outside: set[str], size: int | None) -> Any:
    scores = dict(model["vocab"])
    used = {c for token in counts if token not in outside for c in token}
    kept = _kept([t for t in scores if len(t) == 1 and t in used], counts, outside, size)
    return {**model, "unk_id": kept.index(UNKNOWN), "vocab": [(t, scores.get(t, 0.0)) for t in kept]}


def _cut_bpe(model: Any, counts: Counter[str], outside: set[str], size: int | None) -> Any:
    merges = [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    parts: dict[str, list[tuple[str, ...]]] = {}
    for merge in merges:
        parts.setdefault("".join(merge), []).append(merge)
    made = set(parts)
    alphabet = [t for t in model["vocab"] if t not in made and t not in outside]
    kept: dict[str, None] = {}
    for token in _kept(alphabet, counts, outside, None):
        needed = _with_parts(token, parts, kept)
        if size is None or len(kept) + len(needed) <= max(size, len(SPECIAL_TOKENS) + 1):
            kept |= needed
    merges = [merge for merge in merges if all(t in kept for t in (*merge, "".join(merge)))]
    return {
        **model,
        "unk_token": UNKNOWN,
        "vocab": {token: index for index, token in enumerate(kept)},
        "merges": [list(merge) for merge in merges],
    }


def _with_parts(token: str, parts: dict[str, list[tuple[str, ...]]], kept: dict[str, None]) -> dict[str, None]:
    """A subword and the parts it is merged from, without those already kept."""
    needed: dict[str, None] = {}
    waiting = [token]
    while waiting:
        piece = waiting.pop()
        if piece not in kept and piece not in needed:
            needed[piece] = None
            waiting += [part for merge in parts.get(piece, ()) for part in merge]
    return needed


_CUTS = {"WordPiece": _cut_wordpiece, "Unigram": _cut_unigram, "BPE": _cut_bpe}
