"""A vocabulary of the student's own, in the teacher's space."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

import eyas
from eyas import StudentSettings, Teacher, load_data
from eyas.data.subwords import teacher_rows
from eyas.errors import ModelError
from eyas.models import STUDENTS
from eyas.settings import DistillSettings, TransferSettings
from eyas.training import vocabulary
from eyas.training.vocabulary import Pieces, mixed_pieces, mixed_words, words_of

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "mixed_vocabulary.json").read_text())


def wordpiece(pieces: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(["[UNK]", *pieces])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def test_each_word_is_cut_with_its_vocabulary() -> None:
    inputs, expected = GOLDEN["inputs"], GOLDEN["expected"]
    teacher, student = wordpiece(inputs["teacher_vocabulary"]), wordpiece(inputs["student_vocabulary"])
    words, flags = inputs["words"], list(map(bool, inputs["word_uses_student_vocabulary"]))
    for own, whose in ((flags, "pieces"), ([False] * len(words), "all_teacher"), ([True] * len(words), "all_student")):
        found = mixed_pieces(words, own, Pieces(teacher), Pieces(student))
        named = [(student if is_own else teacher).id_to_token(token) for token, is_own in found]
        assert named == [piece for word in expected[whose] for piece in word]


def test_teacher_understands_the_new_words_better_than_before(
    teacher_folder: Path, toy_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts in the new words alone: the teacher's states are nearer to those of its own words than at the start."""
    monkeypatch.setattr(vocabulary, "STEPS", 60)
    teacher, train = Teacher(teacher_folder, max_length=64, dtype="float32"), load_data(toy_data)["train"]
    words = mixed_words(teacher, train, 100)
    assert len(words.tokenizer) <= 100
    theirs = words_of(teacher)
    rows = teacher_rows(words.tokenizer.backend_tokenizer, teacher.tokenizer)
    start = np.stack([theirs.table[row].mean(0) if row else theirs.table.mean(0) for row in rows])
    errors = []
    for table in (start, words.table):
        far = []
        for text in train["text"][:40]:
            plain: Any = teacher.tokenizer(text, return_tensors="pt")
            own = words.tokenizer(text)["input_ids"][1:-1]
            both = theirs.table[plain["input_ids"][0]]
            vectors = torch.from_numpy(np.concatenate([both[:1], table[own], both[-1:]])).unsqueeze(0)
            model: Any = teacher.model
            with torch.no_grad():
                states = [
                    model(**inputs, output_hidden_states=True).hidden_states[-1].mean(1)
                    for inputs in (plain, {"inputs_embeds": vectors})
                ]
            far.append(float((states[0] - states[1]).square().mean()))
        errors.append(np.mean(far))
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.process
@pytest.mark.parametrize("architecture", ["cnn", "bert"])
def test_students_learn_with_a_vocabulary_of_their_own(
    architecture: str, teacher_folder: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "STEPS", 20)
    student = StudentSettings(architecture, embeddings="mixed", vocab_size=100, max_length=48)
    settings = DistillSettings(
        student,
        "logit-mse",
        transfer=TransferSettings(augment=()),
        arguments={"num_train_epochs": 12, "learning_rate": 2e-3},
    )
    made = eyas.distill(teacher_folder, toy_data, tmp_path / "out", settings=settings)
    own = set(made.tokenizer.get_vocab())
    assert len(own) <= 100
    assert made.evaluate(toy_data, teacher_folder)["retention"] > 0.9
    assert made.model.get_input_embeddings().num_embeddings == len(own)


def test_what_needs_the_teachers_tokens_is_refused(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    for architecture, recipe in (("bert", "tinybert"), ("cnn", "ad-kd")):
        settings = DistillSettings(StudentSettings(architecture, embeddings="mixed", max_length=48), recipe)
        with pytest.raises(ModelError, match="token by token"):
            eyas.distill(teacher_folder, toy_data, tmp_path / "out", settings=settings)
    with pytest.raises(ModelError, match="this one's is BPE"):
        vocabulary.check_mixed(_with(torch.nn.Module(), SimpleNamespace(backend_tokenizer=Tokenizer(models.BPE()))))
    student = STUDENTS["cnn"](STUDENTS["cnn"].config_class(vocab_size=9, num_labels=2))
    with pytest.raises(ModelError, match="this one is a student"):
        vocabulary.check_mixed(_with(student, None))


def _with(model: Any, tokenizer: Any) -> Any:
    return SimpleNamespace(model=model, tokenizer=tokenizer)
