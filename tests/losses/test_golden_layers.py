"""Losses over layers against reference values: authors' code, or a paper's equations, run in float64.

Where the mean of a loss is another than the authors', the test states the factor.
"""

from pathlib import Path
from types import SimpleNamespace
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
    LastStateLoss,
    LogitMSELoss,
    MiniLMLoss,
    MiniLMv2Loss,
    MutualLoss,
    PKDLoss,
    RandomLayerLoss,
    SampleRelationLoss,
    SoftCrossEntropyLoss,
)
from eyas.losses.attentions import contexts
from eyas.losses.transport import EarthMovers, LayerWeights
from eyas.models.crf import CRF
from eyas.models.inside import attributions
from eyas.models.inside import run as inside_run
from eyas.training.recipes.layers import theseus

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
    assert loss.item() == pytest.approx(file["expected"][name], rel=1e-6)
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
    assert loss.item() == pytest.approx(file["expected"][f"loss_top{most}"], rel=1e-6)
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
    assert found.item() == pytest.approx(expected["hidden_and_embedding_loss"], rel=1e-6)
    close(stacked(torch.autograd.grad(found, student)), expected["gradient_by_student_hidden_states"])
    ours, embedding = HiddenStateLoss(), EmbeddingLoss()  # means over real tokens and over layers
    ours.projection = embedding.projection = loss.projection
    name = "not_authors_hidden_mean_over_real_tokens_and_layers"
    assert ours(*fields, mask).item() == pytest.approx(expected[name], rel=1e-6)
    name = "not_authors_embedding_over_real_tokens"
    assert embedding(*fields, mask).item() == pytest.approx(expected[name], rel=1e-6)


def test_tinybert_attention() -> None:
    file = golden("tinybert_attention")
    inputs, expected, mask = file["inputs"], file["expected"], {"attention_mask": mask_of(file)}
    queries, keys = (layers(inputs[f"student_{name}"], requires_grad=True) for name in ("queries", "keys"))
    teacher = {name: layers(inputs[f"teacher_{name}"]) for name in ("queries", "keys")} | {"heads": 4}
    student = {"queries": queries, "keys": keys, "heads": 4}
    found = AttentionLoss(padding=True, summed=True)(student, teacher, mask)
    assert found.item() == pytest.approx(expected["attention_loss"], rel=1e-6)
    gradients = torch.autograd.grad(found, [*queries, *keys])
    close(stacked(gradients[:2]), expected["gradient_by_student_queries"])
    close(stacked(gradients[2:]), expected["gradient_by_student_keys"])
    name = "not_authors_mean_over_real_pairs_and_layers"
    assert AttentionLoss()(student, teacher, mask).item() == pytest.approx(expected[name], rel=1e-6)


def test_mlkd_hidden_states() -> None:
    """A projection for each layer."""
    file = golden("mlkd_hidden")
    student = layers(file["inputs"]["student_hidden_states"], requires_grad=True)
    fields = {"hidden_states": student}, {"hidden_states": layers(file["inputs"]["teacher_hidden_states"])}
    loss = HiddenStateLoss(embeddings=True, padding=True, summed=True, own_projections=True)
    loss.projections = torch.nn.ModuleList(projection_of(file, layer) for layer in range(3))
    found = loss(*fields, {"attention_mask": mask_of(file)})
    assert found.item() == pytest.approx(file["expected"]["loss"], rel=1e-6)
    close(stacked(torch.autograd.grad(found, student)), file["expected"]["gradient_by_student_hidden_states"])


