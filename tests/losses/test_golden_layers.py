"""Losses over layers against reference values: authors' code, or a paper's equations, run in float64.

Where the mean of a loss is another than the authors', the test states the factor.
"""

from typing import Any

import pytest
import torch
from test_golden_logits import close, golden, value
from torch import Tensor

from eyas.losses import AttributionLoss, PKDLoss
from eyas.models.inside import attributions

TEXTS, TOKENS = 4, 6


def mask_of(file: Any) -> Tensor:
    return torch.tensor(file["inputs"]["attention_mask"]).bool()


def layers(found: Any, requires_grad: bool = False) -> tuple[Tensor, ...]:
    """One tensor per layer."""
    return tuple(value(layer).requires_grad_(requires_grad) for layer in found)


def stacked(tensors: Any) -> Tensor:
    return torch.stack(list(tensors))


@pytest.mark.parametrize("choice", ["skip", "last"])
@pytest.mark.parametrize("normalize", [True, False])
def test_patient_kd(choice: str, normalize: bool) -> None:
    file = golden("pkd")
    student = layers(file["inputs"]["student_hidden_states"], requires_grad=True)
    teacher = layers(file["inputs"]["teacher_hidden_states"])
    loss = PKDLoss(choice, normalize)(
        {"hidden_states": student}, {"hidden_states": teacher}, {"attention_mask": mask_of(file)}
    )
    name = f"{choice}_{'normalised' if normalize else 'raw'}"
    assert loss.item() == pytest.approx(file["expected"][name], rel=1e-5)
    found = stacked(torch.autograd.grad(loss, student[1:3]))[:, :, 0]
    close(found, file["expected"][f"{name}_gradient_by_first_tokens_of_student_layers_1_to_2"])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("most", [5, 12])
def test_ad_kd(classes: int, most: int) -> None:
    file = golden(f"ad_kd_{classes}_classes")
    inputs, mask = file["inputs"], mask_of(file)

    def model(side: str) -> tuple[Tensor, Tensor]:
        """The file's stand-in for a model: its embeddings, and the attributions of its labels."""
        embedded = value(inputs[f"{side}_embeddings"]).requires_grad_()
        states = torch.tanh(embedded @ value(inputs[f"{side}_w1"])) * mask.unsqueeze(-1)
        logits = states.sum(1) / mask.sum(1, keepdim=True) @ value(inputs[f"{side}_w2"])
        return embedded, attributions(logits, embedded, create_graph=side == "student")

    embedded, student = model("student")
    _, teacher = model("teacher")
    loss = AttributionLoss(most)(
        {"attributions": student}, {"attributions": teacher.detach()}, {"attention_mask": mask}
    )
    assert loss.item() == pytest.approx(file["expected"][f"loss_top{most}"], rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, embedded)
    close(gradient.double(), file["expected"][f"gradient_by_student_embeddings_top{most}"])
