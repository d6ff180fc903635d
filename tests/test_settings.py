"""Settings are defined once: the command line, plans and model cards are generated from them."""

from dataclasses import fields
from pathlib import Path

import pytest

from eyas.errors import ModelError
from eyas.exam.plan_parts import DataPlan, StudentPlan
from eyas.export.model_card import FLAGS
from eyas.models import STUDENTS as MODELS
from eyas.settings import (
    STUDENTS,
    Columns,
    DistillSettings,
    FinetuneSettings,
    StudentSettings,
    TeacherTrainingOptions,
    TrainingOptions,
    TransferSettings,
    flag_of,
    options_of,
)

KINDS = (StudentSettings, TransferSettings, TrainingOptions, Columns)


def test_student_names_match_models() -> None:
    assert tuple(MODELS) == STUDENTS


def test_one_method_may_be_a_string() -> None:
    settings = TransferSettings(augment="tang:5", select="same-label")  # type: ignore[arg-type]
    assert (settings.augment, settings.select) == (("tang:5",), ("same-label",))


@pytest.mark.parametrize("kind", [DistillSettings, FinetuneSettings])
@pytest.mark.parametrize("seed", [-1, 2**32])
def test_numbers_that_are_no_seeds_are_refused(kind: type, seed: int) -> None:
    with pytest.raises(ModelError, match=r"seed \(--seed\) is .*, expected 0 to 4,294,967,295"):
        kind(seed=seed)


def test_settings_are_on_the_command_line() -> None:
    from typer.main import get_command

    from eyas.cli import app

    distill = get_command(app).commands["distill"]  # type: ignore[attr-defined]
    flags = {flag for parameter in distill.params for flag in parameter.opts}
    for kind in KINDS:
        assert {flag_of(name, option) for name, option in options_of(kind).items()} <= flags


def test_settings_are_in_plans_and_on_model_cards() -> None:
    known = {field.name for kind in (StudentPlan, DataPlan) for field in fields(kind)}
    for kind in (StudentSettings, TransferSettings, Columns):
        assert options_of(kind).keys() <= known
        assert options_of(kind).keys() <= FLAGS.keys()


@pytest.mark.parametrize(("name", "value"), [("layers", 0), ("hidden_size", -1), ("max_length", 1)])
def test_settings_refuse_values_out_of_range(name: str, value: int) -> None:
    with pytest.raises(ModelError, match=rf"{name} \(--{name.replace('_', '-')}\) is {value}"):
        StudentSettings(**{name: value})  # type: ignore[arg-type]


def test_command_options_keep_groups_and_order(capsys: pytest.CaptureFixture[str]) -> None:
    from typer.main import get_command

    from eyas.cli import app

    for command in ("distill", "finetune"):
        parameters = get_command(app).commands[command].params  # type: ignore[attr-defined]
        panels = list(dict.fromkeys(getattr(p, "rich_help_panel", None) for p in parameters if p.name != "help"))
        assert panels == [name for name in ("Data", "Student", "Method", "Training", "Output") if name in panels]
        assert {"Data", "Training", "Output"} <= set(panels)


def test_student_plan_accepts_student_settings(tmp_path: Path) -> None:
    plan = StudentPlan(architecture="cnn", hidden_size=96, freeze_embeddings=True)
    assert plan.name == "cnn-h96-frozen"
    assert plan.settings("random") == StudentSettings(
        "cnn", hidden_size=96, freeze_embeddings=True, embeddings="random"
    )


def test_help_shows_the_defaults_of_training() -> None:
    from eyas.training import finetune, steps
    from eyas.training.arguments import DistillationArguments

    students, teachers = options_of(TrainingOptions), options_of(TeacherTrainingOptions)
    batch, rate = "per_device_train_batch_size", "learning_rate"
    assert float(teachers[batch].show_default) == finetune.DEFAULTS[batch]
    assert float(teachers[rate].show_default.split(";")[0]) == finetune.learning_rate(768)
    assert f"{finetune.STEPS:,} steps" in teachers["num_train_epochs"].show_default
    assert float(students[batch].show_default) == DistillationArguments.per_device_train_batch_size
    assert f"{steps.STEPS:,} steps a stage" in students["num_train_epochs"].show_default
