"""Two stages that are interrupted in the second, and go on as if nothing had happened."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import make_trainer
from transformers import TrainerCallback, TrainerState

import eyas
from eyas import DistillSettings, HardLabelLoss, LogitMSELoss, StudentSettings, Teacher, create_student, load_data
from eyas.errors import ModelError, OutputError
from eyas.losses.hidden_states import HiddenStateLoss
from eyas.losses.layer_mapping import layer_mapping
from eyas.settings import TransferSettings
from eyas.training.checkpoints import relocate
from eyas.training.recipes import recipe_source
from eyas.training.recipes.base import Stage
from eyas.training.steps import stage_arguments


class InterruptedTrainingError(Exception):
    pass


class InSecondStage(TrainerCallback):
    trainings = 0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.trainings += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainings == 2 and state.global_step == 3:
            raise InterruptedTrainingError


def two_stages() -> list[Stage]:
    return [Stage([HardLabelLoss()]), Stage([LogitMSELoss()])]


@pytest.fixture
def distill(teacher_folder: Path, toy_data: Path) -> Callable[..., Path]:
    def run(out: Path, *callbacks: TrainerCallback, recipe: Any = two_stages, **arguments: Any) -> Path:
        arguments = {"per_device_train_batch_size": 32, "lr_scheduler_type": "constant", **arguments}
        settings = DistillSettings(
            StudentSettings("static", embedding_size=8, init="none"),
            transfer=TransferSettings(augment=()),
            arguments=arguments,
        )
        made = eyas.distill(teacher_folder, toy_data, out, recipe=recipe, settings=settings, callbacks=callbacks)
        return made.path

    return run


@pytest.mark.parametrize("arguments", [{"num_train_epochs": 3}, {"max_steps": 14}])
def test_stage_that_ended_within_an_epoch_is_not_trained_on(
    distill: Callable[..., Path], arguments: dict[str, Any], tmp_path: Path
) -> None:
    whole = distill(tmp_path / "whole", **arguments)
    with pytest.raises(InterruptedTrainingError):
        distill(tmp_path / "broken", InSecondStage(), **arguments)
    broken = distill(tmp_path / "broken", **arguments)
    for name in ("model.safetensors", "training_history.jsonl"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()


def test_run_that_was_moved_goes_on_from_its_best_checkpoint(distill: Callable[..., Path], tmp_path: Path) -> None:
    arguments = {"num_train_epochs": 8, "learning_rate": 0.5}
    whole = distill(tmp_path / "whole", **arguments)
    (tmp_path / "here").mkdir()
    with pytest.raises(InterruptedTrainingError):
        distill(tmp_path / "here" / "broken", InSecondStage(), **arguments)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = distill(tmp_path / "there" / "broken", **arguments)
    assert (moved / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_longer_training_goes_on_from_the_end_of_a_shorter_one(
    teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    """And the same training again ends at once."""
    train, teacher = load_data(toy_data)["train"], Teacher(teacher_folder, max_length=64)

    def steps(length: int) -> int:
        model, tokenizer = create_student(StudentSettings("static", init="none"), teacher, train)
        known = {"max_steps": length, "save_strategy": "steps", "save_steps": 2}
        trainer = make_trainer(model, tokenizer, train, [HardLabelLoss()], None, tmp_path / "out", **known)
        return int(trainer.train(resume_from_checkpoint=True).global_step)

    assert [steps(4), steps(4), steps(8)] == [4, 4, 8]


def test_best_checkpoint_of_another_folder_is_kept(tmp_path: Path) -> None:
    """Training goes on in a folder of its own."""
    best, here = tmp_path / "first" / "checkpoint-2", tmp_path / "second" / "checkpoint-10"
    best.mkdir(parents=True)
    here.mkdir(parents=True)
    TrainerState(best_model_checkpoint=str(best)).save_to_json(str(here / "trainer_state.json"))
    relocate(here)
    assert TrainerState.load_from_json(str(here / "trainer_state.json")).best_model_checkpoint == str(best)


def test_length_that_is_given_replaces_that_of_a_stage(tmp_path: Path) -> None:
    settings = DistillSettings(arguments={"num_train_epochs": 2})
    found = stage_arguments(Stage([HardLabelLoss()], {"max_steps": 6}), settings, 64, tmp_path)
    assert (found.max_steps, found.num_train_epochs) == (-1, 2)


def test_recipe_whose_loss_changed_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function is the same, the loss beside it is not."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, value in (("first_recipes", 1), ("other_recipes", 2), ("same_recipes", 1)):
        code = f"class Own:\n    def forward(self):\n        return {value}\n\ndef mine():\n    pass\n"
        (tmp_path / f"{name}.py").write_text(code)
    first, other, same = (recipe_source(f"{name}_recipes:mine") for name in ("first", "other", "same"))
    assert first == same != other


def test_recipe_whose_constant_changed_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no function of the file reads does not count."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, weight, folder in (("first_constants", 1, "a"), ("other_constants", 5, "a"), ("same_constants", 1, "b")):
        code = f"WEIGHT, OUT = {weight}, {folder!r}\n\ndef mine():\n    return [WEIGHT for _ in range(2)]\n"
        (tmp_path / f"{name}.py").write_text(code)
    first, other, same = (recipe_source(f"{name}_constants:mine") for name in ("first", "other", "same"))
    assert first == same != other


def test_recipe_beside_values_of_any_kind_has_a_lasting_hash(tmp_path: Path) -> None:
    """Of two processes; functions and sets print otherwise in each."""
    code = (
        "from collections import namedtuple\nKind = namedtuple('Kind', 'a')\ndef scale(x): return x\n"
        "TABLE, WORDS = {'a': scale}, ({'x', 'y', 'z'},)\ndef mine():\n    return TABLE, WORDS, VALUE\n"
    )
    (tmp_path / "kinds_recipes.py").write_text("VALUE = 1\n" + code)
    (tmp_path / "kinds_changed.py").write_text("VALUE = 2\n" + code)
    ask = "import sys; from eyas.training.recipes import recipe_source; print(recipe_source(sys.argv[1]))"
    found = [
        subprocess.run([sys.executable, "-c", ask, name], cwd=tmp_path, capture_output=True, text=True, check=True)
        for name in ("kinds_recipes:mine", "kinds_recipes:mine", "kinds_changed:mine")
    ]
    first, again, changed = (run.stdout for run in found)
    assert "recipe_source" in first
    assert first == again != changed


def test_recipe_whose_code_changed_is_another(distill: Callable[..., Path], tmp_path: Path) -> None:
    def mine() -> list[Stage]:
        return [Stage([LogitMSELoss()])]

    distill(tmp_path / "out", recipe=mine, max_steps=1)
    distill(tmp_path / "out", recipe=mine, max_steps=1)

    def other() -> list[Stage]:
        return [Stage([HardLabelLoss()])]

    other.__qualname__ = mine.__qualname__
    with pytest.raises(OutputError, match="recipe_source"):
        distill(tmp_path / "out", recipe=other, max_steps=1)


UNUSED = ["dataloader_drop_last", "prediction_loss_only", "auto_find_batch_size", "label_smoothing_factor"]


@pytest.mark.parametrize("name", UNUSED)
def test_arguments_without_effect_are_refused(distill: Callable[..., Path], name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"{name} does not work here"):
        distill(tmp_path / "out", **{name: True if name != "label_smoothing_factor" else 0.1})


def test_stage_keeps_a_length_of_its_own() -> None:
    own, half = Stage([HardLabelLoss()], {"max_steps": 100}, share=0.5), Stage([HardLabelLoss()], share=0.5)
    given = DistillSettings(arguments={"max_steps": 100})
    assert stage_arguments(own, DistillSettings(), 64, Path("work")).max_steps == 100
    assert stage_arguments(half, given, 64, Path("work")).max_steps == 50


def test_losses_that_were_used_before_start_alike(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    teacher, data = Teacher(teacher_folder, max_length=32), load_data(toy_data)
    losses = [HiddenStateLoss(layer_mapping("final"))]
    projections = []
    for number in range(2):
        student, tokenizer = create_student(
            StudentSettings("bert", layers=1, hidden_size=16, feed_forward=16, max_length=32), teacher, data["train"]
        )
        make_trainer(student, tokenizer, data["train"], losses, teacher, tmp_path / str(number))
        projections.append(losses[0].projection.weight.detach().clone())
        losses[0].projection.weight.data.add_(1)  # as training changes it
    assert projections[0].equal(projections[1])
