"""Losses over layers against reference values: authors' code, or a paper's equations, run in float64.

Where the mean of a loss is another than the authors', the test states the factor.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_golden_logits import close, golden, value
from torch import Tensor

from eyas.losses import (
    AttentionLoss,
    AttributionLoss,
    ContextRelationLoss,
    ContrastiveLoss,
    EmbeddingLoss,
    EmbeddingRelationLoss,
    HiddenStateLoss,
    PKDLoss,
    SampleRelationLoss,
    SoftCrossEntropyLoss,
)
from eyas.losses.attentions import contexts
from eyas.losses.layer_mapping import EarthMovers, LayerWeights
from eyas.models.inside import attributions
from eyas.models.inside import run as inside_run

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


def projection_of(file: Any, layer: int | None = None) -> torch.nn.Linear:
    weight, bias = (value(file["inputs"][f"projection_{name}"]) for name in ("weight", "bias"))
    linear = torch.nn.Linear(8, 12, dtype=torch.float64)
    linear.load_state_dict(
        {"weight": weight if layer is None else weight[layer], "bias": bias if layer is None else bias[layer]}
    )
    return linear


def test_tinybert_hidden_states() -> None:
    """Embeddings and layers through one projection; their mean counts padding, and layers are summed."""
    file = golden("tinybert_hidden")
    expected, mask = file["expected"], {"attention_mask": mask_of(file)}
    student = layers(file["inputs"]["student_hidden_states"], requires_grad=True)
    fields = {"hidden_states": student}, {"hidden_states": layers(file["inputs"]["teacher_hidden_states"])}
    loss = HiddenStateLoss(embeddings=True, padding=True, summed=True)
    loss.projection = projection_of(file)
    found = loss(*fields, mask)
    assert found.item() == pytest.approx(expected["hidden_and_embedding_loss"], rel=1e-5)
    close(stacked(torch.autograd.grad(found, student)), expected["gradient_by_student_hidden_states"])
    ours, embedding = HiddenStateLoss(), EmbeddingLoss()  # means over real tokens and over layers
    ours.projection = embedding.projection = loss.projection
    name = "not_authors_hidden_mean_over_real_tokens_and_layers"
    assert ours(*fields, mask).item() == pytest.approx(expected[name], rel=1e-5)
    name = "not_authors_embedding_over_real_tokens"
    assert embedding(*fields, mask).item() == pytest.approx(expected[name], rel=1e-5)


def test_tinybert_attention() -> None:
    file = golden("tinybert_attention")
    inputs, expected, mask = file["inputs"], file["expected"], {"attention_mask": mask_of(file)}
    queries, keys = (layers(inputs[f"student_{name}"], requires_grad=True) for name in ("queries", "keys"))
    teacher = {name: layers(inputs[f"teacher_{name}"]) for name in ("queries", "keys")} | {"heads": 4}
    student = {"queries": queries, "keys": keys, "heads": 4}
    found = AttentionLoss(padding=True, summed=True)(student, teacher, mask)
    assert found.item() == pytest.approx(expected["attention_loss"], rel=1e-5)
    gradients = torch.autograd.grad(found, [*queries, *keys])
    close(stacked(gradients[:2]), expected["gradient_by_student_queries"])
    close(stacked(gradients[2:]), expected["gradient_by_student_keys"])
    name = "not_authors_mean_over_real_pairs_and_layers"
    assert AttentionLoss()(student, teacher, mask).item() == pytest.approx(expected[name], rel=1e-5)


def test_mlkd_hidden_states() -> None:
    """A projection for each layer."""
    file = golden("mlkd_hidden")
    student = layers(file["inputs"]["student_hidden_states"], requires_grad=True)
    fields = {"hidden_states": student}, {"hidden_states": layers(file["inputs"]["teacher_hidden_states"])}
    loss = HiddenStateLoss(embeddings=True, padding=True, summed=True, own_projections=True)
    loss.projections = torch.nn.ModuleList(projection_of(file, layer) for layer in range(3))
    found = loss(*fields, {"attention_mask": mask_of(file)})
    assert found.item() == pytest.approx(file["expected"]["loss"], rel=1e-5)
    close(stacked(torch.autograd.grad(found, student)), file["expected"]["gradient_by_student_hidden_states"])


def test_mlkd_relations() -> None:
    """The authors' code has no mask; ours leaves padding out."""
    file = golden("mlkd_relations")
    inputs, expected = file["inputs"], file["expected"]
    everything = torch.ones(TEXTS, TOKENS, dtype=torch.bool)
    student = layers(inputs["student_attention_context"], requires_grad=True)
    found = ContextRelationLoss(heads=4).compare(student, layers(inputs["teacher_attention_context"]), everything)
    assert found.item() == pytest.approx(expected["attention_relation"], rel=1e-5)
    close(stacked(torch.autograd.grad(found, student)), expected["gradient_of_attention_relation_by_student"])
    words = value(inputs["student_word_embeddings"]).requires_grad_()
    fields = {"hidden_states": (words,)}, {"hidden_states": (value(inputs["teacher_word_embeddings"]),)}
    found = EmbeddingRelationLoss()(*fields, {"attention_mask": everything})
    assert found.item() == pytest.approx(expected["embedding_relation"], rel=1e-5)
    close(torch.autograd.grad(found, words)[0], expected["gradient_of_embedding_relation_by_student"])


