"""Fine-tuning of teachers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import QUICK
from safetensors.torch import load_file, save_file
from toys import write_jsonl
from transformers import TrainerCallback

import eyas
from eyas.data.damage import Damage, damaged
from eyas.data.datasets import is_labeled
from eyas.errors import DataError, ModelError, OutputError
from eyas.models.loading import load_encoder
from eyas.tasks import Task
from eyas.training.finetune import learning_rate
from eyas.training.folders import read_history


@pytest.mark.parametrize(("width", "rate"), [(1024, 5e-5), (768, 5e-5), (384, 2e-4), (128, 3e-4)])
def test_narrow_encoders_learn_at_a_higher_rate(width: int, rate: float) -> None:
    assert learning_rate(width) == pytest.approx(rate)


@pytest.mark.parametrize("damage", ["missing", "of another shape"])
def test_encoder_without_all_its_weights_is_refused(
    damage: str, tiny_bert: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Transformers would draw them at random, and only warn."""
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "encoder"))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("layer.1.output.dense.weight"))
    left = {key: weight for key, weight in weights.items() if key != name}
    changed = left if damage == "missing" else {**left, name: weights[name][:5].contiguous()}
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights for bert.*layer\.1\.output\.dense\.weight: it is not"):
        load_encoder(folder, Task("classification", ("a", "b")))
    load_encoder(tiny_bert, Task("classification", ("a", "b")))
    assert capfd.readouterr().err == ""  # a new head needs no report


def test_other_columns_make_another_teacher(tiny_bert: Path, tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "mood": "ab"[n % 2], "about": "xyz"[n % 3]} for n in range(60)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    source, settings = tmp_path / "rows.jsonl", eyas.FinetuneSettings(QUICK)
    eyas.finetune(tiny_bert, source, tmp_path / "out", settings=settings, columns=eyas.Columns(label="mood"))
    with pytest.raises(OutputError, match="other settings"):
        eyas.finetune(tiny_bert, source, tmp_path / "out", settings=settings, columns=eyas.Columns(label="about"))


def test_new_teacher_is_examined_on_as_many_tokens_as_it_reads(
    tiny_bert: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr("eyas.api._examine", lambda teacher, *others: read.append(teacher.teacher.max_length))
    for length in (12, 20):
        settings = eyas.FinetuneSettings(QUICK, max_length=length)
        eyas.finetune(tiny_bert, toy_data, tmp_path / str(length), settings=settings)
    assert read == [12, 20]


def test_new_model_may_be_called_like_its_architecture(
    toy_fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder cin, once it is there, is not what the architecture cin is read from."""
    monkeypatch.chdir(tmp_path)
    settings, columns = eyas.FinetuneSettings(QUICK), eyas.Columns(task="fields")
    for _ in range(2):
        eyas.finetune("cin", toy_fields, "cin", settings=settings, columns=columns)


def test_rows_without_labels_cost_no_steps(tiny_bert: Path, tmp_path: Path) -> None:
    """Sixteen of a hundred training texts have a label: a batch of sixteen, a step an epoch."""
    rows = {"text": [f"text {n}" for n in range(100)], "label": [n % 2 for n in range(100)]}
    whole = eyas.load_data({"train": rows, "validation": {"text": ["one", "two"], "label": [0, 1]}})
    train = damaged(whole["train"], Damage(label_fraction=0.16), lambda _: np.empty(0))
    data = eyas.TaskData({**whole, "train": train})
    arguments = {"num_train_epochs": 3, "per_device_train_batch_size": 16}
    teacher = eyas.finetune(tiny_bert, data, tmp_path / "t", settings=eyas.FinetuneSettings(arguments)).path
    settings = eyas.DistillSettings(eyas.StudentSettings("static"), "hard-labels", arguments=arguments)
    student = eyas.distill(teacher, data, tmp_path / "s", settings=settings).path
    assert [read_history(folder)[-1]["step"] for folder in (teacher, student)] == [3, 3]
    unlabeled = eyas.TaskData({**data, "train": train.select(np.flatnonzero(~is_labeled(train)))})
    with pytest.raises(DataError, match="hard-labels learns from labels, but no training text has one"):
        eyas.distill(teacher, unlabeled, tmp_path / "n", settings=settings)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num_epochs": 2}, "unknown training argument 'num_epochs'.*did you mean num_train_epochs"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"learning_rate": [1]}, "learning_rate"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size is 0"),
        ({"output_dir": "x"}, "output_dir is set by eyas: leave it out"),
        ({"seed": 1}, "the seed is a setting of its own"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    arguments: dict[str, Any], said: str, tiny_bert: Path, teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    student = eyas.DistillSettings(eyas.StudentSettings("static"), arguments=arguments)
    with pytest.raises(ModelError, match=said):
        eyas.finetune(tiny_bert, toy_data, tmp_path / "a", settings=eyas.FinetuneSettings(arguments))
    with pytest.raises(ModelError, match=said):
        eyas.distill(teacher_folder, toy_data, tmp_path / "b", settings=student)
    with pytest.raises(ModelError, match=said):
        eyas.pretrain_student(tiny_bert, {"text": ["a", "b"] * 20}, tmp_path / "c", settings=student)
    assert not list(tmp_path.iterdir())


def test_arguments_may_be_written_as_yaml_reads_them(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    settings = eyas.DistillSettings(
        eyas.StudentSettings("static"), arguments={**QUICK, "learning_rate": "5e-5", "max_steps": np.int64(2)}
    )
    folder = eyas.distill(teacher_folder, toy_data, tmp_path / "out", settings=settings).path
    assert json.loads((folder / "eyas.json").read_text())["settings"]["arguments"]["learning_rate"] == 5e-5


class InterruptedTrainingError(Exception):
    pass


class Interrupt(TrainerCallback):
    """Ends the second training after its first epoch."""

    trainings = 0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.trainings += 1

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainings == 2 and state.epoch >= 1:
            raise InterruptedTrainingError


def rates_of(folder: Path) -> set[float]:
    return {entry["learning_rate"] for entry in read_history(folder) if "learning_rate" in entry}


def test_encoder_that_learned_nothing_starts_again_slower(
    tiny_bert: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def made(name: str, *callbacks: TrainerCallback, **more: Any) -> Path:
        arguments = {"num_train_epochs": 3, "lr_scheduler_type": "constant", "warmup_steps": 0} | more
        settings = eyas.FinetuneSettings(arguments)
        return eyas.finetune(tiny_bert, toy_data, tmp_path / name, settings=settings, callbacks=callbacks).path

    monkeypatch.setattr("eyas.training.finetune.learning_rate", lambda width: 4.0)
    again = made("again")
    assert rates_of(again) == {1.0}
    assert "learned nothing at a learning rate of 4: it does not beat chance on validation" in caplog.text
    with pytest.raises(InterruptedTrainingError):
        made("resumed", Interrupt())
    caplog.clear()
    resumed = made("resumed")  # goes on with the second training
    assert "learned nothing" not in caplog.text
    assert (resumed / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert rates_of(made("given", learning_rate=4.0)) == {4.0}
    assert "learned nothing" not in caplog.text
    monkeypatch.setattr("eyas.training.finetune.learning_rate", lambda width: 3e-3)
    assert rates_of(made("learned", num_train_epochs=6)) == {3e-3}
