"""Losses over layers compared with slow reference values, and properties of all of them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from eyas.errors import ModelError
from eyas.losses import (
    AttentionLoss,
    AttentionRelationLoss,
    CKALoss,
    ContrastiveLoss,
    CosineHiddenLoss,
    EmbeddingLoss,
    EmbeddingRelationLoss,
    HiddenStateLoss,
    LastStateLoss,
    Loss,
    MiniLMLoss,
    MiniLMv2Loss,
    PKDLoss,
    RelationLoss,
    SampleRelationLoss,
)
from eyas.losses.layer_mapping import (
    MAPPINGS,
    EarthMovers,
    LayerWeights,
    final,
    first,
    last,
    layer_mapping,
    skip,
    top,
    uniform,
)

BATCH, LENGTH, HEADS = 3, 5, 2
LENGTHS = [5, 3, 2]


def fields(layers: int, size: int, seed: int, spread: float = 1.0) -> dict[str, Any]:
    random = torch.Generator().manual_seed(seed)

    def states(count: int) -> tuple[Tensor, ...]:
        shape = (BATCH, LENGTH, size)
        return tuple((spread * torch.randn(shape, generator=random)).requires_grad_() for _ in range(count))

    inside = {name: states(layers) for name in ("queries", "keys", "values")}
    return {"hidden_states": states(layers + 1), "heads": HEADS, **inside}


MASK = torch.tensor([[place < length for place in range(LENGTH)] for length in LENGTHS])
BATCH_FIELDS = {"attention_mask": MASK}
MAKERS: dict[str, Callable[[], Loss]] = {
    "hidden": HiddenStateLoss,
    "embedding": EmbeddingLoss,
    "patient": PKDLoss,
    "cosine": CosineHiddenLoss,
    "relation": RelationLoss,
    "embedding-relation": EmbeddingRelationLoss,
    "cka": CKALoss,
    "samples": SampleRelationLoss,
    "last": LastStateLoss,
    "scores": lambda: AttentionLoss("scores"),
    "probabilities": lambda: AttentionLoss("probabilities"),
    "divergence": lambda: AttentionLoss("divergence"),
    "minilm": MiniLMLoss,
    "minilmv2": lambda: MiniLMv2Loss(heads=4),
    "attention-relation": lambda: AttentionRelationLoss(heads=4),
}


def test_layer_mappings_match_the_papers() -> None:
    assert uniform(4, 12) == [(1, 3), (2, 6), (3, 9), (4, 12)]
    assert skip(6, 12) == [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]
    assert last(6, 12) == [(1, 7), (2, 8), (3, 9), (4, 10), (5, 11)]
    assert first(2, 6) == [(1, 1), (2, 2)]
    assert top(4, 12) == [(1, 9), (2, 10), (3, 11), (4, 12)]
    assert final(4, 12) == [(4, 12)]


@pytest.mark.parametrize("name", MAKERS)
def test_layer_losses_are_zero_for_equal_states_and_ignore_padding(name: str) -> None:
    loss, own, other = MAKERS[name](), fields(3, 8, 0), fields(3, 8, 1)
    assert float(loss(own, own, BATCH_FIELDS).detach()) == pytest.approx(0.0, abs=1e-6)
    value = loss(own, other, BATCH_FIELDS)
    assert float(value.detach()) > 1e-3
    padded = [_with_padding(both) for both in (own, other)]
    longer = {"attention_mask": torch.cat([MASK, torch.zeros(BATCH, 4, dtype=torch.bool)], 1)}
    torch.testing.assert_close(loss(*padded, longer), value)


def _with_padding(given: dict[str, Any]) -> dict[str, Any]:
    noise = torch.full((BATCH, 4, 8), 7.0)

    def longer(states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(torch.cat([torch.where(MASK.unsqueeze(-1), s, 3.0), noise], 1) for s in states)

    return {name: longer(value) if isinstance(value, tuple) else value for name, value in given.items()}


@pytest.mark.parametrize("name", [*MAKERS, "contrastive"])
def test_layer_losses_have_gradients_for_student_only(name: str) -> None:
    loss = {**MAKERS, "contrastive": ContrastiveLoss}[name]()
    student, teacher = fields(3, 8, 0), fields(3, 8, 1)
    frozen = {k: tuple(s.detach() for s in v) if isinstance(v, tuple) else v for k, v in teacher.items()}
    loss(student, frozen, BATCH_FIELDS).backward()
    assert all(any(s.grad is not None for s in student[field]) for field in loss.student_fields)
    assert all(s.grad is None for value in teacher.values() if isinstance(value, tuple) for s in value)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def test_hidden_state_loss_matches_manual_value() -> None:
    student, teacher = fields(2, 8, 0), fields(6, 8, 1)
    expected = []
    for ours, theirs in ((1, 3), (2, 6)):
        errors = [
            (
                (_array(student["hidden_states"][ours])[b, t] - _array(teacher["hidden_states"][theirs])[b, t]) ** 2
            ).mean()
            for b in range(BATCH)
            for t in range(LENGTHS[b])
        ]
        expected.append(np.mean(errors))
    found = HiddenStateLoss()(student, teacher, BATCH_FIELDS).detach()
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def test_pkd_loss_matches_manual_value() -> None:
    student, teacher = fields(3, 8, 0), fields(6, 8, 1)
    errors = []
    for ours, theirs in ((1, 2), (2, 4)):
        a, b = (_array(f["hidden_states"][place])[:, 0] for f, place in ((student, ours), (teacher, theirs)))
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        errors.append(((a - b) ** 2).mean())
    found = PKDLoss("skip")(student, teacher, BATCH_FIELDS).detach()
    assert float(found) == pytest.approx(np.mean(errors), rel=1e-5)


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def _naive_divergence(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], heads: int) -> float:
    """KL of row distributions of a[0] a[1]^T and b[0] b[1]^T, head by head, token by token."""
    found = []
    for text, length in enumerate(LENGTHS):
        for head in range(heads):
            rows = []
            for first_states, second_states in (a, b):
                size = first_states.shape[-1] // heads
                part = slice(head * size, (head + 1) * size)
                left, right = (_array(x)[text, :length, part] for x in (first_states, second_states))
                rows.append(_softmax(left @ right.T / np.sqrt(size)))
            found += [float((q * np.log(q / p)).sum()) for p, q in zip(*rows, strict=True)]
    return float(np.mean(found))


def test_attention_and_relation_losses_match_naive_loop() -> None:
    student, teacher = fields(2, 8, 0), fields(2, 12, 1)
    ours, theirs = ({n: f[n][-1] for n in ("queries", "keys", "values")} for f in (student, teacher))
    attention = _naive_divergence((ours["queries"], ours["keys"]), (theirs["queries"], theirs["keys"]), HEADS)
    values = _naive_divergence((ours["values"],) * 2, (theirs["values"],) * 2, HEADS)
    assert float(MiniLMLoss()(student, teacher, BATCH_FIELDS).detach()) == pytest.approx(attention + values, rel=1e-4)
    relations = sum(_naive_divergence((ours[n],) * 2, (theirs[n],) * 2, 4) for n in ours)
    assert float(MiniLMv2Loss(heads=4)(student, teacher, BATCH_FIELDS).detach()) == pytest.approx(relations, rel=1e-4)
    last = AttentionRelationLoss(heads=4, mapping="final")(student, teacher, BATCH_FIELDS)
    assert float(last.detach()) == pytest.approx(relations, rel=1e-4)
    both = AttentionRelationLoss(heads=4)(student, teacher, BATCH_FIELDS)
    assert float(both.detach()) != pytest.approx(relations, rel=1e-2)  # the first layer's as well
    divergence = AttentionLoss("divergence", "final")(student, teacher, BATCH_FIELDS)
    assert float(divergence.detach()) == pytest.approx(attention, rel=1e-4)


def test_attention_loss_refuses_other_number_of_heads() -> None:
    student, teacher = (
        SimpleNamespace(num_attention_heads=heads, hidden_size=8, model_type="bert", num_hidden_layers=2)
        for heads in (2, 12)
    )
    with pytest.raises(ModelError, match=r"the student has 2 heads and the teacher 12\. Set heads \(--heads\) to 12"):
        AttentionLoss().check_models(student, teacher)


@pytest.mark.parametrize("name", MAPPINGS)
def test_hidden_state_losses_accept_every_mapping(name: str) -> None:
    torch.manual_seed(0)
    student, teacher = fields(2, 8, 0), fields(4, 8, 1)
    for loss in (HiddenStateLoss(name), PKDLoss(name)):
        value = loss(student, teacher, BATCH_FIELDS)
        assert 0 < float(value.detach()) < 10
        value.backward()


def test_earth_movers_distance_equals_pot() -> None:
    student, teacher = fields(2, 8, 0), fields(3, 8, 1)
    ours, theirs = student["hidden_states"][1:], teacher["hidden_states"][1:]

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean()

    costs = np.array([[float(distance(a, b).detach()) for b in theirs] for a in ours])
    least = ot.emd2(np.full(2, 1 / 2), np.full(3, 1 / 3), costs)
    found = sum(
        weight * float(distance(ours[place], t).detach()) for place, t, weight in EarthMovers()(ours, theirs, distance)
    )
    assert found == pytest.approx(float(least), rel=1e-5)
    attentive = EarthMovers(LayerWeights())
    flows = [[w for _, _, w in attentive(ours, theirs, distance)] for _ in range(2)]
    assert flows[0] != flows[1]
    assert sum(flows[1]) == pytest.approx(1.0)


def test_attention_mapping_is_a_weighted_mean() -> None:
    student, teacher = fields(1, 8, 0), fields(3, 8, 1)
    query = _array(student["hidden_states"][1])[:, 0]
    layers = np.stack([_array(s) for s in teacher["hidden_states"][1:]], 1)
    weights = _softmax(np.einsum("bh,blh->bl", query, layers[:, :, 0]))
    target = np.einsum("bl,blth->bth", weights, layers)
    [(_, found, _)] = layer_mapping("attention")(
        student["hidden_states"][1:], teacher["hidden_states"][1:], lambda a, b: a
    )
    np.testing.assert_allclose(_array(found), target, atol=1e-5)


def test_invalid_mappings_are_refused() -> None:
    with pytest.raises(ModelError, match=r"No layer mapping 'diagonal'. Expected one of uniform"):
        HiddenStateLoss("diagonal")
    with pytest.raises(ModelError, match="No layer mapping 3"):
        HiddenStateLoss(3)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="the student has 4 layers and the teacher 2"):
        HiddenStateLoss("mean")(fields(4, 8, 0), fields(2, 8, 1), BATCH_FIELDS)
    with pytest.raises(ModelError, match=r"pair \(3, 1\), but there are 2 layers in the student and 4"):
        HiddenStateLoss([(3, 1)])(fields(2, 8, 0), fields(4, 8, 1), BATCH_FIELDS)


def test_hidden_state_loss_projects_narrow_student() -> None:
    student, teacher = fields(2, 4, 0), fields(2, 8, 1)
    loss = HiddenStateLoss()
    loss.prepare(SimpleNamespace(hidden_size=4), SimpleNamespace(hidden_size=8))
    assert loss.projection is not None
    loss(student, teacher, BATCH_FIELDS).backward()
    assert all(parameter.grad is not None for parameter in loss.projection.parameters())
    with pytest.raises(ModelError, match="simkd gives the student the teacher's head"):
        LastStateLoss().check_models(SimpleNamespace(hidden_size=4), SimpleNamespace(hidden_size=8))
    narrow, wide = (SimpleNamespace(hidden_size=size, num_hidden_layers=2) for size in (4, 8))
    for loss in (RelationLoss, CKALoss):
        with pytest.raises(ModelError, match="mapping=attention.*hidden size 8, got 4"):
            loss("attention").check_models(narrow, wide)
    HiddenStateLoss("attention").check_models(narrow, wide)
    CKALoss().check_models(narrow, wide)


def test_last_state_loss_compares_input_of_the_head() -> None:
    student, teacher = fields(2, 8, 0), fields(2, 8, 1)
    loss = LastStateLoss()
    loss.prepare(SimpleNamespace(hidden_size=8), SimpleNamespace(hidden_size=8, classifier_pooling="mean"))
    means = [
        np.stack([_array(f["hidden_states"][-1])[b, :length].mean(0) for b, length in enumerate(LENGTHS)])
        for f in (student, teacher)
    ]
    expected = ((means[0] - means[1]) ** 2).mean()
    assert float(loss(student, teacher, BATCH_FIELDS).detach()) == pytest.approx(expected, rel=1e-5)


def test_losses_compute_only_mapped_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []
    monkeypatch.setattr("eyas.losses.attentions.dots", lambda a, b: made.append(a.shape) or a @ b.mT)
    AttentionLoss("scores", "top")(fields(2, 8, 0), fields(6, 8, 1), BATCH_FIELDS)
    assert len(made) == 4
    projected: list[tuple[int, ...]] = []
    loss = PKDLoss("last")
    loss.prepare(SimpleNamespace(hidden_size=4), SimpleNamespace(hidden_size=8))
    loss.projection.register_forward_hook(lambda module, given, output: projected.append(given[0].shape))
    loss(fields(3, 4, 0), fields(6, 8, 1), BATCH_FIELDS)
    assert projected == [(BATCH, 4)] * 2


def _states(given: dict[str, Any], layer: int) -> list[np.ndarray]:
    """The tokens of each text, without padding."""
    return [_array(given["hidden_states"][layer])[text, :length] for text, length in enumerate(LENGTHS)]


def _cosines(a: np.ndarray) -> np.ndarray:
    unit = a / np.linalg.norm(a, axis=1, keepdims=True)
    return unit @ unit.T


def _alignment(a: np.ndarray, b: np.ndarray) -> float:
    """Linear CKA by its kernels: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))."""
    centre = np.eye(len(a)) - 1 / len(a)
    k, m = (centre @ x @ x.T @ centre for x in (a, b))
    return float((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


def test_hidden_state_losses_match_manual_values() -> None:
    student, teacher = fields(2, 8, 0), fields(2, 12, 1)
    narrow = fields(2, 12, 2)  # with the teacher's hidden size
    ours, theirs, same = ([_states(given, layer) for layer in range(3)] for given in (student, teacher, narrow))
    firsts = [np.stack([text[0] for text in given[-1]]) for given in (ours, theirs, same)]
    cosine = [
        1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        for layer in (1, 2)
        for a, b in zip(same[layer], theirs[layer], strict=True)
    ]
    tokens = [np.concatenate(given[2]) for given in (ours, theirs)]

    def relations(layer: int) -> float:
        pairs = zip(ours[layer], theirs[layer], strict=True)
        return float(np.concatenate([((_cosines(a) - _cosines(b)) ** 2).ravel() for a, b in pairs]).mean())

    expected = {
        CosineHiddenLoss(): (narrow, np.concatenate(cosine).mean()),
        EmbeddingLoss(): (
            narrow,
            np.mean([(a - b) ** 2 for a, b in zip(*map(np.vstack, (same[0], theirs[0])), strict=True)]),
        ),
        RelationLoss("final"): (student, relations(2)),
        CKALoss("final"): (student, 1 - _alignment(*tokens)),
        LastStateLoss(): (narrow, ((firsts[2] - firsts[1]) ** 2).mean()),
    }
    for loss, (given, value) in expected.items():
        found = float(loss(given, teacher, BATCH_FIELDS).detach())
        assert found == pytest.approx(value, rel=1e-4), type(loss).__name__


@pytest.mark.parametrize("of", ["scores", "probabilities"])
def test_attention_loss_matches_naive_loop(of: str) -> None:
    student, teacher = fields(2, 8, 0), fields(4, 12, 1)
    layers = []
    for ours, theirs in ((0, 1), (1, 3)):
        errors = []
        for text, length in enumerate(LENGTHS):
            for head in range(HEADS):
                rows = []
                for given, layer in ((student, ours), (teacher, theirs)):
                    size = given["queries"][layer].shape[-1] // HEADS
                    part = slice(head * size, (head + 1) * size)
                    q, k = (_array(given[name][layer])[text, :length, part] for name in ("queries", "keys"))
                    scores = q @ k.T / np.sqrt(size)
                    rows.append(scores if of == "scores" else _softmax(scores))
                errors.append(((rows[0] - rows[1]) ** 2).ravel())
        layers.append(np.concatenate(errors).mean())
    found = AttentionLoss(of)(student, teacher, BATCH_FIELDS)  # type: ignore[arg-type]
    assert float(found.detach()) == pytest.approx(np.mean(layers), rel=1e-4)


def test_projection_matches_manual_value() -> None:
    student, teacher = fields(1, 4, 0), fields(1, 8, 1)
    loss = HiddenStateLoss()
    loss.prepare(SimpleNamespace(hidden_size=4), SimpleNamespace(hidden_size=8))
    weight, bias = (_array(part) for part in (loss.projection.weight, loss.projection.bias))
    ours, theirs = (np.concatenate(_states(given, 1)) for given in (student, teacher))
    expected = ((ours @ weight.T + bias - theirs) ** 2).mean()
    assert float(loss(student, teacher, BATCH_FIELDS).detach()) == pytest.approx(expected, rel=1e-5)


def test_other_mappings_match_manual_values() -> None:
    teacher = list(torch.arange(6.0).view(6, 1, 1, 1))
    student = list(torch.zeros(3, 1, 1, 1))

    def targets(mapping: Any, count: int = 3) -> list[float]:
        return [
            float(target.mean()) for _, target, _ in layer_mapping(mapping)(student[:count], teacher, lambda a, b: a)
        ]

    assert targets("mean") == [0.5, 2.5, 4.5]
    assert targets("1-3,3-6") == targets([(1, 3), (3, 6)]) == [2.0, 5.0]
    assert [place for place, _, _ in layer_mapping("1-3,3-6")(student, teacher, lambda a, b: a)] == [0, 2]
    torch.manual_seed(0)
    drawn = [targets("random") for _ in range(50)]
    assert all(row == sorted(set(row)) and len(row) == 3 for row in drawn)
    assert {place for row in drawn for place in row} == set(range(6))


@pytest.mark.parametrize("mapping", ["attention", "earth-movers", "mean"])
def test_mappings_ignore_padding(mapping: str) -> None:
    student, teacher = fields(2, 8, 0), fields(4, 8, 1)
    longer = {"attention_mask": torch.cat([MASK, torch.zeros(BATCH, 4, dtype=torch.bool)], 1)}
    for make in (HiddenStateLoss, PKDLoss):
        value = make(mapping)(student, teacher, BATCH_FIELDS)
        torch.testing.assert_close(make(mapping)(_with_padding(student), _with_padding(teacher), longer), value)
