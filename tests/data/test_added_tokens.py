"""Added tokens of a teacher's tokenizer reach its students."""

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from conftest import STUDENT_ARGUMENTS, toy_rows, write_jsonl
from datasets import Dataset
from hypothesis import given, settings
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    set_seed,
)

from eyas import (
    DistillSettings,
    Predictor,
    StudentSettings,
    Teacher,
    create_student,
    distill,
    export_model,
    load_data,
)
from eyas.data.subwords import teacher_rows
from eyas.data.tokenization import (
    added_tokens,
    cut_tokenizer,
    token_names,
    word_counts,
    word_tokenizer,
    wrap_tokenizer,
)
from eyas.runtime.tokens import TextEncoder, find_alike

NAMES = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
PLAIN = [row["text"] for row in toy_rows(60)] + ["A Good film, x ray and café", "İstanbul x 3.14 don't", "日本語 ok"]
CONTENTS = [
    "😂",
    "👍🏽",
    "@USER",
    "[URL]",
    "</s>",
    "<mask>",
    "New York",
    "x",
    "good",
    "Film",
    "  ",
    "##ing",
    "é",
    "<|e|>",
]


def _bytes(prefixed: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefixed)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=NAMES, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator(PLAIN, trainer)
    return tokenizer


def _wordpiece(lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=NAMES, show_progress=False)
    tokenizer.train_from_iterator(PLAIN, trainer)
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=NAMES, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(PLAIN, trainer)
    return tokenizer


KINDS = {
    "WordPiece, uncased": _wordpiece(True).to_str(),
    "WordPiece, cased": _wordpiece(False).to_str(),
    "byte-level BPE": _bytes(False).to_str(),
    "byte-level BPE with a first space": _bytes(True).to_str(),
    "Unigram": _unigram().to_str(),
}


def teacher_of(kind: str, tokens: list[AddedToken]) -> Any:
    tokenizer = Tokenizer.from_str(KINDS[kind])
    tokenizer.add_tokens(tokens)
    roles = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), NAMES, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


flags = st.fixed_dictionaries(
    {name: st.booleans() for name in ("special", "lstrip", "rstrip", "single_word", "normalized")}
)
tokens = st.lists(st.builds(lambda content, rules: AddedToken(content, **rules), st.sampled_from(CONTENTS), flags))
parts = st.sampled_from([*CONTENTS, *(word for text in PLAIN[-8:] for word in text.split()), " ", "  ", "@user", ". "])
texts = st.lists(st.lists(parts, max_size=8).map("".join), min_size=1, max_size=6)


def _read(tokenizer: Any, text: str) -> list[str]:
    return [{"<unk>": "[UNK]"}.get(token, token) for token in tokenizer.encode(text, add_special_tokens=False).tokens]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, derandomize=True)
@given(tokens=tokens, texts=texts)
def test_student_reads_added_tokens_like_its_teacher(kind: str, tokens: list[AddedToken], texts: list[str]) -> None:
    teacher = teacher_of(kind, tokens)
    expected = [_read(teacher.backend_tokenizer, text) for text in texts]
    cut = cut_tokenizer(teacher, Dataset.from_dict({"text": texts}), 64)
    assert [_read(cut, text) for text in texts] == expected


EMOJI = [AddedToken("😂"), AddedToken("@USER", special=True), AddedToken("[URL]", single_word=True, lstrip=True)]
TEXTS = ["so good😂", "@USER bad", "see [URL]", "a quiet film"]


@pytest.mark.parametrize("kind", KINDS)
def test_saved_student_tokenizer_keeps_added_tokens(kind: str, tmp_path: Path) -> None:
    cut = cut_tokenizer(teacher_of(kind, EMOJI), Dataset.from_dict({"text": TEXTS}), 64)
    wrap_tokenizer(cut, 64, pair=False).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, "see[URL] 😂😂@USER"]:
        assert loaded(text)["input_ids"] == cut.encode(text).ids
    alike = find_alike(tmp_path / "tokenizer.json", 64)
    for text in [*TEXTS, "see[URL] 😂😂@USER"] if alike else []:
        assert TextEncoder(tmp_path / "tokenizer.json", 64, **alike)(text) == cut.encode(text).ids


def test_word_level_student_reads_added_tokens() -> None:
    teacher = teacher_of("WordPiece, uncased", EMOJI)
    every = word_tokenizer([], lowercase=True, added=added_tokens(teacher))
    counts = word_counts(Dataset.from_dict({"text": [*TEXTS, "GOOD 😂 [URL]s"]}), every)
    assert (counts["good"], counts["😂"], counts["@USER"], counts["[URL]"], counts["url"]) == (2, 2, 1, 1, 1)
    tokenizer = word_tokenizer(["so", "good"], lowercase=True, added=added_tokens(teacher, counts))
    assert tokenizer.encode("So good😂 @USER").tokens == ["[CLS]", "so", "good", "😂", "@USER"]