@pytest.mark.parametrize("classes", ["2_classes", "3_classes"])
def test_mlkd_stage_two(classes: str) -> None:
    file = golden("mlkd_stage_two")
    case, expected = file["inputs"][classes], file["expected"][classes]

    def fields(name: str, **more: Any) -> tuple[Any, Tensor]:
        states = value(case[name]).requires_grad_(name.startswith("student"))
        return {"hidden_states": (states.unsqueeze(1),), **more}, states

    teacher, _ = fields("teacher_first_token")
    batch = {"labels": torch.tensor(case["labels"])}
    for loss, name, term in (
        (ContrastiveLoss(), "student_first_token_projected", "contrastive"),
        (SampleRelationLoss(), "student_first_token", "sample_relation"),
    ):
        student, states = fields(name)
        found = loss(student, teacher, batch)
        assert found.item() == pytest.approx(expected[term], rel=1e-5)
        close(torch.autograd.grad(found, states)[0], expected[f"gradient_of_{term}"])
    logits = value(case["student_logits"]).requires_grad_()
    loss_of_logits = SoftCrossEntropyLoss(1, per_class=True)
    found = loss_of_logits({"logits": logits}, {"logits": value(case["teacher_logits"])}, batch)
    assert found.item() == pytest.approx(expected["soft_cross_entropy_T1"], rel=1e-5)
    close(torch.autograd.grad(found, logits)[0], expected["gradient_of_soft_cross_entropy"])


def test_contexts_are_what_attention_returns(tiny_bert: Path) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(tiny_bert).eval()
    kept: list[Tensor] = []
    for layer in model.encoder.layer:
        layer.attention.self.register_forward_hook(lambda module, inputs, output: kept.append(output[0]))
    inputs = {
        "input_ids": torch.tensor([[2, 5, 6, 7], [2, 5, 0, 0]]),
        "attention_mask": torch.tensor([[1] * 4, [1, 1, 0, 0]]),
    }
    mask = inputs["attention_mask"].bool()
    fields = inside_run(model, inputs, {"queries", "keys", "values"})
    for found, expected in zip(contexts(fields, mask), kept, strict=True):
        torch.testing.assert_close(found[mask], expected[mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_bert_emd(shared: bool) -> None:
    """Two steps on the same inputs: the second shows the new weights of the layers."""
    file = golden("bert_emd")
    inputs, mask = file["inputs"], {"attention_mask": mask_of(file)}
    student: dict[str, Any] = {"heads": 4}
    teacher: dict[str, Any] = {"heads": 4}
    for name in ("queries", "keys", "hidden_states"):
        student[name] = layers(inputs[f"student_{name}"], requires_grad=True)
        teacher[name] = layers(inputs[f"teacher_{name}"])
    weights = [LayerWeights(movers=2)] * 2 if shared else [LayerWeights(), LayerWeights()]
    hidden = HiddenStateLoss(EarthMovers(weights[0]), padding=True)
    embedding = HiddenStateLoss(EarthMovers(), embeddings=True, padding=True)
    hidden.projection = embedding.projection = projection_of(file)
    attention = AttentionLoss("scores", EarthMovers(weights[1]), padding=True)
    for step, expected in enumerate(file["expected"][f"{'shared' if shared else 'separate'}_weights_step_1_and_2"]):
        losses = {"hidden": hidden(student, teacher, mask), "attention": attention(student, teacher, mask)}
        assert losses["hidden"].item() == pytest.approx(expected["hidden_loss"], rel=1e-5)
        assert losses["attention"].item() == pytest.approx(expected["attention_loss"], rel=1e-5)
        after = expected["weights_after"]
        for kind, held in (("rep", weights[0]), ("att", weights[1])):
            for side, found in zip(("student", "teacher"), held.both(), strict=True):
                assert found.tolist() == pytest.approx(after[f"{kind}_{side}_weight"], rel=1e-5)
        if step == 0 and shared:
            both = embedding(student, teacher, mask) - losses["hidden"]
            assert both.item() == pytest.approx(expected["embedding_loss"], rel=1e-5)
            for name in ("queries", "keys"):
                found = torch.autograd.grad(losses["attention"], student[name], retain_graph=True)
                close(stacked(found), expected[f"gradient_of_attention_by_student_{name}"])
            found = torch.autograd.grad(losses["hidden"], student["hidden_states"][1:])
            close(stacked(found), expected["gradient_of_hidden_by_student_hidden_states"][1:])
