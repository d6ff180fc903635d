"""Ensembles: trained together, joined from separate members, exported and pruned."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import STUDENT_ARGUMENTS, Once, teach

import eyas
from eyas import Classifier, DistillSettings, Predictor, StudentSettings, Teacher, evaluate, export_model, load_data
from eyas.errors import ModelError
from eyas.losses import ResidualLoss
from eyas.training.ensembles import join, prune_ensemble

SIZES: dict[str, Any] = {"embedding_size": 16, "hidden_size": 24, "max_length": 48}


@pytest.fixture(scope="module")
def ensemble(once: Once, teacher_folder: Path, toy_data: Path) -> Path:
    """One of the few trained models; all of its members learn the task."""
    student = StudentSettings("ensemble:cnn,bilstm,cnn-lstm", combination="weights", **SIZES)
    recipe = "logit-mse mutual=0.5 diversity=0.1"
    return once("ens", lambda out: teach(teacher_folder, toy_data, out, student, recipe, STUDENT_ARGUMENTS))


@pytest.fixture(scope="module")
def apart(once: Once, teacher_folder: Path, toy_data: Path) -> list[Path]:
    """Two students over the same word vectors."""

    def make(out: Path) -> None:
        for name in ("static", "cnn"):
            teach(teacher_folder, toy_data, out / name, StudentSettings(name, freeze_embeddings=True, **SIZES))

    return [once("apart", make) / name for name in ("static", "cnn")]


def test_ensemble_learns_its_task(ensemble: Path, toy_data: Path) -> None:
    classifier, test = Classifier.from_pretrained(ensemble), load_data(toy_data)["test"]
    weights = classifier.model.get_buffer("weights")
    assert float(weights.sum()) == pytest.approx(1.0)
    assert not torch.allclose(weights, torch.full((3,), 1 / 3))
    assert evaluate(classifier, test)["accuracy"] > 0.75  # it is 1.0


@pytest.mark.process
@pytest.mark.parametrize("int8", [False, True])
def test_ensemble_ships_as_one_graph(ensemble: Path, toy_data: Path, tmp_path: Path, int8: bool) -> None:
    export_model(ensemble, tmp_path / "shipped", int8=int8, min_agreement=0.75)
    texts = load_data(toy_data)["test"]["text"][:50]
    ours, shipped = Classifier.from_pretrained(ensemble).logits(texts), Predictor(tmp_path / "shipped").logits(texts)
    assert len(list((tmp_path / "shipped").glob("*.onnx"))) == 1
    if not int8:
        np.testing.assert_allclose(ours, shipped, atol=1e-4)
    alone = Predictor(tmp_path / "shipped").logits(texts[:1])
    np.testing.assert_allclose(alone[0], shipped[0], atol=0.2 if int8 else 1e-4)


def test_pair_ensemble_trains_with_learned_weights(pair_teacher_folder: Path, toy_pairs: Path, tmp_path: Path) -> None:
    student = StudentSettings("ensemble:cnn,static", combination="probabilities", **SIZES)
    folder = teach(pair_teacher_folder, toy_pairs, tmp_path / "s", student, "soft-targets mutual=1.0 weights=learned")
    rows = load_data(toy_pairs)["validation"]
    assert np.isfinite(Classifier.from_pretrained(folder).logits(rows["text"], rows["text_pair"])).all()


def test_joined_ensemble_averages_its_members(apart: list[Path], toy_data: Path, tmp_path: Path) -> None:
    texts = load_data(toy_data)["test"]["text"][:20]
    joined = Classifier.from_pretrained(join(apart, tmp_path / "joined"))
    mean = np.mean([Classifier.from_pretrained(folder).logits(texts) for folder in apart], 0)
    np.testing.assert_allclose(joined.logits(texts), mean, atol=1e-5)


def test_join_refuses_incompatible_members(
    apart: list[Path], teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    def trained(name: str, **settings: Any) -> Path:
        student = StudentSettings("static", **{**SIZES, **settings})
        return teach(teacher_folder, toy_data, tmp_path / name, student)

    with pytest.raises(ModelError, match="got 1"):
        join(apart[:1], tmp_path / "x")
    with pytest.raises(ModelError, match=r"learned.*--freeze-embeddings"):
        join([apart[0], trained("learned")], tmp_path / "x")
    with pytest.raises(ModelError, match=r"max_length 20, .* 48"):
        join([apart[0], trained("short", max_length=20, freeze_embeddings=True)], tmp_path / "x")
    with pytest.raises(ModelError, match="different vocabularies"):
        join([apart[0], trained("few", vocab_size=60)], tmp_path / "x")
    with pytest.raises(ModelError, match="24, 12"):
        join([apart[0], trained("narrow", hidden_size=12, freeze_embeddings=True)], tmp_path / "x")
    with pytest.raises(ModelError, match=r"BertForSequenceClassification.*static"):
        join([apart[0], teacher_folder], tmp_path / "x")
    with pytest.raises(ModelError, match="--data"):
        join(apart, tmp_path / "x", "weights")
    other = trained("other", freeze_embeddings=True)
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = {"0": "bad", "1": "good"}
    (other / "config.json").write_text(json.dumps({**config, "label2id": {"bad": 0, "good": 1}}))
    with pytest.raises(ModelError, match=r"\['bad', 'good'\]"):
        join([apart[0], other], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_prune_ensemble_keeps_fewest_members_within_tolerance(
    ensemble: Path, teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    rows = load_data(toy_data)["validation"]
    chosen, *others = prune_ensemble(ensemble, rows, tmp_path / "small", tolerance=0.05)
    assert len(others) == 6
    whole = next(found for found in (chosen, *others) if len(found.members) == 3)
    assert chosen.score >= whole.score - 0.05
    cheaper = [found for found in others if found.parameters < chosen.parameters]
    assert all(found.score < whole.score - 0.05 for found in cheaper)
    small = Classifier.from_pretrained(tmp_path / "small")
    assert evaluate(small, rows)["accuracy"] == pytest.approx(chosen.score)
    with pytest.raises(ModelError, match="BertForSequenceClassification"):
        prune_ensemble(teacher_folder, rows, tmp_path / "y")


def test_assistant_adds_what_the_student_lacks(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    """Residual KD: the student stays as it was, and the sum is closer to the teacher."""
    student = StudentSettings("ensemble:static,cnn", **SIZES)
    often = {"eval_strategy": "steps", "eval_steps": 40, "save_strategy": "steps", "save_steps": 40}
    settings = DistillSettings(student, recipe="residual", arguments={"max_steps": 160, **often})
    trained = eyas.distill(teacher_folder, toy_data, tmp_path / "both", settings=settings)
    texts = load_data(toy_data)["train"]["text"][:]
    expected = Teacher(teacher_folder, dtype="float32").logits(texts)
    classifier = Classifier.from_pretrained(tmp_path / "both")
    inputs = classifier.tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
    with torch.no_grad():
        members = classifier.model(input_ids=inputs["input_ids"]).member_logits.numpy() / 2
    alone, together = (float(np.square(found - expected).mean()) for found in (members[0], members.sum(0)))
    assert together < 0.95 * alone
    assert {row["stage"] for row in trained.history} == {0, 1}


def test_residual_needs_an_ensemble_that_adds_up(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    for student, message in (
        (
            StudentSettings("ensemble:static,cnn", combination="probabilities"),
            "adds the members' logits up, but combin",
        ),
        (StudentSettings("cnn"), "compares the members of an ensemble"),
    ):
        with pytest.raises(ModelError, match=message):
            eyas.distill(teacher_folder, toy_data, tmp_path / "out", student, recipe="residual")


def test_residual_loss_by_hand() -> None:
    members = torch.tensor([[[2.0, 0.0]], [[4.0, -2.0]]], requires_grad=True)
    fields = {"member_logits": members, "logits": members.mean(0)}
    teacher = {"logits": torch.tensor([[3.0, 1.0]])}
    assert ResidualLoss(assistants=False)(fields, teacher, {}).item() == pytest.approx((2.0**2 + 1.0**2) / 2)
    loss = ResidualLoss(assistants=True)(fields, teacher, {})
    assert loss.item() == pytest.approx((0.0**2 + 2.0**2) / 2)
    loss.backward()
    assert members.grad is not None
    assert members.grad[0].abs().sum() == 0  # the student is left alone
    assert members.grad[1].tolist() == [[0.0, -1.0]]  # 2 (-1 - 1) / 2 numbers x 1/2, the share of a member


def test_distill_refuses_ensemble_options_for_single_student(
    teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="MutualLoss"):
        teach(teacher_folder, toy_data, tmp_path / "a", "cnn", "logit-mse mutual=1.0")
    with pytest.raises(ModelError, match=r"cnn .*--combination"):
        teach(teacher_folder, toy_data, tmp_path / "b", StudentSettings("cnn", combination="weights"))


def test_join_and_prune_commands_run(
    ensemble: Path, apart: list[Path], toy_data: Path, tmp_path: Path, run: Any
) -> None:
    members = [part for folder in apart for part in ("--member", folder)]
    code, _, _ = run("join", *members, "--combination", "weights", "--data", toy_data, "--out", tmp_path / "j")
    assert code == 0
    code, out, _ = run("prune-ensemble", "--model", tmp_path / "j", "--data", toy_data, "--out", tmp_path / "p")
    assert code == 0
    assert out.startswith("* ")
    assert len(out.splitlines()) == 3
    given = ("--teacher", ensemble, "--data", toy_data, "--student", "ensemble:cnn", "--out", tmp_path / "o")
    code, _, err = run("distill", *given)
    assert code == 2
    assert "ensemble:cnn has 1" in err
