"""A student of several tasks as one exported folder: its graph, its answers, and the commands that read it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import PLANTED, QUICK, Once

import eyas
from eyas import Classifier, DistillSettings, Predictor, StudentSettings, load_data
from eyas.errors import DataError, ExportError, EyasError, ModelError
from eyas.exam.cascade import make_cascade
from eyas.exam.plan_file import make_plan
from eyas.exam.results import load_exam
from eyas.exam.run import run_exam
from eyas.exam.trials import trials_of
from eyas.export.push import push_to_hub
from eyas.serve.models import Models
from eyas.settings import TransferSettings
from eyas.tasks import Task

Exported = dict[tuple[str, bool, bool], Path]
Run = Callable[..., tuple[int, str, str]]
TEACHERS = {"mood": PLANTED / "films", "names": PLANTED / "tags"}
TEXT = "anna loved the wonderful film in rome ."


def _settings(architecture: str, arguments: dict[str, Any] = QUICK) -> DistillSettings:
    student = StudentSettings(architecture, embedding_size=16, hidden_size=24)
    return DistillSettings(student, transfer=TransferSettings(augment=()), arguments=arguments)


@pytest.fixture(scope="module")
def folder(once: Once, toy_data: Path, toy_tags: Path) -> Path:
    data = {"mood": toy_data, "names": toy_tags}
    settings = _settings("bilstm", {"num_train_epochs": 4, "per_device_train_batch_size": 16, "learning_rate": 1e-2})
    return once("tasks-bilstm", lambda out: eyas.distill_tasks(TEACHERS, data, out, settings=settings))


@pytest.fixture(scope="module")
def shipped(once: Once, folder: Path) -> Path:
    return once("tasks-shipped", lambda out: eyas.export_model(folder, out, int8=True))


def test_one_graph_has_an_output_for_each_task(shipped: Path) -> None:
    graph = onnx.load(shipped / "model.onnx").graph
    assert [value.name for value in graph.output] == ["logits_mood", "logits_names"]
    # Both tasks read the one LSTM.
    assert sum(node.op_type.endswith("LSTM") for node in graph.node) == 1
    assert sorted(path.name for path in (shipped / "mood").iterdir()) == ["README.md", "manifest.json"]


def test_answers_are_those_of_the_student(folder: Path, shipped: Path, toy_data: Path) -> None:
    texts = load_data(toy_data)["test"]["text"][:20]
    predictor = Predictor(shipped)
    expected = Classifier.from_pretrained(folder / "mood").predict_proba(texts)
    assert np.abs(predictor.predict_proba(texts, task="mood") - expected).max() < 0.05
    words = [text.split() for text in texts]
    tags = Classifier.from_pretrained(folder / "names").predict(words)
    found = predictor.predict(words, task="names")
    assert np.mean(np.concatenate(tags) == np.concatenate(found)) > 0.9
    assert Predictor(shipped / "mood")(texts) == predictor(texts, task="mood")


def test_predict_answers_all_tasks_of_each_line(shipped: Path, run: Run, tmp_path: Path) -> None:
    long = "great " * 600
    (tmp_path / "in.txt").write_text(f"{TEXT}\n{json.dumps({'id': 7, 'text': 'a dull film .'})}\n{long}\n")
    code, out, err = run("predict", "--model", shipped, tmp_path / "in.txt")
    assert code == 0, err
    first, second, _ = map(json.loads, out.splitlines())
    assert first.keys() == {"text", "mood", "names"}
    assert first["mood"]["label"] == Predictor(shipped)([TEXT], task="mood")[0]["label"]
    assert first["names"]["tokens"] == TEXT.split()
    assert (second["id"], second["names"]["tokens"]) == (7, ["a", "dull", "film", "."])
    assert "that the model of mood reads" in err
    code, _, err = run("predict", "--model", shipped, tmp_path / "in.txt", "--workers", 2)
    assert (code, "answers several tasks: leave --all-scores" in err) == (2, True)


def test_a_text_is_read_once_for_all_tasks(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(shipped)
    answers = predictor([TEXT, "a dull film ."])
    assert [set(answer) for answer in answers] == [{"mood", "names"}] * 2
    assert answers[0]["mood"] == predictor([TEXT], task="mood")[0]
    assert answers[0]["names"] == predictor([TEXT], task="names")[0]
    mood: Any = predictor.tasks["mood"]
    counting = _Counting(mood.graph.session)
    monkeypatch.setattr(mood.graph, "session", counting)
    assert predictor(["a dull film .", TEXT])[1] == answers[0]
    assert counting.calls == 2


class _Counting:
    def __init__(self, session: Any) -> None:
        self.session, self.calls = session, 0

    def run(self, *arguments: Any) -> Any:
        self.calls += 1
        return self.session.run(*arguments)


@pytest.mark.parametrize(
    ("architecture", "int8"), [("static", False), pytest.param("bilstm", True, marks=pytest.mark.process)]
)
def test_pairs_and_texts_share_a_graph(
    architecture: str, int8: bool, toy_data: Path, toy_pairs: Path, pair_teacher_folder: Path, tmp_path: Path
) -> None:
    teachers = {"mood": PLANTED / "films", "pairs": pair_teacher_folder}
    eyas.distill_tasks(
        teachers, {"mood": toy_data, "pairs": toy_pairs}, tmp_path / "out", settings=_settings(architecture)
    )
    eyas.export_model(tmp_path / "out", tmp_path / "shipped", int8=int8, min_agreement=0.0)
    predictor = Predictor(tmp_path / "shipped")
    assert (
        predictor([("a film", "a good film")], task="pairs")[0]
        == predictor.tasks["pairs"]([("a film", "a good film")])[0]
    )
    long = "good " * 1000
    expected = Classifier.from_pretrained(tmp_path / "out" / "pairs").logits([long, "a"], ["b", long])
    assert np.allclose(predictor.tasks["pairs"].logits([long, "a"], ["b", long]), expected, atol=0.2 if int8 else 1e-4)
    with pytest.raises(DataError, match="compares two texts"):
        predictor(["a film"])


def test_server_has_a_model_for_each_task(shipped: Path, exported: Exported, tmp_path: Path) -> None:
    models = Models([shipped])
    assert models.names == [f"{shipped.name}.mood", f"{shipped.name}.names"]
    model = models.get(f"{shipped.name}.names")
    assert model is not None
    assert model.describe()["task"] == "tagging"
    (tmp_path / "versions").mkdir()
    shutil.copytree(shipped, tmp_path / "versions" / "1")
    served = Models([tmp_path / "versions"])
    assert served.names == ["versions.mood", "versions.names"]
    shutil.copytree(shipped, tmp_path / "versions" / "2")
    assert served.refresh() == ["versions.mood version 2 was loaded", "versions.names version 2 was loaded"]
    newest = served.get("versions.mood")
    assert newest is not None
    assert newest.version == "2"
    shutil.copytree(exported["cnn", False, False], tmp_path / "versions" / "3")
    assert served.refresh() == ["versions version 3 was loaded"]
    assert sorted(Models([tmp_path / "versions"]).names) == sorted(served.names)
    (tmp_path / "copied" / "2").mkdir(parents=True)
    shutil.copytree(shipped, tmp_path / "copied" / "1")
    assert Models([tmp_path / "copied"]).names == ["copied.mood", "copied.names"]


def test_served_names_are_unique(shipped: Path, exported: Exported, tmp_path: Path) -> None:
    shutil.copytree(shipped, tmp_path / "other" / shipped.name)
    with pytest.raises(ExportError, match="Two models have the name"):
        Models([shipped, tmp_path / "other" / shipped.name])
    shutil.copytree(exported["cnn", False, False], tmp_path / f"{shipped.name}.mood")
    with pytest.raises(ExportError, match=rf"Two models have the name {shipped.name}\.mood"):
        Models([shipped, tmp_path / f"{shipped.name}.mood"])


def test_commands_take_the_folder_of_a_task(shipped: Path, toy_data: Path, run: Run) -> None:
    code, out, err = run("evaluate", "--model", shipped / "mood", "--data", toy_data, "--json", "--quiet")
    assert code == 0, err
    assert "accuracy" in json.loads(out)
    code, _, err = run("evaluate", "--model", shipped, "--data", toy_data)
    assert code == 2
    assert "Name one: " in err
    assert "shipped/mood" in err


def test_exam_has_a_row_for_each_task(folder: Path, toy_data: Path, toy_tags: Path) -> None:
    data = [{"source": str(toy_data), "name": "mood"}, {"source": str(toy_tags), "name": "names"}]
    plan = make_plan(data=data, teacher=str(PLANTED / "films"), add=[str(folder)], baselines=False)
    tasks = {"mood": Task("classification", ("a", "b")), "names": Task("tagging", ("O", "B-PER"))}
    rows = [trial for trial in trials_of(plan, tasks, ()) if trial.recipe == "made before"]
    assert [(row.dataset.name, row.model, Path(row.added).name) for row in rows] == [
        ("mood", folder.name, "mood"),
        ("names", folder.name, "names"),
    ]
    with pytest.raises(EyasError, match="has the tasks mood, names"):
        make_plan(data=data[0] | {"name": "films"}, teacher="t", add=[str(folder)])


@pytest.mark.process
def test_exam_scores_a_task(folder: Path, toy_data: Path, tmp_path: Path) -> None:
    plan = {"baselines": False, "seeds": [0], "cost": {"texts": 10, "rounds": 1}, "twins": False}
    data = {"source": str(toy_data), "name": "mood", "augment": "none"}
    student = {"architecture": "static", "embedding_size": 16}
    short = {"num_train_epochs": 1}
    made = make_plan(
        data=data, teacher=str(PLANTED / "films"), add=[str(folder)], students=[student], arguments=short, **plan
    )
    table = load_exam(run_exam(made, tmp_path / "exam", jobs=0)).set_index("model")
    row = table.loc[folder.name]
    assert (
        row["score"]
        == eyas.evaluate(Classifier.from_pretrained(folder / "mood"), load_data(toy_data)["test"])["accuracy"]
    )
    assert row["other_parameters"] > 0


def test_several_tasks_are_checked(folder: Path, shipped: Path, toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"exported without web \(--web\)"):
        eyas.export_model(folder, tmp_path / "out", web=True)
    predictor = Predictor(shipped)
    with pytest.raises(DataError, match="task is 'moods', expected one of mood, names"):
        predictor([TEXT], task="moods")
    with pytest.raises(DataError, match="answers several tasks, so it has no label_names"):
        predictor.label_names  # noqa: B018
    shutil.copytree(shipped / "mood", tmp_path / "alone" / "mood")
    with pytest.raises(ExportError, match="missing or not a plain file"):
        Predictor(tmp_path / "alone" / "mood")
    shutil.copytree(shipped, tmp_path / "damaged")
    (tmp_path / "damaged" / "tokenizer.json").write_text("{}")
    with pytest.raises(ExportError, match="checksum"):
        Predictor(tmp_path / "damaged")
    with pytest.raises(ModelError, match="one task of several, in one graph"):
        make_cascade([shipped / "mood"], shipped / "mood", load_data(toy_data), tmp_path / "cascade")
    for source in (shipped / "mood", folder / "mood", folder):
        with pytest.raises(ExportError, match="is of a student of several tasks"):
            push_to_hub(source, "ann/films")
    with pytest.raises(ModelError, match="is a student of several tasks: name one"):
        eyas.finetune(folder, toy_data, tmp_path / "tuned")
