"""Taggers: the unit is the word, whatever the tokenizer; torch, ONNX and transformers give the same answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import STUDENT_ARGUMENTS, Once, teach
from tagging import sentences
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

from eyas import Classifier, Predictor, StudentSettings, Teacher, create_student, evaluate, export_model, load_data
from eyas.data.datasets import labels_of, texts_of
from eyas.evaluation.evaluate import predict_dataset
from eyas.models.tokens import continuation_logits
from eyas.runtime.alignment import WordEncoder

KINDS = ["static", "cnn", "bilstm", "cnn-lstm", "bilstm-crf"]
WORDS = ["in", "st.", "ives", ",", "anna", "and", "mr.", "k", "met", "o'hara", "unseen", "7"]


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, taggers: dict[str, Path]) -> Path:
    return taggers[request.param]


@pytest.fixture(scope="module")
def shipped(folder: Path, once: Once) -> Path:
    return once(f"shipped-{folder.name}", lambda out: export_model(folder, out, min_agreement=1.0))


def test_planted_taggers_are_accurate(folder: Path, tag_teacher_folder: Path, toy_tags: Path) -> None:
    """The other tests depend on this."""
    test = load_data(toy_tags)["test"]
    found = evaluate(Classifier.from_pretrained(folder), test, Classifier.from_pretrained(tag_teacher_folder))
    assert found["teacher_span_f1"] > 0.85
    assert found["span_f1"] > 0.85


def test_tagger_logits_do_not_depend_on_batch(folder: Path) -> None:
    classifier = Classifier.from_pretrained(folder)
    alone = classifier.logits([WORDS])
    among = classifier.logits([["rome"], WORDS, ["anna"] * 40])
    np.testing.assert_allclose(among[1 : len(WORDS) + 1], alone, atol=1e-5)
    ids = torch.tensor([classifier.words.before + classifier.words.pieces([WORDS])[0].ids.tolist()])
    padded = torch.nn.functional.pad(ids, (0, 9), value=classifier.model.config.pad_token_id)
    with torch.no_grad():
        np.testing.assert_allclose(
            classifier.model(padded).logits[:, : ids.shape[1]], classifier.model(ids).logits, atol=1e-5
        )


@pytest.mark.process
def test_onnx_tagger_equals_torch_tagger(folder: Path, shipped: Path, toy_tags: Path) -> None:
    classifier, predictor = Classifier.from_pretrained(folder), Predictor(shipped)
    test = load_data(toy_tags)["test"]
    np.testing.assert_allclose(predict_dataset(predictor, test), predict_dataset(classifier, test), atol=1e-3)
    text = "mr. k saw st. ives, and o'hara saw new york."
    assert predictor.tag(text)["tags"] == classifier.tag(text)["tags"]
    assert predictor([WORDS, text])[0]["tokens"] == WORDS


def test_pipeline_finds_same_spans_as_classifier(folder: Path) -> None:
    tagger = pipeline("token-classification", model=str(folder), aggregation_strategy="simple")
    classifier = Classifier.from_pretrained(folder)
    for sentence in sentences(30, 500):
        text = " ".join(word for word, _ in sentence)
        theirs = [(span["entity_group"], span["start"], span["end"]) for span in tagger(text)]
        ours = [(span["entity_group"], span["start"], span["end"]) for span in classifier.tag(text)["spans"]]
        assert ours == theirs


def test_span_offsets_match_the_text(shipped: Path) -> None:
    text = "  nobody lives in New York now 3"
    spans = Predictor(shipped).tag(text)["spans"]
    assert [(span["entity_group"], text[span["start"] : span["end"]]) for span in spans] == [("LOC", "New York")]


def test_tagger_reads_long_sentences_in_windows(folder: Path, shipped: Path) -> None:
    words = [word for sentence in sentences(700) for word, _ in sentence]
    assert len(words) > 4000
    classifier = Classifier.from_pretrained(folder)
    logits = classifier.logits([words])
    assert logits.shape == (len(words), 5)
    assert np.abs(logits).sum(1).min() > 0  # no word is left out
    np.testing.assert_allclose(Predictor(shipped).logits([words]), logits, atol=1e-3)
    gold = [tag for sentence in sentences(700) for _, tag in sentence]
    found = [classifier.label_names[index] for index in logits.argmax(1)]
    assert np.mean([a == b for a, b in zip(gold, found, strict=True)]) > 0.8


def test_tagger_handles_odd_words(folder: Path, shipped: Path) -> None:
    words = ["", "\u200b", " ", "\x00", "🙂", "a" * 500, "\ud800", "anna"]
    found = Predictor(shipped)([words, ""])
    assert len(found[0]["tags"]) == len(words)
    assert found[1] == {"tokens": [], "tags": [], "scores": [], "spans": []}
    assert Classifier.from_pretrained(folder).tag(words)["tags"] == found[0]["tags"]


def test_int8_tagger_agrees_with_original(folder: Path, tmp_path: Path) -> None:
    parity = export_model(folder, tmp_path / "int8", int8=True, min_agreement=0.8)
    assert parity.rows > 200  # words
    assert Predictor(tmp_path / "int8").manifest.precision == "int8"


def test_auto_class_loads_tagger_with_labels(folder: Path) -> None:
    model = AutoModelForTokenClassification.from_pretrained(folder)
    assert list(model.config.id2label.values()) == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    inputs = AutoTokenizer.from_pretrained(folder)(["in rome", "anna"], padding=True, return_tensors="pt")
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, 1] = 1
    assert model(**inputs, labels=labels).loss > 0


def test_word_level_student_learns_from_subword_teacher(
    tag_teacher_folder: Path, toy_tags: Path, tmp_path: Path
) -> None:
    """Their tokenizers share nothing; logits are joined by word. One of the few tests that train."""
    data = load_data(toy_tags)
    words = sorted({word for part in data.values() for row in part["tokens"] for word in row})
    vectors = np.random.default_rng(0).normal(size=(len(words), 16))
    lines = (f"{word} {' '.join(f'{x:.4f}' for x in row)}" for word, row in zip(words, vectors, strict=True))
    (tmp_path / "vectors.txt").write_text("\n".join(lines))
    student = StudentSettings("bilstm", embeddings=str(tmp_path / "vectors.txt"), hidden_size=48)
    teach(tag_teacher_folder, data, tmp_path / "student", student, arguments=STUDENT_ARGUMENTS)
    both = Classifier.from_pretrained(tmp_path / "student"), Classifier.from_pretrained(tag_teacher_folder)
    assert evaluate(both[0], data["test"], both[1])["agreement"] > 0.75
    for classifier in both:  # answers do not depend on the batch
        among = classifier.logits([["rome"], WORDS, ["anna"] * 40])[1 : len(WORDS) + 1]
        np.testing.assert_allclose(among, classifier.logits([WORDS]), atol=1e-4)


def test_cached_word_logits_equal_live_logits(tag_teacher_folder: Path, toy_tags: Path) -> None:
    teacher, rows = Teacher(tag_teacher_folder, max_length=64, dtype="float32"), load_data(toy_tags)["train"]
    cached, chosen = teacher.label(rows), [7, 3, 100]
    found = cached.outputs({"example_id": [rows[i]["example_id"] for i in chosen]})["logits"]
    live = teacher.outputs({"tokens": [rows[i]["tokens"] for i in chosen]})["logits"]
    torch.testing.assert_close(found, live, atol=1e-5, rtol=1e-4)


def test_live_and_cached_teacher_train_same_tagger(tag_teacher_folder: Path, toy_tags: Path, tmp_path: Path) -> None:
    data, student = load_data(toy_tags), StudentSettings("cnn", embedding_size=16, hidden_size=16)
    folders = [teach(tag_teacher_folder, data, tmp_path / str(live), student, live=live) for live in (False, True)]
    cached, live_too = (predict_dataset(Classifier.from_pretrained(folder), data["test"]) for folder in folders)
    np.testing.assert_allclose(cached, live_too, atol=1e-3)


def test_continuation_logits_continue_the_word() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, -2.0]])
    found = continuation_logits(logits, ["O", "B-X", "I-X", "Y"])
    assert found.argmax(-1).item() == 2
    assert found[0, 0] == 0
    assert found[0, 3] == -2
    assert found.softmax(-1)[0, 1] < 0.01


def test_windows_cover_every_word_once(tag_teacher_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tag_teacher_folder)
    encoder = WordEncoder(tokenizer.backend_tokenizer, tokenizer.unk_token)
    words = [f"anna{number}" for number in range(300)]
    for length in (8, 16, 64, 5000):
        windows = list(encoder.windows([words], length))
        assert [word for window in windows for word in window.words] == list(range(300))
        assert all(len(window.ids) <= length for window in windows)
        for window in windows:
            pieces = [encoder.pieces([[words[word]]])[0].ids[0] for word in window.words]
            assert [window.ids[place] for place in window.positions] == pieces


def test_predict_accepts_text_words_and_questions(
    shipped: Path, run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    lines = [
        "anna went to new york . 4",
        json.dumps({"tokens": ["anna", "went", "to", "rome"], "id": 7}),
        json.dumps({"question": "who went ?", "tokens": ["anna", "went", "to", "rome"]}),
    ]
    (tmp_path / "in.txt").write_text("\n".join(lines) + "\n")
    code, out, err = run("predict", "--model", shipped, tmp_path / "in.txt", "--quiet")
    assert (code, err) == (0, "")
    text, words, asked = (json.loads(line) for line in out.splitlines())
    assert text["tokens"] == ["anna", "went", "to", "new", "york", ".", "4"]
    assert {(s["entity_group"], s["word"]) for s in text["spans"]} == {("PER", "anna"), ("LOC", "new york")}
    assert words["id"] == 7
    assert words["spans"][0]["start"] == 0
    assert asked["tokens"] == ["anna", "went", "to", "rome"]
    (tmp_path / "in.txt").write_text('{"tokens": 3}\n')
    code, _, err = run("predict", "--model", shipped, tmp_path / "in.txt")
    assert code == 2
    assert "in.txt:1: tokens: 3" in err


def test_labels_are_at_first_subwords(toy_tags: Path, tag_teacher_folder: Path) -> None:
    from eyas.training.encoded import EncodedWords

    rows: Any = load_data(toy_tags)["train"].select(range(8))
    tokenizer = AutoTokenizer.from_pretrained(tag_teacher_folder)
    for inner in (False, True):
        encoded = EncodedWords(rows, tokenizer, 64, truncate=True, inner=inner)
        batch = encoded.__getitems__(list(range(8)))
        first = (batch["words"] >= 0) & ~batch["inner"]
        np.testing.assert_array_equal(batch["labels"][first].numpy(), labels_of(rows))
        assert bool(batch["inner"].any()) == inner  # "mr." has two subwords that each start a word
        assert int(first.sum()) == sum(len(words) for words in texts_of(rows))


@pytest.mark.parametrize(("size", "kept"), [(None, True), (60, False)])
def test_copied_tagger_keeps_the_subwords_of_its_teacher(
    size: int | None, kept: bool, tag_teacher_folder: Path, toy_tags: Path
) -> None:
    """Names are new in every text. A size that is given makes the vocabulary smaller."""
    teacher, rows = Teacher(tag_teacher_folder), load_data(toy_tags)["train"].select(range(2))
    model, tokenizer = create_student(StudentSettings("bert", layers=1, vocab_size=size), teacher, rows)
    missing = set(teacher.tokenizer.get_vocab()) - set(tokenizer.get_vocab())
    assert (not missing) is kept
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
