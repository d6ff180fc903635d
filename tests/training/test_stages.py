"""What happens between the stages of a recipe."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers import BertForSequenceClassification, PreTrainedModel, TrainerCallback

from eyas import Classifier, DistillSettings, HardLabelLoss, LogitMSELoss, Stage, StudentSettings, Teacher, load_data
from eyas.data.task_data import TaskData
from eyas.errors import ModelError
from eyas.losses import HiddenStateLoss
from eyas.training.distill import distill
from eyas.training.folders import read_history
from eyas.training.recipes import RECIPES, make_stages, recipe_name
from eyas.training.run import frozen
from eyas.training.steps import training_steps

LAST = {"stages": "last"}
ARGUMENTS = {"num_train_epochs": 2, "per_device_train_batch_size": 32}


class LowRank(nn.Module):
    """A linear's weight as the product of its first singular vectors."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left @ right

    def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        return u[:, : self.rank] * s[: self.rank], v[: self.rank]


def _feed_forward(model: PreTrainedModel) -> nn.Linear:
    layer: Any = model.base_model.encoder.layer[0]  # type: ignore[union-attr]
    linear: nn.Linear = layer.intermediate.dense
    return linear


def _factorize(model: PreTrainedModel) -> PreTrainedModel:
    parametrize.register_parametrization(_feed_forward(model), "weight", LowRank(4))
    return model


def _bake(model: PreTrainedModel) -> PreTrainedModel:
    parametrize.remove_parametrizations(_feed_forward(model), "weight")
    return model


class Own(BertForSequenceClassification):
    """A class that no Auto class knows."""


def _own(model: PreTrainedModel) -> PreTrainedModel:
    own = Own(model.config)
    own.load_state_dict(model.state_dict())
    return own


def compressed(rate: float = 1e-3) -> list[Stage]:
    """A recipe outside the package: logits, with a low-rank layer."""
    return [Stage([LogitMSELoss()], {"learning_rate": rate}, before=_factorize, finish=_bake)]


