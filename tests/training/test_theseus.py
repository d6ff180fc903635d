"""BERT-of-Theseus: the student's layers among the teacher's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import teach
from transformers import TrainerControl, TrainerState, TrainingArguments, set_seed

from eyas import Classifier, StudentSettings, Teacher, create_student, load_data
from eyas.errors import ModelError
from eyas.training.recipes import make_stages
from eyas.training.theseus import Replacing


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=48, dtype="float32")


def _logits(student: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = student(**{n: inputs[n] for n in ("input_ids", "attention_mask")}).logits
    return logits


def test_student_with_all_layers_replaced_equals_teacher(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    data = load_data(toy_data)
    texts = data["test"]["text"][:6]
    settings = StudentSettings("bert", layers=1, max_length=48, dropout=0.0)
    student, tokenizer = create_student(settings, teacher, data["train"])
    callback = Replacing(student, teacher.model, lambda progress: progress)
    arguments = (TrainingArguments(str(tmp_path)), TrainerState(max_steps=10), TrainerControl())
    student.eval()
    alone = _logits(student, tokenizer, texts)
    callback.on_train_begin(*arguments)
    layer = callback.layers[0]
    callback.own, layer.training = [False], True
    among = _logits(student, tokenizer, texts)
    torch.testing.assert_close(among, torch.from_numpy(teacher.logits(texts)), atol=1e-4, rtol=1e-4)
    callback.own = [True]
    torch.testing.assert_close(_logits(student, tokenizer, texts), alone)
    callback.own, layer.training = [False], False
    torch.testing.assert_close(_logits(student, tokenizer, texts), alone)
    layer.training = True
    callback.close()
    torch.testing.assert_close(_logits(student, tokenizer, texts), alone)


def test_replacing_draws_expected_number_of_student_layers(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    student, _ = create_student(StudentSettings("bert", layers=2, max_length=48), teacher, load_data(toy_data)["train"])
    callback = Replacing(student, teacher.model, lambda progress: progress)
    counts = []
    for step in (0, 5, 10):
        arguments = (TrainingArguments(str(tmp_path)), TrainerState(max_steps=10, global_step=step), TrainerControl())
        drawn = []
        for _ in range(200):
            callback.on_step_begin(*arguments)
            drawn.append(sum(callback.own))
        counts.append(sum(drawn) / len(drawn))
    assert counts[0] == 1  # never 0: one must be trained
    assert 1.1 < counts[1] < 1.4
    assert counts[2] == 2


def test_theseus_trains_only_layers(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    data, settings = load_data(toy_data), StudentSettings("bert", layers=1, max_length=48)
    folder = teach(teacher, data, tmp_path / "s", settings, "theseus")
    after = Classifier.from_pretrained(folder).model.state_dict()
    set_seed(0)
    before = create_student(settings, teacher, data["train"])[0].state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".layer." in name for name in changed)


def test_theseus_rate_rises_to_one() -> None:
    (stage,) = make_stages("theseus", {"rate": 0.4, "alone_from": 0.5})
    assert stage.replacing is not None
    assert stage.needs_layers
    assert [round(stage.replacing(progress), 2) for progress in (0.0, 0.25, 0.5, 1.0)] == [0.4, 0.7, 1.0, 1.0]


def test_theseus_refuses_incompatible_students(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    data = load_data(toy_data)
    narrow = StudentSettings("bert", layers=1, hidden_size=16, feed_forward=32, max_length=48)
    with pytest.raises(ModelError, match=r"16 and 32.*--student bert"):
        teach(teacher, data, tmp_path / "a", narrow, "theseus")
    three = create_student(StudentSettings("bert", layers=2, max_length=48), teacher, data["train"])[0]
    deeper = Teacher(teacher.model, teacher.tokenizer).model
    deeper = type(deeper)(type(deeper.config)(**{**deeper.config.to_dict(), "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"\b3\b.*\b2\b"):
        Replacing(three, deeper, lambda progress: 1.0)
    with pytest.raises(ModelError, match=r"theseus .*transformer"):
        teach(teacher, data, tmp_path / "b", "cnn", "theseus")
