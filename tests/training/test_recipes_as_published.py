"""What recipes are made of: losses, weights and schedules, as their papers have them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import step
from torch import Tensor

from eyas import StudentSettings, Teacher, create_student, load_data
from eyas.errors import ModelError
from eyas.losses import Loss
from eyas.losses.schedules import at
from eyas.training.recipes import make_stages


def contents(recipe: str, **options: Any) -> list[dict[str, float]]:
    """The losses of each stage, with their weights in the middle of the training."""
    stages = make_stages(recipe, options)
    return [{type(loss).__name__: round(at(loss.weight, 0.5), 4) for loss in stage.losses} for stage in stages]


def test_bert_emd_is_one_objective_with_small_weights_of_layers() -> None:
    """Li et al. 2020: predictions and layers together, not one after the other."""
    assert contents("bert-emd") == [
        {"SoftCrossEntropyLoss": 0.8, "HardLabelLoss": 0.2, "HiddenStateLoss": 0.01, "AttentionLoss": 0.01}
    ]
    assert contents("bert-emd", temperature=3.0)[0]["SoftCrossEntropyLoss"] == pytest.approx(0.8 * 9)
    assert not make_stages("bert-emd")[0].is_scheduled  # so it stops early
    assert make_stages("bert-emd", {"temperature": "linear:8:1"})[0].is_scheduled


def test_mlkd_has_layers_first_and_then_samples() -> None:
    """Zhang et al. 2024: L1 = embeddings, attention outputs, hidden states; L2 = samples, contrast, predictions."""
    assert contents("mlkd") == [
        {"HiddenStateLoss": 1.0, "EmbeddingRelationLoss": 1.0, "ContextRelationLoss": 1.0},
        {"SampleRelationLoss": 1.0, "ContrastiveLoss": 1.0, "SoftCrossEntropyLoss": 1.0},
    ]


def test_ad_kd_has_its_own_control() -> None:
    """Wu et al. 2023: soft targets without the temperature squared, labels, attributions."""
    with_maps = {"HardLabelLoss": 0.2, "SoftCrossEntropyLoss": 0.8, "AttributionLoss": 1.0}
    assert contents("ad-kd") == [with_maps]
    del with_maps["AttributionLoss"]
    assert contents("ad-kd", attribution_weight=0) == [with_maps]


def test_continuation_moves_from_the_teacher_to_the_labels() -> None:
    """Jafari et al. 2022, eq. 8: on GLUE psi grows to 1/2 in two thirds of the epochs, and is 1 thereafter."""
    soft, hard = make_stages("continuation")[0].losses
    for progress, psi in ((0.0, 0.0), (1 / 3, 0.25), (2 / 3, 0.5), (0.7, 1.0), (1.0, 1.0)):
        assert at(hard.weight, progress) == pytest.approx(psi)
        assert at(soft.weight, progress) == pytest.approx(1 - psi)


def test_dkd_has_its_weights_and_its_warm_up() -> None:
    """Zhao et al. 2022, CIFAR-100: alpha 1, beta 8, temperature 4; 20 of 240 epochs of warm-up."""
    soft, hard = make_stages("dkd")[0].losses
    own: Any = soft
    assert (own.temperature, own.target_weight, own.rest_weight) == (4.0, 1.0, 8.0)
    assert at(soft.weight, 10 / 240) == pytest.approx(0.5, abs=0.01)
    assert at(soft.weight, 20 / 240) == pytest.approx(1.0, abs=0.01)
    assert at(soft.weight, 1.0) == 1.0
    assert hard.weight == 1.0
    assert make_stages("dkd", {"warmup": 0})[0].losses[0].weight == 1.0
    with pytest.raises(ModelError, match="expected a share of training"):
        make_stages("dkd", {"warmup": 2.0})


def test_minilmv2_has_48_relation_heads() -> None:
    """Wang et al. 2021, section 4.1: 48 for teachers of base size."""
    loss: Any = make_stages("minilmv2")[0].losses[0]
    assert loss.heads == 48


def test_tinybert_takes_the_means_of_its_authors_code() -> None:
    first, last = contents("tinybert", reduction="authors")
    assert first == {"HiddenStateLoss": 1.0, "AttentionLoss": 1.0}  # embeddings are a part of the hidden states
    assert last == {"SoftCrossEntropyLoss": 1.0}
    losses: Any = make_stages("tinybert", {"reduction": "authors"})[0].losses
    assert all(loss.padding and loss.summed for loss in losses)
    for other in ({"attention": "relations"}, {"hidden": "cosine"}):
        with pytest.raises(ModelError, match="reduction=authors is for attention=scores and hidden=mse"):
            make_stages("tinybert", {"reduction": "authors", **other})


class Epochs(Loss):
    """Notes the epoch of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, student: Any, teacher: Any, batch: Any, progress: float = 0.0) -> Tensor:
        self.seen.append(batch["epoch"])
        return torch.as_tensor(student["logits"].square().mean())


def test_losses_are_told_the_epoch(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    """RAIL-KD draws its layers by it."""
    data, teacher, loss = load_data(toy_data), Teacher(teacher_folder), Epochs()
    student, tokenizer = create_student(StudentSettings("static"), teacher, data["train"])
    step(student, tokenizer, data["train"], [loss], None, tmp_path, max_steps=12, per_device_train_batch_size=60)
    assert loss.seen == [0] * 4 + [1] * 4 + [2] * 4  # of 240 texts