def test_mlkd_relations() -> None:
    """The authors' code has no mask; ours leaves padding out."""
    file = golden("mlkd_relations")
    inputs, expected = file["inputs"], file["expected"]
    everything = torch.ones(TEXTS, TOKENS, dtype=torch.bool)
    student = layers(inputs["student_attention_context"], requires_grad=True)
    found = ContextRelationLoss(heads=4).compare(student, layers(inputs["teacher_attention_context"]), everything)
    assert found.item() == pytest.approx(expected["attention_relation"], rel=1e-6)
    close(stacked(torch.autograd.grad(found, student)), expected["gradient_of_attention_relation_by_student"])
    words = value(inputs["student_word_embeddings"]).requires_grad_()
    fields = {"hidden_states": (words,)}, {"hidden_states": (value(inputs["teacher_word_embeddings"]),)}
    found = EmbeddingRelationLoss()(*fields, {"attention_mask": everything})
    assert found.item() == pytest.approx(expected["embedding_relation"], rel=1e-6)
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
        assert found.item() == pytest.approx(expected[term], rel=1e-6)
        close(torch.autograd.grad(found, states)[0], expected[f"gradient_of_{term}"])
    logits = value(case["student_logits"]).requires_grad_()
    loss_of_logits = SoftCrossEntropyLoss(1, per_class=True)
    found = loss_of_logits({"logits": logits}, {"logits": value(case["teacher_logits"])}, batch)
    assert found.item() == pytest.approx(expected["soft_cross_entropy_T1"], rel=1e-6)
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
        assert losses["hidden"].item() == pytest.approx(expected["hidden_loss"], rel=1e-6)
        assert losses["attention"].item() == pytest.approx(expected["attention_loss"], rel=1e-6)
        after = expected["weights_after"]
        for kind, held in (("rep", weights[0]), ("att", weights[1])):
            for side, found in zip(("student", "teacher"), held.both(), strict=True):
                assert found.tolist() == pytest.approx(after[f"{kind}_{side}_weight"], rel=1e-6)
        if step == 0 and shared:
            both = embedding(student, teacher, mask) - losses["hidden"]
            assert both.item() == pytest.approx(expected["embedding_loss"], rel=1e-6)
            for name in ("queries", "keys"):
                found = torch.autograd.grad(losses["attention"], student[name], retain_graph=True)
                close(stacked(found), expected[f"gradient_of_attention_by_student_{name}"])
            found = torch.autograd.grad(losses["hidden"], student["hidden_states"][1:])
            close(stacked(found), expected["gradient_of_hidden_by_student_hidden_states"][1:])


@pytest.mark.parametrize("joined", [False, True])
def test_rail_kd(joined: bool) -> None:
    """The other group's code has no mask; ours leaves padding out of the mean of the tokens."""
    file = golden("rail_kd")
    inputs = file["inputs"]
    loss = RandomLayerLoss(size=5, joined=joined)
    for side, held in (("student", loss.student_projections), ("teacher", loss.teacher_projections)):
        for place in range(1 if joined else 2):
            name = f"concat_{side}" if joined else f"{side}_linear"
            weight, bias = (value(inputs[f"{name}_{part}"]) for part in ("weight", "bias"))
            weight, bias = (weight, bias) if joined else (weight[place], bias[place])
            held.append(torch.nn.Linear(*weight.T.shape, dtype=torch.float64))
            held[-1].load_state_dict({"weight": weight, "bias": bias})
    student = layers(inputs["student_hidden_states"], requires_grad=True)[1:]
    teacher = layers(inputs["teacher_hidden_states"])[1:]
    drawn = [teacher[layer] for layer in inputs["selected_teacher_layers_from_0_without_embedding"]]
    found = loss.compare(student, drawn, torch.ones(TEXTS, TOKENS, dtype=torch.bool))
    kind = "concatenated" if joined else "layerwise"
    assert found.item() == pytest.approx(file["expected"][kind], rel=1e-6)
    gradients = stacked(torch.autograd.grad(found, student))
    close(gradients[:, :, 0], file["expected"][f"gradient_of_{kind}_by_student_hidden_states"])