def test_few_added_tokens_are_kept_in_small_vocabulary() -> None:
    teacher = teacher_of("WordPiece, uncased", [AddedToken(f"<{number}>") for number in range(50)])
    rows = [f"good <{number}>" for number in range(50)] + ["<7> <7>"]
    cut = cut_tokenizer(teacher, Dataset.from_dict({"text": rows}), 64, vocab_size=20)
    assert cut.get_vocab_size() <= 20
    assert "<7>" in cut.get_vocab()


@pytest.mark.process
@pytest.mark.parametrize("embeddings", ["teacher", "file"])
def test_student_learns_labels_that_only_an_emoji_shows(embeddings: str, tiny_bert: Path, tmp_path: Path) -> None:
    teacher = _teacher_with(["😂", "😡"], tiny_bert, tmp_path / "teacher")
    names = {"😂": "happy", "😡": "angry"}
    rows = [{"text": row["text"] + mark, "label": names[mark]} for row in toy_rows(120) for mark in names]
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    words = tmp_path / "words.txt"
    words.write_text("film 0.1 0.2 -0.3 0.4\nplot 0.3 -0.1 0.2 0.1\ngreat 0.5 0.1 0.1 -0.2\n")
    student = StudentSettings("static", embeddings=str(words) if embeddings == "file" else embeddings)
    settings = DistillSettings(
        student=student, recipe="hard-labels", arguments={**STUDENT_ARGUMENTS, "learning_rate": 1e-2}
    )
    folder = distill(teacher, data, tmp_path / "student", settings=settings).path
    export_model(folder, tmp_path / "shipped")
    answers = Predictor(tmp_path / "shipped")(["it was fine😂", "it was fine😡", "😡", "😂 a film"])
    assert [answer["label"] for answer in answers] == ["happy", "angry", "angry", "happy"]


def _teacher_with(tokens: list[str], source: Path, folder: Path) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(tokens)
    set_seed(0)
    config = AutoConfig.from_pretrained(source, id2label={0: "angry", 1: "happy"}, label2id={"angry": 0, "happy": 1})
    model = AutoModelForSequenceClassification.from_config(config)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_tagger_reads_words_like_its_teacher() -> None:
    """An added token of two words is read in a text, never in a list of words."""
    teacher = teacher_of("WordPiece, uncased", [AddedToken("new york")])
    dataset = Dataset.from_dict({"text": ["a new york film"], "tokens": [["a", "new", "york", "film"]]})
    cut = cut_tokenizer(teacher, dataset, 64, words=True)
    for word in ("new", "york"):
        before = teacher.backend_tokenizer.encode(word, add_special_tokens=False).tokens
        assert cut.encode(word, add_special_tokens=False).tokens == before


def test_added_token_starts_from_its_own_vector() -> None:
    """`Film` of an uncased tokenizer is not the word `film`."""
    teacher = teacher_of("WordPiece, uncased", [AddedToken("Film", normalized=False)])
    cut = cut_tokenizer(teacher, Dataset.from_dict({"text": ["a Film", "a film"]}), 64)
    rows = dict(zip(token_names(cut), teacher_rows(cut, teacher), strict=True))
    assert rows["Film"] == [teacher.added_tokens_encoder["Film"]]


def test_pretrained_student_gets_the_tokens_that_its_teacher_added(
    students: dict[tuple[str, bool], Path], tiny_bert: Path, tmp_path: Path
) -> None:
    teacher = Teacher(_teacher_with(["😂", "😡"], tiny_bert, tmp_path / "teacher"))
    data = load_data({"text": [f"film {n} {'😂😡'[n % 2]}" for n in range(40)], "label": [n % 2 for n in range(40)]})
    settings = StudentSettings("cnn", init=str(students["cnn", False]))
    model, tokenizer = create_student(settings, teacher, data["train"])
    assert tokenizer.tokenize("film😂 😡") == ["film", "😂", "😡"]
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)


def test_tokie_is_not_used_with_tokens_that_need_a_whole_word(tmp_path: Path) -> None:
    """Its words have other borders."""
    teacher = teacher_of("WordPiece, uncased", [AddedToken("[url]", single_word=True)])
    cut = cut_tokenizer(teacher, Dataset.from_dict({"text": ["see [url]"]}), 64)
    cut.save(str(tmp_path / "tokenizer.json"))
    assert find_alike(tmp_path / "tokenizer.json", 64) is None
