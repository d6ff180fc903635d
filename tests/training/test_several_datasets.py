"""A trainer with several data sets, each with its own losses and teacher."""

from pathlib import Path

import numpy as np
import pytest
import torch

from eyas import (
    CachedTeacher,
    DistillationArguments,
    DistillationTrainer,
    HardLabelLoss,
    LogitMSELoss,
    StudentSettings,
    Teacher,
    create_student,
    load_data,
)
from eyas.data.task_data import TaskData
from eyas.errors import ModelError
from eyas.training.batches import LengthGroupedBatchSampler, MixedBatches
from eyas.training.callbacks import early_stopping
from eyas.training.checkpoints import has_ended


@pytest.fixture(scope="module")
def data(toy_data: Path) -> TaskData:
    return load_data(toy_data)


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=64)


def _samplers() -> dict[str, LengthGroupedBatchSampler]:
    lengths = np.arange(100)
    return {name: LengthGroupedBatchSampler(lengths[:count], 8, 0) for name, count in (("a", 50), ("b", 17))}


def test_proportional_batches_have_every_row_once() -> None:
    mixed = MixedBatches(_samplers(), "proportional")
    batches = list(mixed)
    assert len(batches) == len(mixed) == 7 + 3
    assert all(len({name for name, _ in batch}) == 1 for batch in batches)
    rows = sorted(row for batch in batches for row in batch)
    assert rows == [("a", number) for number in range(50)] + [("b", number) for number in range(17)]
    assert list(mixed) == batches
    mixed.set_epoch(1)
    assert list(mixed) != batches


def test_temperature_draws_small_data_sets_more_often() -> None:
    """Of sizes 1,600 and 100, in proportion to their roots: 4 to 1 instead of 16 to 1."""
    samplers = {name: LengthGroupedBatchSampler(np.arange(count), 1, 0) for name, count in (("a", 1600), ("b", 100))}
    mixed = MixedBatches(samplers, "temperature")
    batches = list(mixed)
    assert len(batches) == len(mixed) == 1700
    small = [row for [(name, row)] in batches if name == "b"]
    assert 340 - 60 < len(small) < 340 + 60  # 3.6 standard deviations
    assert sorted(small[:100]) == sorted(small[100:200]) == list(range(100))
    assert small[:100] != small[100:200]
    assert list(mixed) == batches


def test_round_robin_batches_take_turns_until_the_first_data_set_ends() -> None:
    mixed = MixedBatches(_samplers(), "round-robin")
    assert [batch[0][0] for batch in mixed] == ["a", "b"] * 3
    assert len(mixed) == 6


@pytest.mark.parametrize("mixing", ["proportional", "round-robin"])
def test_trainer_uses_teacher_and_losses_of_each_data_set(
    mixing: str, teacher: Teacher, data: TaskData, tmp_path: Path
) -> None:
    halves = {"first": data["train"].select(range(120)), "second": data["train"].select(range(120, 240))}
    student, tokenizer = create_student(StudentSettings("static", embedding_size=16), teacher, data["train"])
    asked: dict[str, set[int]] = {"first": set(), "second": set()}

    class Listening(CachedTeacher):
        name = "first"

        def outputs(self, batch: dict[str, torch.Tensor], fields: object = ()) -> dict[str, torch.Tensor]:
            asked[self.name].update(batch["example_id"].tolist())
            return super().outputs(batch)

    listening = Listening(teacher.label(halves["first"]).folder)
    trainer = DistillationTrainer(
        student,
        DistillationArguments(
            str(tmp_path),
            num_train_epochs=2,
            per_device_train_batch_size=16,
            multi_dataset_batches=mixing,  # type: ignore[arg-type]
        ),
        train_dataset=halves,
        eval_dataset={"all": data["validation"], "few": data["validation"].select(range(20))},
        processing_class=tokenizer,
        losses={"first": [LogitMSELoss(), HardLabelLoss(weight=0.5)], "second": [HardLabelLoss()]},
        teacher={"first": listening, "second": None},
    )
    trainer.train()
    assert asked["first"] == set(halves["first"]["example_id"])
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    names = {"loss/first/LogitMSELoss", "loss/first/HardLabelLoss", "loss/second/HardLabelLoss"}
    for entry in logged:
        assert {name for name in entry if name.startswith("loss/")} == names
        assert sum(entry[name] for name in names) == pytest.approx(entry["loss"], rel=1e-4)
    scored = next(entry for entry in trainer.state.log_history if "eval_score" in entry)
    parts = [entry[f"eval_{name}_score"] for name in ("all", "few") for entry in trainer.state.log_history
             if f"eval_{name}_score" in entry and entry["epoch"] == scored["epoch"]]  # fmt: skip
    assert scored["eval_score"] == pytest.approx(sum(parts) / 2)


def test_training_stops_early_by_the_mean_of_the_data_sets(teacher: Teacher, data: TaskData, tmp_path: Path) -> None:
    student, tokenizer = create_student(StudentSettings("static", embedding_size=16), teacher, data["train"])
    arguments = DistillationArguments(str(tmp_path), num_train_epochs=9, learning_rate=1e-12)  # it never gets better
    parts = {"a": data["train"].select(range(32)), "b": data["train"].select(range(32))}
    trainer = DistillationTrainer(
        student,
        arguments,
        train_dataset=parts,
        eval_dataset={"a": data["validation"], "b": data["validation"]},
        processing_class=tokenizer,
        losses={name: [HardLabelLoss()] for name in parts},
        callbacks=early_stopping(arguments, 64, 2, False),
    )
    trainer.train()
    assert trainer.state.epoch == 3  # the best is the first, and none of the two after it is better
    (newest,) = sorted(tmp_path.glob("checkpoint-*"))[-1:]
    assert has_ended(newest, trainer.state.max_steps)


def test_trainer_refuses_data_set_without_losses(teacher: Teacher, data: TaskData) -> None:
    student, tokenizer = create_student(StudentSettings("static", embedding_size=16), teacher, data["train"])
    with pytest.raises(ModelError, match="losses has no entry for the data set 'b', only for a"):
        DistillationTrainer(
            student,
            train_dataset={"a": data["train"], "b": data["train"]},
            processing_class=tokenizer,
            losses={"a": [HardLabelLoss()]},
        )