def test_rail_kd_draws_layers_once_per_epoch() -> None:
    loss = RandomLayerLoss(size=4)
    loss.prepare(
        SimpleNamespace(hidden_size=8, num_hidden_layers=3), SimpleNamespace(hidden_size=12, num_hidden_layers=6)
    )
    loss.double()
    file = golden("tinybert_hidden")
    fields = (
        {"hidden_states": layers(file["inputs"]["student_hidden_states"])},
        {"hidden_states": layers(file["inputs"]["teacher_hidden_states"])},
    )
    torch.manual_seed(0)
    values = [[loss(*fields, {"attention_mask": mask_of(file), "epoch": e}).item() for _ in range(3)] for e in range(8)]
    assert all(len(set(row)) == 1 for row in values)
    assert len({row[0] for row in values}) > 2


def test_alp_kd() -> None:
    """No gradient flows through the weights."""
    file = golden("alp_kd")
    student = layers(file["inputs"]["student_hidden_states"], requires_grad=True)
    fields = {"hidden_states": student}, {"hidden_states": layers(file["inputs"]["teacher_hidden_states"])}
    found = PKDLoss("attention", normalize=False)(*fields, {"attention_mask": mask_of(file)})
    assert found.item() == pytest.approx(file["expected"]["loss"], rel=1e-6)
    gradients = stacked(torch.autograd.grad(found, student[1:]))[:, :, 0]
    close(gradients, file["expected"]["gradient_by_first_tokens_weights_constant"])


def test_simkd() -> None:
    file = golden("simkd")
    case, expected = file["inputs"]["equal_widths"], file["expected"]["equal_widths"]
    feature = value(case["student_feature"]).requires_grad_()
    fields = (
        {"hidden_states": (feature.unsqueeze(1),)},
        {"hidden_states": (value(case["teacher_feature"]).unsqueeze(1),)},
    )
    found = LastStateLoss()(*fields, {"attention_mask": torch.ones(4, 1)})
    assert found.item() == pytest.approx(expected["loss"], rel=1e-6)
    close(torch.autograd.grad(found, feature)[0], expected["gradient_by_student_feature"])


def _qkv(given: Any, names: tuple[str, ...], heads: int, text: int | None = None, grad: bool = False) -> dict[str, Any]:
    """Fields of one layer; of one text alone, if it is given."""
    fields: dict[str, Any] = {"heads": heads}
    for ours, theirs in zip(("queries", "keys", "values"), names, strict=True):
        states = value(given[theirs]) if text is None else value(given[theirs])[text : text + 1]
        fields[ours] = (states.requires_grad_(grad),)
    return fields


def test_minilm() -> None:
    """The formula is for one text; over a batch, ours is the mean over its tokens."""
    file = golden("minilm")
    expected, mask, names = file["expected"], mask_of(file), ("queries", "keys", "values")
    found = MiniLMLoss()(
        _qkv(file["inputs"]["student"], names, 4), _qkv(file["inputs"]["teacher"], names, 4), {"attention_mask": mask}
    )
    assert found.item() == pytest.approx(expected["if_mean_over_all_real_tokens_of_the_batch"]["loss"], rel=1e-6)
    gradients = []
    for text in range(TEXTS):
        student = _qkv(file["inputs"]["student"], names, 4, text, grad=True)
        teacher = _qkv(file["inputs"]["teacher"], names, 4, text)
        found = MiniLMLoss()(student, teacher, {"attention_mask": mask[text : text + 1]})
        wanted = expected["attention_per_text"][text] + expected["value_relation_per_text"][text]
        assert found.item() == pytest.approx(wanted, rel=1e-6)
        gradients.append(stacked(torch.autograd.grad(found, [student[name][0] for name in names])))
    close(torch.cat(gradients, 1) / TEXTS, expected["gradient_by_student_queries_keys_values"])


