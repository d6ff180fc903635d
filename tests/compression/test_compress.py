"""A model is compressed, trained back, exported and examined, for each kind of task."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, TrainerCallback

import eyas
from eyas.compression.low_bits import LossAware
from eyas.errors import ModelError
from eyas.exam.plan_file import make_plan
from eyas.settings import DistillSettings, TransferSettings

ALL = ("low-rank:0.6", "heads:0.25", "units:0.5", "prune:0.2", "ternary")
SHORT = DistillSettings(
    transfer=TransferSettings(augment=()), arguments={"num_train_epochs": 2, "per_device_train_batch_size": 32}
)


@pytest.fixture(scope="module")
def small(teacher_folder: Path, toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The toy teacher, compressed by every method at once."""
    return eyas.compress(teacher_folder, ALL, toy_data, tmp_path_factory.mktemp("small") / "out", settings=SHORT)


@pytest.mark.process
def test_compressed_model_is_ordinary_and_as_good(small: Any, toy_data: Path, teacher_folder: Path) -> None:
    model: Any = AutoModelForSequenceClassification.from_pretrained(small.path)
    assert type(model).__name__ == "BertForSequenceClassification"
    assert model.config.eyas_compression == list(ALL)
    assert small.evaluate(toy_data, teacher_folder)["retention"] > 0.9
    factors = load_file(small.path / "factors.safetensors")
    name = "bert.encoder.layer.1.output.dense"
    weight = model.get_submodule(name).weight
    assert torch.allclose(factors[f"{name}.up"] @ factors[f"{name}.down"], weight, atol=1e-6)
    assert bool((weight == 0).all(0).any())  # units that are no longer read
    for factor in factors.values():  # ternary, with a scale for each row
        assert factor.numel() < 512 or all(len(row.abs().unique()) <= 2 for row in factor)


@pytest.mark.process
def test_its_export_is_a_small_graph_with_the_same_answers(small: Any, toy_data: Path, tmp_path: Path) -> None:
    texts = list(eyas.load_data(toy_data)["test"]["text"])
    shipped = eyas.Predictor(small.export(tmp_path / "fp32"))
    assert np.allclose(shipped.predict_proba(texts), small.predict_proba(texts), atol=1e-4)
    exported = eyas.Predictor(small.export(tmp_path / "int8", int8=True))
    assert exported.manifest.precision == "ternary"
    assert (exported.predict(texts) == small.predict(texts)).mean() > 0.97
    card = (tmp_path / "int8" / "README.md").read_text()
    assert "low-rank:0.6, heads:0.25, units:0.5, prune:0.2, ternary" in card


