"""One student for several tasks: training, its folder, and the commands that read it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PLANTED, QUICK, Once
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification, TrainerCallback

import eyas
from eyas import Classifier, DistillSettings, Predictor, StudentSettings, load_data
from eyas.errors import DataError, EyasError, ModelError
from eyas.settings import TransferSettings

Run = Callable[..., tuple[int, str, str]]
TEACHERS = {"mood": PLANTED / "films", "names": PLANTED / "tags"}


def _settings(architecture: str = "bilstm", **arguments: Any) -> DistillSettings:
    student = StudentSettings(architecture, embedding_size=16, hidden_size=24)
    learns = {"num_train_epochs": 8, "per_device_train_batch_size": 16, "learning_rate": 1e-2}
    return DistillSettings(student, transfer=TransferSettings(augment=()), arguments={**learns, **arguments})


@pytest.fixture(scope="module")
def data(toy_data: Path, toy_tags: Path) -> dict[str, Path]:
    return {"mood": toy_data, "names": toy_tags}


@pytest.fixture(scope="module")
def folder(once: Once, data: dict[str, Path]) -> Path:
    """One of the few trained models."""
    return once("tasks", lambda out: eyas.distill_tasks(TEACHERS, data, out, settings=_settings("cnn")))


def test_student_learns_both_tasks(folder: Path, data: dict[str, Path]) -> None:
    for name, metric in (("mood", "accuracy"), ("names", "span_f1")):
        classifier = Classifier.from_pretrained(folder / name)
        assert eyas.evaluate(classifier, load_data(data[name])["test"])[metric] > 0.8  # it is 1.0


def test_shared_weights_are_stored_once(folder: Path) -> None:
    """Both students of `cnn` have the same word vectors; those of `bilstm` also the same encoder."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert [name for name in file.keys() if "embeddings" in name] == ["embeddings.weight"]  # noqa: SIM118
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.student("mood").embeddings is model.student("names").embeddings
    assert not (folder / "mood" / "model.safetensors").exists()


def test_bilstm_reads_texts_and_words_with_one_encoder(data: dict[str, Path], tmp_path: Path) -> None:
    parts = eyas.distill_tasks(TEACHERS, data, tmp_path / "out", settings=_settings(**QUICK))
    texts, words = (parts[name].model.state_dict() for name in ("mood", "names"))
    shared = [name for name in texts if name.startswith(("encoder.", "embeddings."))]
    assert len(shared) == 9
    assert all(torch.equal(texts[name], words[name]) for name in shared)
    history = (tmp_path / "out" / "training_history.jsonl").read_text()
    assert "loss/mood/LogitMSELoss" in history
    assert "loss/names/LogitMSELoss" in history


class _InterruptedError(Exception):
    pass