def test_stage_transforms_student_before_and_after(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    settings = DistillSettings(StudentSettings("bert", layers=1, max_length=48), compressed, arguments=ARGUMENTS)
    folder = distill(Teacher(teacher_folder, max_length=64), load_data(toy_data), tmp_path / "student", settings)
    model: Any = Classifier.from_pretrained(folder).model
    assert type(model).__name__ == "BertForSequenceClassification"
    weight = _feed_forward(model).weight
    assert torch.linalg.matrix_rank(weight, rtol=1e-4) == 4


def test_distill_refuses_student_that_cannot_be_loaded(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    def unfinished() -> list[Stage]:
        return [Stage([LogitMSELoss()], before=_factorize)]

    def forgetful() -> list[Stage]:
        return [Stage([LogitMSELoss()], before=lambda model: None)]  # type: ignore[arg-type, return-value]

    def unregistered() -> list[Stage]:
        return [Stage([LogitMSELoss()], finish=_own)]

    for recipe, message in (
        (unregistered, r"does not load a Own from a BertConfig\. Register both"),
        (unfinished, r"parametrizations.*Merge in Stage\(finish"),
        (forgetful, "returned NoneType"),
    ):
        settings = DistillSettings(StudentSettings("bert", layers=1, max_length=48), recipe, arguments=ARGUMENTS)
        with pytest.raises(ModelError, match=message):
            distill(Teacher(teacher_folder, max_length=64), load_data(toy_data), tmp_path / recipe.__name__, settings)
        assert not (tmp_path / recipe.__name__).exists()


def test_stages_are_named_in_the_log(
    teacher_folder: Path, toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def two() -> list[Stage]:
        return [Stage([LogitMSELoss()]), Stage([HardLabelLoss()])]

    caplog.set_level("INFO", "eyas")
    settings = DistillSettings(StudentSettings("static", embedding_size=16), two, arguments=ARGUMENTS)
    distill(Teacher(teacher_folder, max_length=64), load_data(toy_data), tmp_path / "student", settings)
    messages = [message for message in caplog.messages if message.startswith(("Stage", "epoch"))]
    assert [message for message in messages if message.startswith("Stage")] == [
        "Stage 1 of 2: LogitMSELoss.",
        "Stage 2 of 2: HardLabelLoss.",
    ]
    assert messages[0].startswith("Stage 1")
    assert messages[-1].startswith("epoch")


def test_make_stages_finds_recipe_by_module_and_function(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my_recipes.py").write_text(
        "import eyas\n\n\ndef labels(weight=1.0):\n    return [eyas.Stage([eyas.HardLabelLoss(weight=weight)])]\n"
    )
    monkeypatch.chdir(tmp_path)
    (stage,) = make_stages("my_recipes:labels", {"weight": 0.5})
    assert stage.losses[0].weight == 0.5
    with pytest.raises(ModelError, match=r"'speed'.*weight"):
        make_stages("my_recipes:labels", {"speed": 1})
    with pytest.raises(ModelError, match=r"'my_recipes:nothing'"):
        make_stages("my_recipes:nothing")
    with pytest.raises(ModelError, match=r"'no_such_module:labels'"):
        make_stages("no_such_module:labels")
    assert recipe_name(compressed) == f"{__name__}:compressed"


def test_given_steps_are_divided_by_the_lengths_of_the_stages() -> None:
    def unequal() -> list[Stage]:
        return [Stage([HardLabelLoss()], length=3), Stage([HardLabelLoss()])]

    assert [stage.share for stage in make_stages(unequal)] == [0.75, 0.25]
    counts = [training_steps(DistillSettings(recipe=unequal, recipe_options=options), 6400) for options in ({}, LAST)]
    assert counts == [4 * 3000, 3000]  # by default 30 epochs of 100 steps, and 3 times that
    settings = DistillSettings(recipe=unequal, recipe_options=LAST, arguments={"max_steps": 100})
    assert training_steps(settings, 6400) == 25

    def none() -> list[Stage]:
        return [Stage([HardLabelLoss()], length=0)]

    with pytest.raises(ModelError, match=r"lengths \[0\]"):
        make_stages(none)


def test_recipes_include_every_public_function_that_returns_stages() -> None:
    assert {"hard-labels", "logit-mse", "dist", "tinybert", "theseus", "annealing"} <= RECIPES.keys()
    assert all(make_stages(name) for name in RECIPES)
    assert all(recipe.__doc__ for recipe in RECIPES.values())


def test_frozen_modules_unfreeze_after_the_stage() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].bias.requires_grad_(False)
    with frozen(model, ("1",)):
        assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, False, False]
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, True, False]


