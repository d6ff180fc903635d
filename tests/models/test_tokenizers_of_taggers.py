"""Taggers whose teachers have other tokenizers than BERT's: byte-level, marked at the ends of words, Unigram."""

from pathlib import Path

import numpy as np
import pytest
from conftest import STUDENT_ARGUMENTS, TEACHER_ARGUMENTS
from tagging import sentences
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, pipeline, set_seed

from eyas import (
    Classifier,
    DistillSettings,
    FinetuneSettings,
    Predictor,
    StudentSettings,
    Teacher,
    evaluate,
    export_model,
    load_data,
)
from eyas.training.distill import distill
from eyas.training.finetune import finetune

SPECIAL = ["<s>", "</s>", "<pad>", "<unk>"]
TEXTS = [" ".join(word for word, _ in sentence) for sentence in sentences(300)]
STUDENTS = {
    "byte-level": StudentSettings("cnn", embedding_size=16, hidden_size=48),
    "ends": StudentSettings("bilstm", embedding_size=16, hidden_size=24, crf=True),
    "unigram": StudentSettings("cnn-lstm", embedding_size=16, hidden_size=32),
}


def _tokenizer(kind: str) -> Tokenizer:
    if kind == "byte-level":  # RoBERTa's: the space before a word marks it
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        )
    elif kind == "ends":  # HerBERT's: no mark tells whether a piece starts a word
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.BpeTrainer(
            vocab_size=150, special_tokens=SPECIAL, end_of_word_suffix="</w>", show_progress=False
        )
    else:  # XLM-R's
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=150, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(TEXTS, trainer)
    ids = [(name, tokenizer.token_to_id(name)) for name in SPECIAL[:2]]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=ids
    )
    return tokenizer


@pytest.fixture(scope="module", params=STUDENTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def student(kind: str, toy_tags: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, data = tmp_path_factory.mktemp(kind), load_data(toy_tags)
    names = dict(zip(("cls_token", "sep_token", "pad_token", "unk_token"), SPECIAL, strict=True))
    inputs = ["input_ids", "attention_mask"]
    wrapped = PreTrainedTokenizerFast(tokenizer_object=_tokenizer(kind), model_input_names=inputs, **names)
    wrapped.save_pretrained(root / "encoder")
    set_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    arguments = {**TEACHER_ARGUMENTS, "num_train_epochs": 20}
    config = BertConfig(vocab_size=len(wrapped), max_position_embeddings=64, pad_token_id=2, **sizes)
    BertModel(config).save_pretrained(root / "encoder")
    teacher = finetune(root / "encoder", data, root / "teacher", FinetuneSettings(arguments, max_length=64))
    settings = DistillSettings(STUDENTS[kind], arguments={**STUDENT_ARGUMENTS, "num_train_epochs": 30})
    return distill(Teacher(teacher, max_length=64), data, root / "student", settings)


def test_it_learns_what_its_teacher_knows(student: Path, toy_tags: Path) -> None:
    test = load_data(toy_tags)["test"]
    found = evaluate(
        Classifier.from_pretrained(student), test, Classifier.from_pretrained(student.with_name("teacher"))
    )
    assert found["teacher_span_f1"] > 0.9
    assert found["span_f1"] > 0.6  # of one who does not know where words start, 0


def test_neighbours_change_nothing(student: Path) -> None:
    classifier, words = Classifier.from_pretrained(student), ["anna", "went", "to", "st.", "ives", "."]
    alone, among = classifier.logits([words]), classifier.logits([["rome"], words, ["unseen"] * 30])
    np.testing.assert_allclose(among[1:7], alone, atol=1e-5)


def test_what_ships_says_the_same(student: Path, tmp_path: Path) -> None:
    export_model(student, tmp_path / "shipped", min_agreement=1.0)
    predictor, classifier = Predictor(tmp_path / "shipped"), Classifier.from_pretrained(student)
    for text in ("mr. k and anna live in rome 7", "anna went to new york.", "zzz"):
        assert predictor.tag(text)["tags"] == classifier.tag(text)["tags"]
    spans = predictor.tag("in rome, anna was seen")["spans"]  # the comma is a word of its own
    assert [(span["word"], span["start"], span["end"]) for span in spans] == [("rome", 3, 7), ("anna", 9, 13)]


@pytest.mark.parametrize("kind", ["byte-level"], indirect=True)
def test_places_in_the_pipeline(student: Path) -> None:
    """A byte-level tokenizer has the space before a word in its pieces, but not in their places."""
    tagger = pipeline("token-classification", model=str(student), aggregation_strategy="simple")
    classifier = Classifier.from_pretrained(student)
    for text in ("anna and bo lee live in rome 7", "nobody lives in new york now", "in rome , anna was seen"):
        ours = classifier.tag(text)["spans"]
        assert ours
        assert [(s["start"], s["end"]) for s in tagger(text)] == [(s["start"], s["end"]) for s in ours]
