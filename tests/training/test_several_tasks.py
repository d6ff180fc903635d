"""One student for several tasks: training, its folder, and the commands that read it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import PLANTED, QUICK, Once, write_jsonl
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification, TrainerCallback

import eyas
from eyas import Classifier, DistillSettings, Predictor, StudentSettings, Teacher, load_data
from eyas.errors import DataError, EyasError, ModelError
from eyas.settings import TransferSettings
from eyas.training.several_tasks import Subject, create_tasks_student

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
    assert "loss/names/DISTLoss" in history  # each task has its own default


def test_hard_labels_train_on_the_labeled_texts_alone(data: dict[str, Path]) -> None:
    settings = replace(_settings(), transfer=TransferSettings(augment=("neighbors:3",)))
    taught = {
        recipe: Subject("mood", Teacher(TEACHERS["mood"]), load_data(data["mood"]), replace(settings, recipe=recipe))
        for recipe in ("hard-labels", "logit-mse")
    }
    assert len(taught["hard-labels"].dataset) == len(load_data(data["mood"])["train"])
    assert len(taught["logit-mse"].dataset) > len(taught["hard-labels"].dataset)


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


def test_command_distills_several_tasks(data: dict[str, Path], tiny_bert: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "tags.jsonl").write_text(
        "".join(
            json.dumps(
                {"tokens": row["tokens"], "entities": [["O", "B-LOC"][n % 2] for n, _ in enumerate(row["tokens"])]}
            )
            + "\n"
            for row in load_data(data["names"])["train"].select(range(40))
        )
    )
    films = load_data(data["mood"])
    rows = zip(films["train"]["text"], films["train"]["label"], strict=True)
    answers = [{"text": text, "answer": films.labels[label]} for text, label in rows]
    write_jsonl(tmp_path / "answers.jsonl", [*answers[1:], {"text": "in no split", "answer": "positive"}])
    tasks = ("--task", f"mood={data['mood']}", "--task", f"names={tmp_path / 'tags.jsonl'}:entities")
    teachers = ("--teacher", f"mood={tmp_path / 'answers.jsonl'}", "--teacher", f"names={TEACHERS['names']}")
    teachers += ("--encoder", tiny_bert, "--confidence", 0.9)
    sizes = ("--embedding-size", 16, "--hidden-size", 24, "--epochs", 0.1, "--augment", "none")
    code, _, err = run("distill", *tasks, *teachers, *sizes, "--out", tmp_path / "out")
    assert code == 0, err
    assert "student of mood" in err
    assert "has no answer for 1 training texts" in " ".join(err.split())
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
    with pytest.raises(ModelError, match="one of static, cnn, .*got ensemble:cnn,bilstm"):
        eyas.distill_tasks(TEACHERS, data, out, "ensemble:cnn,bilstm")
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
    with pytest.raises(DataError, match="cannot be called 'type'"):
        eyas.distill_tasks({"type": "x", "mood": "y"}, {"type": data["mood"], "mood": data["mood"]}, out)


@pytest.fixture(scope="module")
def transformer(once: Once, data: dict[str, Path], toy_pairs: Path, pair_teacher_folder: Path) -> Path:
    """A layer for texts, words and pairs."""
    teachers, sources = {**TEACHERS, "pairs": pair_teacher_folder}, {**data, "pairs": toy_pairs}
    student = StudentSettings("bert", layers=1, max_length=32)
    settings = replace(_settings(num_train_epochs=4, learning_rate=5e-3), student=student)
    return once("tasks-transformer", lambda out: eyas.distill_tasks(teachers, sources, out, settings=settings))


def test_transformer_starts_from_the_head_of_each_teacher(data: dict[str, Path]) -> None:
    settings = replace(_settings(), student=StudentSettings("bert"), recipe="logit-mse")
    opened = {name: Teacher(folder, dtype="float32") for name, folder in TEACHERS.items()}
    mood, names = (Subject(name, teacher, load_data(data[name]), settings) for name, teacher in opened.items())
    student: Any = create_tasks_student([mood, names], names, settings)[0]
    for one in (mood, names):
        made, head = student.student(one.name).classifier.weight, opened[one.name].model.classifier.weight
        torch.testing.assert_close(made, head[one.teacher.order])
    poolers = (student.student("mood").bert.pooler.dense.weight, opened["mood"].model.bert.pooler.dense.weight)
    torch.testing.assert_close(*poolers)
    queries = [
        model.bert.encoder.layer[0].attention.self.query.weight
        for model in (student.student("mood"), opened["names"].model)
    ]
    torch.testing.assert_close(*queries)


def test_transformer_reads_texts_words_and_pairs_with_the_same_layers(
    transformer: Path, data: dict[str, Path], toy_pairs: Path
) -> None:
    sources, bodies = {**data, "pairs": toy_pairs}, []
    for name, metric in (("mood", "accuracy"), ("names", "span_f1"), ("pairs", "accuracy")):
        classifier = Classifier.from_pretrained(transformer / name)
        assert eyas.evaluate(classifier, load_data(sources[name])["test"])[metric] > 0.8
        bodies.append(classifier.model.bert.state_dict())
    for name, weight in bodies[0].items():
        assert all(torch.equal(weight, other[name]) for other in bodies[1:])
    with safe_open(transformer / "model.safetensors", "pt") as file:
        assert sum("attention.self.query.weight" in name for name in file.keys()) == 1  # noqa: SIM118


@pytest.mark.slow
def test_transformer_of_several_tasks_is_exported_and_fine_tuned(
    transformer: Path, data: dict[str, Path], toy_pairs: Path, tmp_path: Path
) -> None:
    eyas.export_model(transformer, tmp_path / "shipped")
    graph = onnx.load(tmp_path / "shipped" / "model.onnx").graph
    assert [value.name for value in graph.output] == ["logits_mood", "logits_names", "logits_pairs"]
    shipped, test = Predictor(tmp_path / "shipped"), load_data(toy_pairs)["test"]
    texts = {
        "mood": ["a wonderful film", "a dull film"],
        "pairs": list(zip(test["text"][:4], test["text_pair"][:4], strict=True)),
        "names": [["anna", "went", "to", "rome"]],
    }
    for name, rows in texts.items():
        columns = list(zip(*rows, strict=True)) if name == "pairs" else [rows]
        expected = Classifier.from_pretrained(transformer / name).logits(*columns)
        np.testing.assert_allclose(shipped.of(name).logits(*columns), expected, atol=1e-4)
    settings = eyas.FinetuneSettings(arguments=QUICK)
    tuned = eyas.finetune(transformer / "names", data["names"], tmp_path / "tuned", settings=settings)
    assert type(tuned.model).__name__ == "BertForTokenClassification"


def test_pairs_and_texts_share_a_student(
    toy_data: Path, toy_pairs: Path, pair_teacher_folder: Path, tmp_path: Path
) -> None:
    teachers = {"mood": PLANTED / "films", "pairs": pair_teacher_folder}
    data = {"mood": toy_data, "pairs": toy_pairs}
    parts = eyas.distill_tasks(teachers, data, tmp_path / "out", settings=_settings("cnn", **QUICK))
    test = load_data(toy_pairs)["test"]
    assert parts["pairs"].classifier.logits(test["text"][:3], test["text_pair"][:3]).shape == (3, 2)
    assert np.isfinite(parts["mood"].classifier.logits(["a great film"])).all()
