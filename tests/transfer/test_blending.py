"""Mixup and text smoothing: blended inputs and their targets."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_trainer, teach
from safetensors.torch import load_file

from eyas import StudentSettings, Teacher, create_student, load_data
from eyas.errors import DataError, ModelError
from eyas.losses import HiddenStateLoss, LogitMSELoss, SoftTargetLoss
from eyas.settings import TransferSettings
from eyas.teachers import AlignedTeacher
from eyas.transfer import check_transfer
from eyas.transfer.blending import Mixup, Smoothing


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=64, dtype="float32")


def test_mixup_equals_loss_with_mixed_targets() -> None:
    torch.manual_seed(0)
    ids, mask = torch.randint(1, 9, (6, 5)), torch.ones(6, 5)
    mask[0, 3:] = 0
    batch, teacher = {"input_ids": ids, "attention_mask": mask, "labels": torch.zeros(6)}, {"logits": torch.randn(6, 3)}
    table = torch.nn.Embedding(9, 4)
    inputs, terms = Mixup(1.0)(batch, teacher, table)
    (share, own, _), (rest, other, _) = terms
    assert share + rest == pytest.approx(1.0)
    assert share >= 0.5
    order = [int((teacher["logits"] == row).all(1).nonzero()) for row in other["logits"]]
    vectors = table(ids) * mask.unsqueeze(-1)
    torch.testing.assert_close(inputs["inputs_embeds"], share * vectors + rest * vectors[order])
    logits = torch.randn(6, 3, requires_grad=True)
    mixed = share * own["logits"] + rest * other["logits"]
    for loss in (LogitMSELoss(), SoftTargetLoss()):
        both = share * loss({"logits": logits}, own, batch) + rest * loss({"logits": logits}, other, batch)
        target = mixed
        if isinstance(loss, SoftTargetLoss):  # mixes the predictions, not the logits
            target = (share * (own["logits"] / 2).softmax(1) + rest * (other["logits"] / 2).softmax(1)).log() * 2
        once = loss({"logits": logits}, {"logits": target}, batch)
        gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (both, once)]
        torch.testing.assert_close(*gradients)


def test_smoothing_with_share_one_keeps_the_text(teacher: Teacher, masked_lm: Path, toy_data: Path) -> None:
    """With share 1, the text is unchanged; with share 0.5, its vectors are mixed with the expected ones."""
    train = load_data(toy_data)["train"]
    student, tokenizer = create_student(StudentSettings("cnn", embedding_size=8, hidden_size=8), teacher, train)
    student.eval()
    texts = train["text"][:7]
    table = student.get_input_embeddings()
    plain = tokenizer(texts, padding=True, return_tensors="pt")
    expected = student(plain["input_ids"], plain["attention_mask"]).logits
    itself = Smoothing(masked_lm, AlignedTeacher(teacher, [0, 1]), tokenizer, share=1.0)
    inputs, [(_, theirs, _)] = itself({"text": texts, "input_ids": plain["input_ids"]}, {}, table)
    torch.testing.assert_close(student(**inputs).logits, expected)
    np.testing.assert_allclose(theirs["logits"].numpy(), teacher.logits(texts), atol=1e-4)
    # Half of each word's vector is its own, half is expected under the masked language model.
    half = Smoothing(masked_lm, AlignedTeacher(teacher, [1, 0]), tokenizer, share=0.5, size=len(teacher.tokenizer))
    half.dtype = "float32"
    inputs, [(_, theirs, _)] = half({"text": texts[:1], "input_ids": plain["input_ids"]}, {}, table)
    tokens = teacher.tokenize(texts[:1])
    chances = half.model(**tokens).logits.softmax(-1)
    known = half.student_ids >= 0
    for place in range(1, tokens["input_ids"].shape[1] - 1):
        own = table(half.student_ids[tokens["input_ids"][0, place]])
        weights = chances[0, place, known]
        others = weights @ table(half.student_ids[known])
        expected_vector = (0.5 * own + 0.5 * others) / (0.5 + 0.5 * weights.sum())
        torch.testing.assert_close(inputs["inputs_embeds"][0, place], expected_vector, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(inputs["inputs_embeds"][0, 0], table(torch.tensor(tokenizer.cls_token_id)))
    np.testing.assert_allclose(theirs["logits"][:, [1, 0]].numpy(), teacher.logits(texts[:1]), atol=0.5)


def test_smoothing_requires_teacher_subwords(teacher: Teacher, masked_lm: Path, toy_data: Path) -> None:
    train = load_data(toy_data)["train"]
    student, tokenizer = create_student(StudentSettings("cnn", vocab_size=30), teacher, train)
    smoothing = Smoothing(masked_lm, AlignedTeacher(teacher, [0, 1]), tokenizer)
    batch = {"text": train["text"][:20], "input_ids": torch.zeros(20, 1)}
    with pytest.raises(ModelError, match="--vocab-size"):
        smoothing(batch, {}, student.get_input_embeddings())


def test_smoothing_requires_teacher_vocabulary(teacher: Teacher, masked_lm: Path, tmp_path: Path) -> None:
    shutil.copytree(masked_lm, tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    file.write_text(file.read_text().replace('"film"', '"movie"'))
    with pytest.raises(ModelError, match="vocabulary"):
        Smoothing(tmp_path / "other", AlignedTeacher(teacher, [0, 1]), teacher.tokenizer)


@pytest.mark.parametrize("architecture", ["bilstm", "bert"])
@pytest.mark.parametrize("kind", ["mixup", "smoothing"])
def test_students_train_on_blended_texts(
    kind: str, architecture: str, teacher: Teacher, masked_lm: Path, toy_data: Path, tmp_path: Path
) -> None:
    """The same steps on the same texts, blended and plain, end with different weights."""
    transfer = TransferSettings(mixup=0.4) if kind == "mixup" else TransferSettings(smoothing=str(masked_lm))
    student = StudentSettings(architecture, hidden_size=16, max_length=48, dropout=0.0)
    plain, blended = (
        load_file(teach(teacher, toy_data, tmp_path / name, student, transfer=chosen) / "model.safetensors")
        for name, chosen in (("plain", TransferSettings()), ("blended", transfer))
    )
    assert all(bool(weight.isfinite().all()) for weight in blended.values())
    assert any(not torch.allclose(plain[name], blended[name], atol=1e-5) for name in plain)


def test_blending_refuses_pairs_and_layer_losses(
    toy_pairs: Path, pair_teacher_folder: Path, toy_data: Path, teacher: Teacher, tmp_path: Path
) -> None:
    pairs, pair_teacher = load_data(toy_pairs)["train"], Teacher(pair_teacher_folder)
    student = create_student("static", pair_teacher, pairs)
    with pytest.raises(ModelError, match="pairs"):
        make_trainer(*student, pairs, [LogitMSELoss()], pair_teacher, tmp_path, blend=Mixup())
    texts = load_data(toy_data)["train"]
    single = create_student(StudentSettings("bert", layers=1), teacher, texts)
    with pytest.raises(ModelError, match="hidden_states"):
        make_trainer(*single, texts, [HiddenStateLoss()], teacher, tmp_path, blend=Mixup())
    with pytest.raises(DataError, match="choose one"):
        check_transfer(TransferSettings(mixup=0.4, smoothing="folder"))