class _StopAtStep(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 30:
            raise _InterruptedError


def test_interrupted_training_resumes_with_the_same_bits(data: dict[str, Path], tmp_path: Path) -> None:
    settings = _settings("static", num_train_epochs=2)
    whole = eyas.distill_tasks(TEACHERS, data, tmp_path / "whole", settings=settings)
    with pytest.raises(_InterruptedError):
        eyas.distill_tasks(TEACHERS, data, tmp_path / "halves", settings=settings, callbacks=[_StopAtStep()])
    assert list((tmp_path / "halves.partial").glob("work/stage-0/checkpoint-*"))
    resumed = eyas.distill_tasks(TEACHERS, data, tmp_path / "halves", settings=settings)
    for name, part in whole.items():
        for key, weight in part.model.state_dict().items():
            assert torch.equal(weight, resumed[name].model.state_dict()[key])


def test_each_task_is_fine_tuned(folder: Path, data: dict[str, Path], tmp_path: Path) -> None:
    """It becomes a student of its own, which starts from the weights of all."""
    settings = eyas.FinetuneSettings(arguments={"max_steps": 1, "learning_rate": 1e-12})
    tuned = eyas.finetune(folder / "names", data["names"], tmp_path / "out", settings=settings)
    before = Classifier.from_pretrained(folder / "names").model.state_dict()
    for name, weight in tuned.model.state_dict().items():
        torch.testing.assert_close(weight, before[name])
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.process
def test_each_task_is_exported_and_predicted(folder: Path, tmp_path: Path) -> None:
    eyas.export_model(folder / "names", tmp_path / "shipped")
    answer = Predictor(tmp_path / "shipped")(["anna went to rome . 4"])[0]
    assert [span["entity_group"] for span in answer["spans"]] == ["PER", "LOC"]


def test_command_distills_several_tasks(data: dict[str, Path], tmp_path: Path, run: Run) -> None:
    (tmp_path / "tags.jsonl").write_text(
        "".join(
            json.dumps(
                {"tokens": row["tokens"], "entities": [["O", "B-LOC"][n % 2] for n, _ in enumerate(row["tokens"])]}
            )
            + "\n"
            for row in load_data(data["names"])["train"].select(range(40))
        )
    )
    tasks = ("--task", f"mood={data['mood']}", "--task", f"names={tmp_path / 'tags.jsonl'}:entities")
    teachers = [part for name, teacher in TEACHERS.items() for part in ("--teacher", f"{name}={teacher}")]
    sizes = ("--embedding-size", 16, "--hidden-size", 24, "--epochs", 0.1, "--augment", "none")
    code, _, err = run("distill", *tasks, *teachers, *sizes, "--out", tmp_path / "out")
    assert code == 0, err
    assert "student of mood" in err
    assert err.count("Next: eyas export --model") == 1
    code, out, err = run(
        "evaluate", "--model", tmp_path / "out" / "names", "--data", data["names"], "--json", "--quiet"
    )
    assert code == 0, err
    assert "span_f1" in json.loads(out)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--task", "a=films", "--task", "a=tags"), "names 'a' twice"),
        (("--task", "a=films", "--task", "b=tags"), "The task 'b' has no teacher"),
        (("--task", "a=films"), "Expected several tasks, got a"),
        (("--task", "a=films", "--task", "tags"), "--task is 'tags'"),
        (("--task", "a b=films", "--task", "c=tags"), "A task is called 'a b'"),
        (("--task", "a=films", "--task", "b=tags", "--data", "films"), "--data is for one task"),
        ((), "Expected --data"),
    ],
)
def test_command_refuses_tasks(arguments: tuple[str, ...], expected: str, tmp_path: Path, run: Run) -> None:
    code, _, err = run("distill", *arguments, "--teacher", f"a={PLANTED / 'films'}", "--out", tmp_path / "out")
    assert code == 2
    assert expected in " ".join(err.split())


def test_tasks_are_checked(data: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="one of static, cnn, bilstm, cnn-lstm, got bert-tiny"):
        eyas.distill_tasks(TEACHERS, data, out, "bert-tiny")
    with pytest.raises(ModelError, match="in one stage: tinybert"):
        eyas.distill_tasks(TEACHERS, data, out, recipe="tinybert")
    with pytest.raises(ModelError, match="does not take compress"):
        eyas.distill_tasks(TEACHERS, data, out, StudentSettings("cnn", compress=("int8",)))
    rows = load_data(data["mood"])
    rows["validation"] = rows["validation"].map(lambda _: {"label": -1})
    with pytest.raises(EyasError, match="no labels"):
        eyas.distill_tasks(TEACHERS, {**data, "mood": rows}, out)
    with pytest.raises(ModelError, match="name one, .*mood or .*names"):
        Classifier.from_pretrained(folder)
    shutil.copytree(folder / "mood", tmp_path / "mood")
    with pytest.raises(ModelError, match="needs that student's folder"):
        Classifier.from_pretrained(tmp_path / "mood")
    with pytest.raises(DataError, match="has no data, only teacher"):
        eyas.distill_tasks(TEACHERS, {"mood": data["mood"]}, out)


def test_pairs_and_texts_share_a_student(
    toy_data: Path, toy_pairs: Path, pair_teacher_folder: Path, tmp_path: Path
) -> None:
    teachers = {"mood": PLANTED / "films", "pairs": pair_teacher_folder}
    data = {"mood": toy_data, "pairs": toy_pairs}
    parts = eyas.distill_tasks(teachers, data, tmp_path / "out", settings=_settings("cnn", **QUICK))
    test = load_data(toy_pairs)["test"]
    assert parts["pairs"].classifier.logits(test["text"][:3], test["text_pair"][:3]).shape == (3, 2)
    assert np.isfinite(parts["mood"].classifier.logits(["a great film"])).all()
