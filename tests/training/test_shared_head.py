"""Teachers that are fine-tuned together under one head, and the student that learns their hidden states."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PLANTED, Once
from transformers import AutoTokenizer, BertConfig, BertModel, TrainerCallback

import eyas
from eyas import DistillSettings, FinetuneSettings, Teacher, load_data
from eyas.errors import ModelError
from eyas.losses import TeachersStatesLoss
from eyas.models.inside import EACH, EACH_STATES
from eyas.models.loading import load_encoder
from eyas.models.shared_head import SharedHead
from eyas.teachers import CombinedTeacher

Run = Callable[..., tuple[int, str, str]]
SETTINGS = FinetuneSettings(arguments={"num_train_epochs": 2, "learning_rate": 1e-3, "per_device_train_batch_size": 60})


@pytest.fixture(scope="module")
def encoders(once: Once, tiny_bert: Path) -> list[Path]:
    """Two encoders of the same hidden size, of two and three layers."""

    def make(folder: Path) -> None:
        torch.manual_seed(7)
        tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
        config = BertConfig.from_pretrained(tiny_bert, num_hidden_layers=3)
        BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return [tiny_bert, once("three-layers-v1.5", make)]


@pytest.fixture(scope="module")
def teachers(once: Once, encoders: list[Path], toy_data: Path) -> Path:
    return once("shared-head", lambda out: eyas.finetune_together(encoders, toy_data, out, settings=SETTINGS))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(Teacher(folder).model.state_dict())


def test_teachers_have_one_head(teachers: Path, encoders: list[Path], toy_data: Path) -> None:
    two, three = (_weights(teachers / encoder.name) for encoder in encoders)
    head = {name for name in two if "encoder" not in name and "embeddings" not in name}
    assert head == {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert all(torch.equal(two[name], three[name]) for name in head)
    words, last = "bert.embeddings.word_embeddings.weight", "bert.encoder.layer.2.output.dense.weight"
    assert not torch.equal(two[words], three[words])
    untrained = load_encoder(encoders[1], load_data(toy_data).task)[0].state_dict()
    assert not torch.equal(three[last], untrained[last])
    assert not (teachers / "work").exists()
    history = (teachers / "training_history.jsonl").read_text()
    assert all(f"loss/{encoder.name}/HardLabelLoss" in history for encoder in encoders)


class _InterruptedError(Exception):
    pass


class _StopAtStep(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 10:
            raise _InterruptedError


def test_interrupted_teachers_resume_with_the_same_bits(
    teachers: Path, encoders: list[Path], toy_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(_InterruptedError):
        eyas.finetune_together(encoders, toy_data, tmp_path / "out", settings=SETTINGS, callbacks=[_StopAtStep()])
    assert list((tmp_path / "out.partial").glob("work/checkpoint-*"))
    made = eyas.finetune_together(encoders, toy_data, tmp_path / "out", settings=SETTINGS)
    for name, one in made.items():
        for key, weight in _weights(teachers / name).items():
            assert torch.equal(weight, one.model.state_dict()[key])


def test_states_of_teachers_are_weighted_by_their_errors() -> None:
    """Two teachers of one layer and two texts of one token. The first teacher is sure and right, the second says 1/2.

    Weights 1 / (1 + 0) and 1 / (1 + ln 2) = 0.590616. Squared errors of the first 1 and 4, of the second 4 and 9.
    """
    loss = TeachersStatesLoss()
    model = type("Model", (), {"config": type("Config", (), {"hidden_size": 1, "num_hidden_layers": 1})})
    teacher = type("Teacher", (), {"fields": {"hidden_states"}, "model": model})
    both = type("Both", (), {"teachers": [teacher, teacher]})
    loss.prepare(type("Config", (), {"hidden_size": 1, "num_hidden_layers": 1}), both)
    for projections in loss.projections:
        projections[0].weight.data.fill_(2.0)  # type: ignore[index]
    student = {"hidden_states": (torch.zeros(2, 1, 1), torch.tensor([[[1.0]], [[4.0]]]))}
    none = torch.zeros(2, 1)
    states = ((none, torch.tensor([[1.0], [3.0]])), (none, torch.tensor([[-0.5], [0.5]])))
    logits = torch.tensor([[[40.0, 0.0], [0.0, 0.0]]]).expand(2, 2, 2)
    batch = {"labels": torch.zeros(2, dtype=torch.long), "attention_mask": torch.ones(2, 1)}
    with torch.no_grad():
        found = loss(student, {EACH: logits, EACH_STATES: states}, batch)
    assert float(found) == pytest.approx((1 + 4) / 2 + 0.590616 * (4 + 9) / 2, abs=1e-5)


def test_student_learns_states_of_both(teachers: Path, encoders: list[Path], toy_data: Path, tmp_path: Path) -> None:
    folders = [teachers / encoder.name for encoder in encoders]
    settings = DistillSettings(arguments={"max_steps": 6}, recipe_options={"hidden_weight": 1.0})
    student = eyas.StudentSettings("bert", layers=1)
    trained = eyas.distill(folders, toy_data, tmp_path / "out", student, teachers="label-loss", settings=settings)
    rows = [row for row in trained.history if "loss/TeachersStatesLoss" in row]
    assert rows
    assert all(row["loss/TeachersStatesLoss"] > 0 for row in rows)
    outputs = CombinedTeacher([Teacher(folder) for folder in folders]).outputs(
        {"text": ["a great film", "dull"]}, ("logits", EACH_STATES)
    )
    assert [[tuple(layer.shape) for layer in one] for one in outputs[EACH_STATES]] == [[(2, 32)] * 3, [(2, 32)] * 4]


def test_command_makes_teachers(encoders: list[Path], toy_data: Path, tmp_path: Path, run: Run) -> None:
    models = [part for encoder in encoders for part in ("--model", encoder)]
    code, _, err = run(
        "finetune", *models, "--shared-head", "--data", toy_data, "--epochs", 0.1, "--out", tmp_path / "t"
    )
    assert code == 0, err
    assert "teacher three-layers-v1.5 is in" in err
    assert "--recipe mt-bert" in err
    assert json.loads((tmp_path / "t" / "three-layers-v1.5" / "config.json").read_text())["num_hidden_layers"] == 3
    code, _, err = run("finetune", *models, "--data", toy_data, "--out", tmp_path / "other")
    assert code == 2
    assert "Several encoders (--model) are trained at once with --shared-head" in err


def test_shared_heads_are_checked(encoders: list[Path], toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="needs several models"):
        eyas.finetune_together(encoders[:1], toy_data, tmp_path / "out")
    shutil.copytree(encoders[0], tmp_path / "copy" / encoders[0].name)
    with pytest.raises(ModelError, match="Two models are called tiny-bert"):
        eyas.finetune_together([encoders[0], tmp_path / "copy" / encoders[0].name], toy_data, tmp_path / "out")
    wide = BertModel(BertConfig(vocab_size=200, hidden_size=24, num_hidden_layers=1, num_attention_heads=2))
    wide.save_pretrained(tmp_path / "wide")
    AutoTokenizer.from_pretrained(encoders[0]).save_pretrained(tmp_path / "wide")
    task = load_data(toy_data).task
    with pytest.raises(ModelError, match="tiny-bert and wide cannot share a head"):
        SharedHead({path.name: load_encoder(path, task)[0] for path in (encoders[0], tmp_path / "wide")})
    settings = DistillSettings(arguments={"max_steps": 5}, recipe_options={"hidden_weight": 1.0})
    teachers = [PLANTED / "films", eyas.FunctionTeacher(_says, ["negative", "positive"], version="1")]
    with pytest.raises(ModelError, match="compares the layers of all teachers"):
        eyas.distill(teachers, toy_data, tmp_path / "s", "bert", teachers="label-loss", settings=settings)


def _says(texts: list[str]) -> Any:
    return torch.full((len(texts), 2), 0.5).numpy()
