"""What a prediction rests on: the field that models give, and the loss over it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from understudy import Teacher
from understudy.losses import AttributionLoss
from understudy.models.inside import run


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=48, dtype="float32")


def test_attributions_are_the_slopes_of_the_log_probabilities(teacher: Teacher) -> None:
    """Against finite differences: each word vector made longer by a little."""
    found = teacher({"text": ["a great film"]}, ("logits", "attributions"))
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
    teacher({"text": ["a great film"]}, ("attributions",))
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.model.parameters())


def test_students_attributions_can_be_learned(teacher: Teacher) -> None:
    """A gradient of a gradient reaches the weights."""
    from transformers import AutoModelForSequenceClassification

    student = AutoModelForSequenceClassification.from_config(teacher.model.config).float()
    inputs = teacher.tokenize(["a great film", "awful"])
    theirs = teacher({"text": ["a great film", "awful"]}, ("attributions",))
    ours = run(student, inputs, {"attributions"}, create_graph=True)
    loss = AttributionLoss()(ours, theirs, {"attention_mask": inputs["attention_mask"]})
    loss.backward()
    query = dict(student.named_parameters())["bert.encoder.layer.0.attention.self.query.weight"]
    assert query.grad is not None
    assert float(query.grad.abs().sum()) > 0
    same = AttributionLoss()(theirs, theirs, {"attention_mask": inputs["attention_mask"]})
    assert float(same) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("dimensions", [None, 3])
def test_attribution_loss_by_hand(dimensions: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(2, 2, 3, 4, 5, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    loss = AttributionLoss(dimensions)({"attributions": ours}, {"attributions": theirs}, {"attention_mask": mask})
    total, count = 0.0, 0
    for text in range(2):
        for label in range(3):
            length = int(mask[text].sum())
            mine = np.linalg.norm(ours[text, label, :length].numpy(), axis=-1)
            sizes = np.sort(np.abs(theirs[text, label, :length].numpy()), axis=-1)[:, ::-1][:, : dimensions or 5]
            yours = np.linalg.norm(sizes, axis=-1)
            difference = mine / np.linalg.norm(mine) - yours / np.linalg.norm(yours)
            total, count = total + float((difference**2).sum()), count + length
    assert float(loss) == pytest.approx(total / count, rel=1e-5)
