"""Fewer units and filters of our own students."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import set_seed

from eyas.compression.channels import channel_importance, channels_of, remove_channels
from eyas.compression.methods import check_methods, parse_methods
from eyas.errors import ModelError
from eyas.models import STUDENTS, TAGGERS

IDS = torch.tensor([[3, 9, 4, 7, 8, 5, 0, 0], [6, 5, 9, 8, 7, 3, 4, 10]])
PAIRS = {"token_type_ids": torch.tensor([[0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]])}
KINDS = [(name, kind, more) for name in STUDENTS for kind, more in ((STUDENTS, {}), (STUDENTS, PAIRS), (TAGGERS, {}))]
KINDS = [(name, kind, more) for name, kind, more in KINDS if name in kind and name != "ensemble"]


def student(name: str, kind: Any, more: dict[str, Tensor], size: int = 6) -> Any:
    set_seed(0)
    cls = kind[name]
    sizes = {"vocab_size": 12, "embedding_size": 5, "hidden_size": size, "num_labels": 3, "pair": bool(more)}
    sizes |= {"num_filters": 4} if name == "cnn-lstm" else {}
    return cls(cls.config_class(**sizes)).eval()


def batches(more: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    full = {"input_ids": IDS, **more}
    return [{key: value[row : row + 1] for key, value in full.items()} for row in range(2)]


def logits(model: Any, more: dict[str, Tensor]) -> Tensor:
    found: Tensor = model(input_ids=IDS, **more).logits
    return found


@pytest.mark.parametrize(("name", "kind", "more"), KINDS, ids=str)
def test_channels_that_nothing_reads_are_left_out(name: str, kind: Any, more: dict[str, Tensor]) -> None:
    """With the weights that read some channels at 0, the student without these channels gives the same answers."""
    model = student(name, kind, more)
    unread = {}
    with torch.no_grad():
        for number, group in enumerate(channels_of(model)):
            gone = torch.randperm(group.count, generator=torch.Generator().manual_seed(number))
            unread[number] = gone[: group.count - group.kept(0.5)]
            for slot in group.read:
                places = slot.places(group.count)[unread[number]].flatten()
                slot.weight.index_fill_(slot.dim, places, 0)
    expected, before = logits(model, more), model.num_parameters()
    remove_channels(model, 0.5, batches(more))
    torch.testing.assert_close(logits(model, more), expected, atol=1e-6, rtol=1e-5)
    assert model.config.hidden_size == 3
    assert getattr(model.config, "num_filters", 2) == 2
    assert model.num_parameters() < before


@pytest.mark.parametrize(("name", "kind", "more"), KINDS, ids=str)
def test_a_smaller_student_is_an_ordinary_one(name: str, kind: Any, more: dict[str, Tensor], tmp_path: Any) -> None:
    model = student(name, kind, more)
    remove_channels(model, 0.5, batches(more))
    model.save_pretrained(tmp_path)
    again = kind[name].from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(again, more), logits(model, more))
    assert {key: value.shape for key, value in model.state_dict().items()} == {
        key: value.shape for key, value in student(name, kind, more, size=3).state_dict().items()
    } or name == "cnn-lstm"
    model.train()(input_ids=IDS, **more).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(("name", "kind", "more"), KINDS, ids=str)
def test_importance_is_the_derivative_by_what_reads_a_channel(name: str, kind: Any, more: dict[str, Tensor]) -> None:
    model, batch = student(name, kind, more), batches(more)[:1]
    groups = channels_of(model)
    found = channel_importance(model, groups, batch)
    given = {"input_ids": IDS[:1], **{key: value[:1] for key, value in more.items()}}
    shape = model(**given).logits.shape
    signs = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    for group, scores in zip(groups, found, strict=True):
        sums = []
        for factor in (1 + 1e-2, 1 - 1e-2):
            kept = [slot.weight.detach().clone() for slot in group.read]
            with torch.no_grad():
                for slot in group.read:
                    slot.weight.index_copy_(
                        slot.dim,
                        slot.places(group.count)[1],
                        slot.weight.index_select(slot.dim, slot.places(group.count)[1]) * factor,
                    )
                sums.append(float((model(**given).logits.double() * signs).sum()))
                for slot, weight in zip(group.read, kept, strict=True):
                    slot.weight.copy_(weight)
        assert float(scores[1]) == pytest.approx(((sums[0] - sums[1]) / 2e-2) ** 2, rel=0.1, abs=1e-5)


def test_every_layer_keeps_a_unit() -> None:
    model = student("bilstm", STUDENTS, {})
    remove_channels(model, 0.99, batches({}))
    assert model.config.hidden_size == 1


def test_what_no_student_has_is_refused() -> None:
    model = student("bilstm", STUDENTS, {})
    with pytest.raises(ModelError, match=r"units:0.01 .* of 6 units is none"):
        remove_channels(model, 0.01, batches({}))
    with pytest.raises(ModelError, match="low-rank or units, not both"):
        check_methods(parse_methods(["low-rank:0.5", "units:0.5"]), model)
    with pytest.raises(ModelError, match="heads of a BiLSTMForSequenceClassification cannot be pruned"):
        check_methods(parse_methods(["heads:0.5"]), model)
