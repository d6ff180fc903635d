"""Attributions: the field that models return, and the loss over it."""

import json
from pathlib import Path

import pytest
import torch
from conftest import teach

from eyas import StudentSettings, Teacher, create_student, load_data
from eyas.errors import ModelError
from eyas.losses import AttributionLoss
from eyas.models.inside import run
from eyas.training.checks import drop_special_tokens


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=48, dtype="float32")


def test_attributions_are_slopes_of_log_probabilities(teacher: Teacher) -> None:
    """Compared with finite differences: each word vector is lengthened slightly."""
    found = teacher.outputs({"text": ["a great film"]}, ("logits", "attributions"))
    inputs = dict(teacher.tokenize(["a great film"]))
    vectors = teacher.model.get_input_embeddings()(inputs.pop("input_ids"))
    assert found["attributions"].shape == (1, 2, *vectors.shape[1:])
    assert not found["attributions"].requires_grad
    little = 1e-2
    for place in range(vectors.shape[1]):
        scores = []
        for change in (little, -little):
            moved = vectors.clone()
            moved[0, place] *= 1 + change
            with torch.no_grad():
                scores.append(teacher.model(inputs_embeds=moved, **inputs).logits.log_softmax(-1))
        slope = (scores[0] - scores[1])[0] / (2 * little)
        torch.testing.assert_close(found["attributions"][0, :, place].sum(-1), slope, atol=2e-3, rtol=2e-2)


def test_teacher_weights_get_no_gradient(teacher: Teacher) -> None:
    teacher.outputs({"text": ["a great film"]}, ("attributions",))
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.model.parameters())


def test_attribution_loss_trains_student_weights(teacher: Teacher) -> None:
    """A gradient of a gradient reaches the weights."""
    from transformers import AutoModelForSequenceClassification

    student = AutoModelForSequenceClassification.from_config(teacher.model.config).float()
    inputs = teacher.tokenize(["a great film", "awful"])
    theirs = teacher.outputs({"text": ["a great film", "awful"]}, ("attributions",))
    ours = run(student, inputs, {"attributions"}, create_graph=True)
    loss = AttributionLoss()(ours, theirs, {"attention_mask": inputs["attention_mask"]})
    loss.backward()
    query = dict(student.named_parameters())["bert.encoder.layer.0.attention.self.query.weight"]
    assert query.grad is not None
    assert float(query.grad.abs().sum()) > 0
    same = AttributionLoss()(theirs, theirs, {"attention_mask": inputs["attention_mask"]})
    assert float(same) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("architecture", ["static", "cnn", "bilstm", "cnn-lstm", "ensemble:cnn,bilstm"])
def test_ad_kd_trains_every_student(architecture: str, teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    """Some texts are longer than the student's maximum length."""
    folder = teach(teacher, toy_data, tmp_path / "out", StudentSettings(architecture, max_length=6), "ad-kd")
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("length", [16, 4])
def test_attributions_align_with_student_tokens(length: int, teacher: Teacher, toy_data: Path) -> None:
    """For complete texts, and for texts that both truncate."""
    settings = StudentSettings("cnn", max_length=length)
    _, tokenizer = create_student(settings, teacher, load_data(toy_data)["train"])
    texts = ["awful", "a great film from start to finish"]
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    found = teacher.reading(length).outputs({"text": texts}, ("attributions",))
    moved = drop_special_tokens(found, inputs["attention_mask"])
    read = moved["attention_mask"].bool()
    assert read.shape == inputs["input_ids"].shape
    theirs = teacher.reading(length).tokenize(texts)["input_ids"]
    for row, ids in enumerate(inputs["input_ids"]):
        places = read[row].nonzero().flatten().tolist()
        names = tokenizer.convert_ids_to_tokens(ids[read[row]].tolist())
        assert names == teacher.tokenizer.convert_ids_to_tokens(theirs[row, places].tolist())
        torch.testing.assert_close(moved["attributions"][row, :, places], found["attributions"][row, :, places])


def test_ad_kd_limits_student_length_to_teacher_length(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    student = StudentSettings("cnn", max_length=48)
    folder = teach(teacher.reading(5), toy_data, tmp_path / "out", student, "ad-kd")
    assert json.loads((folder / "config.json").read_text())["max_length"] == 5


def test_attribution_loss_gradient_of_bilstm_matches_finite_differences(teacher: Teacher, toy_data: Path) -> None:
    """The gradient of the loss with respect to a weight, compared with finite differences."""
    torch.manual_seed(0)
    student, tokenizer = create_student(StudentSettings("bilstm", max_length=16), teacher, load_data(toy_data)["train"])
    student = student.double().eval()
    texts = ["a great film", "awful"]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    ours_read = inputs["attention_mask"]
    theirs = drop_special_tokens(teacher.outputs({"text": texts}, ("attributions",)), ours_read)
    theirs["attributions"] = theirs["attributions"].double()
    torch.testing.assert_close(theirs["attention_mask"], ours_read)

    def loss() -> torch.Tensor:
        ours = run(student, dict(inputs), {"attributions"}, create_graph=True)
        return AttributionLoss()(ours, theirs, {"attention_mask": ours_read})

    weight = next(p for name, p in student.named_parameters() if name.endswith("weight_hh_l0"))
    slope = torch.autograd.grad(loss(), weight)[0]
    place = divmod(int(slope.abs().argmax()), slope.shape[1])
    little, values = 1e-2, []
    for change in (little, -little):
        with torch.no_grad():
            weight[place] += change
        values.append(float(loss().detach()))
        with torch.no_grad():
            weight[place] -= change
    assert float(slope[place]) == pytest.approx((values[0] - values[1]) / (2 * little), rel=1e-2)


def test_attributions_refuse_other_tokens_than_the_teachers(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    outputs = teacher.outputs({"text": ["a great film", "awful"]}, ("attributions",))
    length = outputs["attention_mask"].shape[1]
    for others in (torch.ones(2, 3), torch.ones(2, length - 1), torch.ones(2, length), torch.ones(2, length + 1)):
        with pytest.raises(ModelError, match=r"\[2, \d+\].*\[2, \d+\]"):
            drop_special_tokens(outputs, others.long())
    with pytest.raises(ModelError, match=r"cnn .*--vocab-size, --init"):
        teach(teacher, toy_data, tmp_path / "out", StudentSettings("cnn", vocab_size=50), "ad-kd")
    rows = [{"text": f"a {word} film", "text_pair": "good", "label": word} for word in ("good", "bad") * 6]
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(ModelError, match=r"cnn .*pair"):
        teach(teacher, tmp_path, tmp_path / "out", "cnn", "ad-kd")