def test_minilmv2() -> None:
    """The reference is the mean over texts, each of its tokens; over a batch, ours is the mean over all tokens."""
    file = golden("minilmv2")
    expected, mask, names = file["expected"], mask_of(file), ("query", "key", "value")
    totals, gradients = [], []
    for text in range(TEXTS):
        student = _qkv(file["inputs"]["student"], names, 1, text, grad=True)
        teacher = _qkv(file["inputs"]["teacher"], names, 1, text)
        found = MiniLMv2Loss(heads=6)(student, teacher, {"attention_mask": mask[text : text + 1]})
        totals.append(found.item())
        parts = [student[name][0] for name in ("queries", "keys", "values")]
        gradients.append(stacked(torch.autograd.grad(found, parts)))
    assert sum(totals) / TEXTS == pytest.approx(expected["sum_of_the_three"], rel=1e-6)
    close(torch.cat(gradients, 1) / TEXTS, expected["gradient_of_sum_by_student_queries_keys_values"])


def test_theseus_schedule() -> None:
    """Steps of the reference are shares of a training of 100 steps."""
    file = golden("theseus")
    for base, rate in ((0.3, 0.05), (0.5, 0.1)):
        growing = theseus(rate=base, alone_from=(1 - base) / rate / 100)[0].replacing
        assert callable(growing)
        expected = file["expected"][f"linear_base{base}_k{rate}"]["after_step_1_to_16"]
        assert [growing(step / 100) for step in range(1, 17)] == pytest.approx(expected)


@pytest.mark.parametrize("case", ["3_members_3_classes", "2_members_2_classes"])
def test_mutual_learning(case: str) -> None:
    """The mean over ordered pairs is the mean over members of the mean over peers. The code adds 1e-8 twice."""
    file = golden("mutual_learning")
    members = value(file["inputs"][case]["member_logits"]).requires_grad_()
    found = MutualLoss()({"logits": members[0], "member_logits": members}, {}, {})
    of_each = file["expected"][case]["peer_term_of_each_member_mean_over_peers"]
    assert found.item() == pytest.approx(sum(of_each) / len(of_each), rel=1e-6)
    count = len(of_each)
    gradient = torch.autograd.grad(found, members)[0][0] * count * (count - 1)
    close(gradient, file["expected"][case]["gradient_of_first_members_peer_term_sum_by_its_logits"])


def test_posteriors_of_a_crf() -> None:
    """The authors' mean is over sentences; ours is over words."""
    file = golden("crf_posteriors")
    mask = torch.tensor(file["inputs"]["word_mask"]).bool()

    def posteriors(side: str) -> tuple[Tensor, Tensor]:
        given = file["inputs"][side]
        crf = CRF(3).double()
        names = {"start": "start", "end": "end", "transitions": "transitions_from_to"}
        crf.load_state_dict({ours: value(given[theirs]) for ours, theirs in names.items()})
        emissions = value(given["emissions"]).requires_grad_()
        return emissions, crf.posteriors(emissions, mask)

    emissions, student = posteriors("student")
    _, teacher = posteriors("teacher")
    close(student.exp()[mask], value(file["expected"]["student_posteriors"])[mask].tolist())
    found = LogitMSELoss()({"logits": student[mask]}, {"logits": teacher[mask].detach()}, {"posteriors": True})
    assert found.item() == pytest.approx(file["expected"]["not_authors_mean_over_words_T1"], rel=1e-6)
    factor = int(mask.sum()) / len(mask)
    close(torch.autograd.grad(found, emissions)[0] * factor, file["expected"]["gradient_T1_by_student_emissions"])


def test_constant_targets_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """As of a teacher that was trained with the mean of its tokens: its first token hardly depends on the text."""
    file = golden("pkd")
    states = layers(file["inputs"]["teacher_hidden_states"])
    for layer in (2, 4):
        states[layer][:, 0] = 1.0
    student = {"hidden_states": layers(file["inputs"]["student_hidden_states"])}
    loss = PKDLoss("skip")
    for _ in range(2):
        loss(student, {"hidden_states": states}, {"attention_mask": mask_of(file)})
    told = "in 2 of the 2 layers that teach (2, 4), the teacher's first token is nearly the same for every text"
    assert caplog.text.count(told) == 1
    assert "pooling=mean" in caplog.text
    caplog.clear()
    PKDLoss("skip", pooling="mean")(student, {"hidden_states": states}, {"attention_mask": mask_of(file)})
    assert not caplog.text