@pytest.mark.process
def test_factors_of_another_training_are_refused(small: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in small.path.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    factors = load_file(copy / "factors.safetensors")
    name = next(name for name in factors if name.endswith("query.up"))
    save_file({**factors, name: factors[name] * 1.01}, copy / "factors.safetensors")
    with pytest.raises(ModelError, match=r"does not belong to the weights beside it \(.*query\)"):
        eyas.export_model(copy, tmp_path / "out")
    (copy / "factors.safetensors").unlink()
    with pytest.raises(ModelError, match="has no factors.safetensors: copy the whole folder"):
        eyas.export_model(copy, tmp_path / "out")


@pytest.mark.process
def test_what_starts_from_it_is_not_compressed(small: Any, toy_data: Path, tmp_path: Path) -> None:
    """Neither its student nor what is fine-tuned from it says that its weights are of low rank."""
    student = eyas.StudentSettings("bert", layers=1, max_length=48)
    settings = DistillSettings(student, "logit-mse", transfer=TransferSettings(augment=()), arguments={"max_steps": 2})
    made = eyas.distill(small.path, toy_data, tmp_path / "student", settings=settings)
    tuned = eyas.finetune(small.path, toy_data, tmp_path / "tuned", settings=eyas.FinetuneSettings({"max_steps": 2}))
    for model in (made, tuned):
        assert not hasattr(model.model.config, "eyas_compression")
        eyas.export_model(model.path, tmp_path / "shipped", overwrite=True)


@pytest.mark.process
def test_it_is_not_compressed_again(small: Any, toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="was compressed before"):
        eyas.compress(small.path, "int4", toy_data, tmp_path / "out", settings=SHORT)


@pytest.mark.process
@pytest.mark.parametrize("kind", ["tags", pytest.param("regression", marks=pytest.mark.slow)])
def test_taggers_and_regressions(kind: str, toys: Any, tiny_bert: Path, tmp_path: Path) -> None:
    settings = eyas.FinetuneSettings(arguments={"num_train_epochs": 10, "learning_rate": 1e-3})
    teacher = eyas.finetune(tiny_bert, toys[kind], tmp_path / "teacher", settings=settings)
    methods = ("low-rank:0.7", "heads:0.25", "int8")
    small = eyas.compress(teacher, methods, toys[kind], tmp_path / "small", settings=SHORT)
    auto: Any = AutoModelForTokenClassification if kind == "tags" else AutoModelForSequenceClassification
    assert auto.from_pretrained(small.path).config.eyas_compression == list(methods)
    assert eyas.export_model(small.path, tmp_path / "fp32").agreement > 0.999
    eyas.export_model(small.path, tmp_path / "int8", int8=True, min_agreement=0.9)


class Stop(TrainerCallback):
    """Interrupts a training in the second of its rounds."""

    rounds = 0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.rounds += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.rounds == 2 and state.global_step == 2:
            raise KeyboardInterrupt


@pytest.mark.process
@pytest.mark.parametrize(
    "recipe", ["ladabert", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ternarybert", "shared"))]
)
def test_interrupted_compression_resumes_with_the_same_bits(
    recipe: str, teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    """In the middle of a schedule of pruning, and between stages."""
    compress = ("shared", "prune:0.3") if recipe == "shared" else ()
    settings = DistillSettings(
        eyas.StudentSettings("bert", max_length=48, compress=compress),
        "tinybert" if recipe == "shared" else recipe,
        {"scales": "loss-aware-layer"} if recipe == "ternarybert" else {},
        transfer=TransferSettings(augment=()),
        arguments={"num_train_epochs": 8, "per_device_train_batch_size": 64},
    )
    whole = eyas.distill(teacher_folder, toy_data, tmp_path / "whole", settings=settings)
    stop = Stop()
    stop.rounds = int(recipe == "ternarybert")
    with pytest.raises(KeyboardInterrupt):
        eyas.distill(teacher_folder, toy_data, tmp_path / "resumed", settings=settings, callbacks=[stop])
    resumed = eyas.distill(teacher_folder, toy_data, tmp_path / "resumed", settings=settings)
    assert (whole.path / "model.safetensors").read_bytes() == (resumed.path / "model.safetensors").read_bytes()


@pytest.mark.process
def test_ladabert_prunes_in_rounds(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    """By hand: half is pruned in four rounds, 0.5 · (1 - (3/4)³), 0.5 · (1 - (2/4)³) ... of the factors."""
    settings = DistillSettings(
        eyas.StudentSettings("bert", max_length=48),
        "ladabert",
        transfer=TransferSettings(augment=()),
        arguments={"max_steps": 4},
    )
    small = eyas.distill(teacher_folder, toy_data, tmp_path / "out", settings=settings)
    assert small.model.config.eyas_compression == ["low-rank:0.5", "prune:0.5"]
    factors = load_file(small.path / "factors.safetensors")
    zeros = {name: float((factor == 0).float().mean()) for name, factor in factors.items() if factor.numel() >= 512}
    assert zeros
    assert all(share == pytest.approx(0.5, abs=0.01) for share in zeros.values())
    rounds = [json.loads(stage.before.methods[-1].split(":")[1]) for stage in eyas.RECIPES["ladabert"]()]
    assert rounds == pytest.approx([0.5 * 37 / 64, 0.5 * 7 / 8, 0.5 * 63 / 64, 0.5], rel=1e-5)


@pytest.mark.process
def test_students_of_our_own_are_compressed_too(students: Any, toy_data: Path, tmp_path: Path) -> None:
    folder = students["cnn", False]
    small = eyas.compress(folder, ("low-rank:0.7", "int8"), toy_data, tmp_path / "small", settings=SHORT)
    assert type(small.model) is type(eyas.Classifier.from_pretrained(folder).model)
    assert small.evaluate(toy_data, folder)["retention"] > 0.9
    shipped = eyas.Predictor(small.export(tmp_path / "fp32"))
    texts = list(eyas.load_data(toy_data)["test"]["text"])
    assert np.allclose(shipped.predict_proba(texts), small.predict_proba(texts), atol=1e-4)
    half = eyas.compress(folder, ("units:0.5", "int8"), toy_data, tmp_path / "half", settings=SHORT)
    assert half.model.config.hidden_size == small.model.config.hidden_size // 2
    shipped = eyas.Predictor(half.export(tmp_path / "int8", int8=True))
    assert (shipped.predict(texts) == half.predict(texts)).mean() > 0.98
    with pytest.raises(ModelError, match="heads of a CNNForSequenceClassification cannot be pruned"):
        eyas.compress(folder, "heads:0.5", toy_data, tmp_path / "other", settings=SHORT)


@pytest.mark.process
def test_exam_and_command_line_know_it(
    teacher_folder: Path, toy_data: Path, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", str(teacher_folder), "--data", str(toy_data), "--epochs", "1"]
    code, _, err = run("compress", *arguments, "--method", "units:0.5", "--method", "int4", "--out", "small")
    assert code == 0, err
    assert "Next: eyas export --model small" in err
    assert "neighbors" not in err  # no new texts, unless they are asked for
    code, _, err = run("export", "--model", "small", "--out", "shipped", "--int4", "--min-agreement", "0.9")
    assert code == 0, err
    assert json.loads(Path("shipped/manifest.json").read_text())["precision"] == "int4"
    code, _, err = run("export", "--model", "small", "--out", "again", "--int8", "--ternary")
    assert (code, "Expected one precision, got int8 and ternary" in err) == (2, True)
    code, _, err = run("compress", *arguments, "--method", "low-rank:2", "--out", "other")
    assert (code, "expected a share between 0 and 1" in err) == (2, True)
    plan = make_plan(
        data=str(toy_data),
        teacher=str(teacher_folder),
        students=[{"architecture": "bert", "compress": ["low-rank:0.5", "int8"]}],
        recipes=["same-layers"],
    )
    assert [student.name for student in plan.students] == ["bert-low-rank:0.5-int8"]


@pytest.mark.process
def test_loss_aware_weights_learn_the_curvature_of_each_step(
    teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    seen: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            moments = [module.moments for module in kwargs["model"].modules() if isinstance(module, LossAware)]
            seen.append(float(sum((one > 0).sum() for one in moments)))

    settings = DistillSettings(
        eyas.StudentSettings("bert", max_length=48, compress=("ternary:loss-aware",)),
        "logit-mse",
        transfer=TransferSettings(augment=()),
        arguments={"max_steps": 2},
    )
    small = eyas.distill(teacher_folder, toy_data, tmp_path / "small", settings=settings, callbacks=[Watch()])
    assert len(seen) == 2
    assert seen[1] >= seen[0] > 0
    rows = small.model.bert.encoder.layer[0].attention.self.query.weight
    assert all(len(row.abs().unique()) <= 2 for row in rows)
