"""The logged values of each term of the objective."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import DatasetDict
from transformers import set_seed

from eyas import (
    CachedTeacher,
    DistillationArguments,
    DistillationTrainer,
    DistillSettings,
    HardLabelLoss,
    LogitMSELoss,
    Loss,
    SoftTargetLoss,
    StudentSettings,
    Teacher,
    create_student,
    load_data,
)
from eyas.losses import DiversityLoss, LearnedWeights, MutualLoss
from eyas.training.distill import distill
from eyas.training.terms import TermMeans, numbered
from eyas.transfer.blending import Mixup

SIZES: dict[str, Any] = {"embedding_size": 16, "hidden_size": 16, "max_length": 48}
NAMES = ("LogitMSELoss", "SoftTargetLoss", "HardLabelLoss")


@pytest.fixture(scope="module")
def data(toy_data: Path) -> DatasetDict:
    return load_data(toy_data)


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=64, dtype="float32")


@pytest.fixture(scope="module")
def cached(teacher: Teacher, data: DatasetDict) -> CachedTeacher:
    return teacher.label(data["train"])


def three() -> list[Loss]:
    return [LogitMSELoss(), SoftTargetLoss(weight=2.0), HardLabelLoss(weight=lambda progress: 1 - progress)]


@pytest.mark.parametrize(
    ("losses", "student", "options", "names"),
    [
        pytest.param(three(), "static", {}, NAMES, id="three terms"),
        pytest.param([LearnedWeights(three())], "static", {}, NAMES, id="learned weights"),
        pytest.param([*three(), LogitMSELoss()], "static", {}, (*NAMES, "LogitMSELoss_2"), id="a loss twice"),
        pytest.param(three(), "static", {"blend": Mixup()}, NAMES, id="mixup"),
        pytest.param(three(), "static", {"gradient_accumulation_steps": 4}, NAMES, id="accumulation"),
        pytest.param(three(), "static", {"logging_strategy": "steps", "logging_steps": 4}, NAMES, id="within an epoch"),
        pytest.param(
            [*three(), MutualLoss(), DiversityLoss()],
            "ensemble:static,cnn",
            {},
            (*NAMES, "MutualLoss", "DiversityLoss"),
            id="ensemble",
        ),
    ],
)
def test_logged_terms_sum_to_the_loss(
    losses: list[Loss],
    student: Any,
    options: dict[str, Any],
    names: tuple[str, ...],
    tmp_path: Path,
    teacher: Teacher,
    data: DatasetDict,
    cached: CachedTeacher,
) -> None:
    set_seed(0)
    model, tokenizer = create_student(StudentSettings(student, **SIZES), teacher, data["train"])
    arguments = {"num_train_epochs": 2, "per_device_train_batch_size": 16, **options}
    blend = arguments.pop("blend", None)
    trainer = DistillationTrainer(
        model,
        DistillationArguments(output_dir=str(tmp_path), **arguments),
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=tokenizer,
        losses=losses,
        teacher=cached,
        blend=blend,
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) >= 2
    for entry in logged:
        terms = {name.removeprefix("loss/"): value for name, value in entry.items() if name.startswith("loss/")}
        assert set(terms) == set(names)
        assert sum(terms.values()) == pytest.approx(entry["loss"], rel=1e-5)


def test_losses_of_one_class_get_distinct_names() -> None:
    values = torch.arange(4.0)
    found = numbered(
        [("HiddenStateLoss", values[0]), ("MSE", values[1]), *(("HiddenStateLoss", v) for v in values[2:])]
    )
    assert found == [
        ("HiddenStateLoss", 0.0),
        ("MSE", 1.0),
        ("HiddenStateLoss_2", 2.0),
        ("HiddenStateLoss_3", 3.0),
    ]


def test_term_means_restart_after_take() -> None:
    means = TermMeans()
    means.add({"a": torch.tensor(1.0), "b": torch.tensor(5.0)})
    means.add({"a": torch.tensor(3.0), "b": torch.tensor(5.0)})
    assert means.take() == {"loss/a": 2.0, "loss/b": 5.0}
    means.add({"a": torch.tensor(7.0)})
    assert means.take() == {"loss/a": 7.0}
    assert means.take() == {}


def test_training_history_has_terms_of_each_stage(teacher: Teacher, data: DatasetDict, tmp_path: Path) -> None:
    settings = DistillSettings(StudentSettings("static", **SIZES), "annealing", arguments={"num_train_epochs": 4})
    folder = distill(teacher, data, tmp_path / "student", settings)
    history = [json.loads(line) for line in (folder / "training_history.jsonl").read_text().splitlines()]
    terms = [
        (entry["stage"], [name for name in entry if name.startswith("loss/")]) for entry in history if "loss" in entry
    ]
    assert terms == [(0, ["loss/AnnealedMSELoss"])] * 2 + [(1, ["loss/HardLabelLoss"])] * 2