def test_distill_starts_from_given_model_with_its_head(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    data, teacher = load_data(toy_data), Teacher(teacher_folder, max_length=64)
    settings = DistillSettings(StudentSettings("static", embedding_size=16), "logit-mse", arguments=ARGUMENTS)
    first = Classifier.from_pretrained(distill(teacher, data, tmp_path / "first", settings))
    before = {name: value.clone() for name, value in first.model.state_dict().items()}
    still = DistillSettings(recipe="logit-mse", arguments={"max_steps": 1, "learning_rate": 1e-9})
    folder = distill(teacher, data, tmp_path / "second", still, start=(first.model, first.tokenizer))
    after = Classifier.from_pretrained(folder).model.state_dict()
    assert all(torch.allclose(after[name], value, atol=1e-6) for name, value in before.items())
    tinybert = DistillSettings(recipe="tinybert", arguments=ARGUMENTS)
    with pytest.raises(ModelError, match="reads the student's layers"):
        distill(teacher, data, tmp_path / "third", tinybert, start=(first.model, first.tokenizer))


def _inner() -> list[Stage]:
    return [Stage([HiddenStateLoss("final")])]


def _films_with_odd_words(toy_data: Path, odd: int) -> TaskData:
    """The toy films, with a word in the first `odd` validation texts that a student's vocabulary lacks."""
    films = load_data(toy_data)
    splits: dict[str, dict[str, list[str]]] = {}
    for split, count in (("train", 0), ("validation", odd)):
        texts = [f"{text} rome" if row < count else text for row, text in enumerate(films[split]["text"])]
        splits[split] = {"text": texts, "label": [films.labels[label] for label in films[split]["label"]]}
    return load_data(splits)


@pytest.mark.parametrize("odd", [20, 60])
def test_best_objective_on_validation_texts_chooses_checkpoint_of_a_stage_below_the_head(
    odd: int, teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    """Held against hidden states from transformers, of the texts whose tokens both models know; else the last."""
    data, teacher = _films_with_odd_words(toy_data, odd), Teacher(teacher_folder, max_length=64, dtype="float32")
    student_settings = StudentSettings("bert", layers=1, max_length=64)
    arguments = {**ARGUMENTS, "bf16": False, "per_device_train_batch_size": 64}  # all in one batch
    settings = DistillSettings(student_settings, _inner, arguments=arguments)
    folder = distill(teacher, data, tmp_path / "student", settings)
    found = [entry["eval_objective"] for entry in read_history(folder) if "eval_objective" in entry]
    assert len(found) == 2
    student: Any = Classifier.from_pretrained(folder)
    errors = []
    for text in data["validation"]["text"][odd:]:
        states = []
        for side in (student, teacher):
            inputs = side.tokenizer(text, return_tensors="pt")
            with torch.no_grad():
                states.append(side.model(**inputs, output_hidden_states=True).hidden_states[-1][0])
        errors.append((states[0] - states[1]).square().mean(1))
    if errors:
        assert min(found) == pytest.approx(float(torch.cat(errors).mean()), rel=1e-4)
    else:
        settings = replace(settings, arguments={**arguments, "load_best_model_at_end": False})
        last = distill(teacher, data, tmp_path / "last", settings)
        assert (folder / "model.safetensors").read_bytes() == (last / "model.safetensors").read_bytes()


def _two() -> list[Stage]:
    return [Stage([LogitMSELoss()]), Stage([HardLabelLoss()])]


class Stop(TrainerCallback):
    """Interrupts a training in the second step of its second stage."""

    stages = 0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.stages += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.stages == 2 and state.global_step == 2:
            raise KeyboardInterrupt


@pytest.mark.process
def test_stages_stop_early_and_resume_with_the_same_bits(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    data, teacher = load_data(toy_data), Teacher(teacher_folder, max_length=64)
    student, arguments = StudentSettings("static", embedding_size=16), {"per_device_train_batch_size": 64}
    settings = DistillSettings(student, _two, arguments=arguments, patience=2)
    whole = distill(teacher, data, tmp_path / "whole", settings)
    with pytest.raises(KeyboardInterrupt):
        distill(teacher, data, tmp_path / "resumed", settings, callbacks=[Stop()])
    resumed = distill(teacher, data, tmp_path / "resumed", settings)
    for file in ("model.safetensors", "training_history.jsonl"):
        assert (whole / file).read_bytes() == (resumed / file).read_bytes()
    for folder in (whole, resumed):
        history = [entry for entry in read_history(folder) if "eval_score" in entry]
        for number in (0, 1):
            stage = [entry["eval_score"] for entry in history if entry["stage"] == number]
            assert len(stage) < 15  # of 30 / 2 epochs
            assert len(stage) == stage.index(max(stage)) + 3


@pytest.mark.parametrize(("given", "stops"), [({}, True), ({"num_train_epochs": 30}, False)])
def test_training_stops_early_unless_its_length_is_given(
    given: dict[str, Any], stops: bool, teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    settings = DistillSettings(
        StudentSettings("static", embedding_size=16),
        "logit-mse",
        arguments={"per_device_train_batch_size": 64, **given},
    )
    folder = distill(Teacher(teacher_folder, max_length=64), load_data(toy_data), tmp_path / "student", settings)
    scores = [entry["eval_score"] for entry in read_history(folder) if "eval_score" in entry]
    best = scores.index(max(scores)) + 1
    assert len(scores) == (min(best + 10, 30) if stops else 30)  # a third of 30 epochs
    assert best < 20


def test_stages_that_change_over_the_training_do_not_stop_early() -> None:
    whole = {name: [stage.is_scheduled for stage in make_stages(name)] for name in ("annealing", "theseus", "tinybert")}
    assert whole == {"annealing": [True, False], "theseus": [True], "tinybert": [False, False]}
    assert make_stages("soft-targets", {"temperature": "linear:8:1"})[0].is_scheduled


def test_last_stage_alone_has_the_losses_that_it_has_in_the_recipe() -> None:
    (last,) = make_stages("tinybert", {**LAST, "weights": "learned"})
    assert [type(loss).__name__ for loss in last.losses] == ["SoftCrossEntropyLoss"]
    with pytest.raises(ModelError, match="logit-mse has one"):
        make_stages("logit-mse", LAST)
