"""Students that answer where they are sure, and the teacher for the rest."""

import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from conftest import teach
from starlette.testclient import TestClient

from eyas import Predictor, StudentSettings, TaskData, export_model, load_data
from eyas.errors import EyasError, LabelError, ModelError
from eyas.evaluation.deferral import retention_bounds
from eyas.exam.cascade import _Answers, _thresholds, make_cascade
from eyas.export.combination import export_combination
from eyas.export.push import UPLOADED
from eyas.runtime.cascade import Cascade, confidences
from eyas.serve.app import create_app
from eyas.serve.models import Models, _stamp
from eyas.tasks import Task

Run = Callable[..., tuple[int, str, str]]
TASK = Task("classification", ("a", "b"))


def drawn(rows: int, seed: int) -> _Answers:
    """A student that is right as often as it is sure, and a teacher that is right in 95 of 100."""
    random = np.random.default_rng(seed)
    sure = random.beta(5, 1, rows) / 2 + 0.5
    own, theirs = random.random(rows) < sure, random.random(rows) < 0.95
    found = _Answers.__new__(_Answers)
    found.task, found.sure = TASK, [sure, np.ones(rows)]
    found.sums = [np.stack([right, np.ones(rows)], 1).astype(float) for right in (own, theirs)]
    return found


@pytest.mark.process
def test_threshold_keeps_what_it_promises_in_19_of_20_cases() -> None:
    kept = []
    for seed in range(12):
        (threshold,) = _thresholds(drawn(1000, seed), 0.97, ["weak"])
        fresh = drawn(20_000, 1000 + seed)
        both = fresh.together(fresh.answering([threshold]))
        kept.append(both[:, 0].sum() / fresh.sums[-1][:, 0].sum())
    assert np.mean(np.array(kept) >= 0.97) >= 0.9  # 0.95, and chance: at most one of twelve
    assert min(kept) > 0.96
    assert np.mean(kept) < 0.995  # it does not just ask the teacher


def test_promise_needs_enough_texts() -> None:
    with pytest.raises(ModelError, match=r"for weak keeps 99.50%.*100 validation texts can promise 9\d\.\d\d% at most"):
        _thresholds(drawn(100, 0), 0.995, ["weak"])


def test_students_that_err_where_they_are_sure_are_named() -> None:
    answers = drawn(1000, 0)
    answers.sums[0][:100, 0], answers.sure[0][:100] = 0, 1
    with pytest.raises(ModelError, match="for weak keeps .* it errs where it is most certain"):
        _thresholds(answers, 0.97, ["weak"])


def test_promise_is_that_of_texts_not_of_words() -> None:
    """Forty sentences of which nothing was lost promise as much as forty texts with one label."""
    texts = np.ones((40, 2))
    assert retention_bounds([texts], texts, "accuracy")[0] == pytest.approx(0.93, abs=0.02)
    for words in (texts * 20, np.ones((40, 3)) * 20):
        metric = "accuracy" if words.shape[1] == 2 else "span_f1"
        assert retention_bounds([words], words, metric)[0] == pytest.approx(
            retention_bounds([texts], texts, "accuracy")[0], abs=0.02
        )


def test_confidence_of_a_sentence_is_that_of_its_least_certain_word() -> None:
    logits = np.log([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    assert confidences(Task("tagging", ("O", "B")), logits, [2, 0, 1]) == pytest.approx([0.6, 1, 0.8])
    both = confidences(Task("multi-label", ("a", "b")), np.array([[0.0, 9.0]]), [1])
    assert both == pytest.approx([0.5])


@pytest.fixture(scope="module")
def weak(teacher_folder: Path, toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported student that hardly trained."""
    folder = tmp_path_factory.mktemp("weak")
    arguments = {"max_steps": 8, "per_device_train_batch_size": 16, "learning_rate": 0.01, "eval_steps": 8}
    often = {"eval_strategy": "steps", "save_strategy": "steps", "save_steps": 8}
    student = StudentSettings("static", embedding_size=16)
    teach(teacher_folder, toy_data, folder / "student", student, arguments={**arguments, **often})
    export_model(folder / "student", folder / "weak", min_agreement=0.9)
    return folder / "weak"


@pytest.fixture(scope="module")
def strong(teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strong") / "teacher"
    export_model(teacher_folder, folder)
    return folder


@pytest.fixture(scope="module")
def cascade(weak: Path, strong: Path, toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cascade") / "both"
    make_cascade([weak], strong, load_data(toy_data), out, min_retention=0.85)
    return out


@pytest.mark.process
def test_each_text_is_answered_by_the_first_model_that_is_sure(
    cascade: Path, weak: Path, strong: Path, toy_data: Path
) -> None:
    texts = list(load_data(toy_data)["test"]["text"])
    both, first, second = Predictor(cascade), Predictor(weak), Predictor(strong)
    assert isinstance(both, Cascade)
    least = both.manifest.stages[0]["least"]
    own = first.predict_proba(texts)
    sure = own.max(1) >= least
    assert 0 < sure.sum() < len(texts)
    np.testing.assert_allclose(both.predict_proba(texts)[sure], own[sure], atol=1e-6)
    np.testing.assert_allclose(both.predict_proba(texts)[~sure], second.predict_proba(texts)[~sure], atol=1e-6)
    assert both.answered == [2 * sure.sum(), 2 * (~sure).sum()]
    assert both([]) == []


@pytest.mark.process
def test_server_counts_who_answered(cascade: Path, toy_data: Path) -> None:
    texts = list(load_data(toy_data)["test"]["text"][:20])
    with TestClient(create_app([cascade])) as client:
        answers = client.post("/predict", json={"inputs": texts}).json()
        metrics = client.get("/metrics").text
    assert [row[0]["label"] for row in answers] == Predictor(cascade).predict(texts).tolist()
    counted = [float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("eyas_cascade_texts_total")]
    assert len(counted) == 2
    assert sum(counted) == 20


@pytest.mark.process
def test_cascade_command_says_what_it_keeps(weak: Path, strong: Path, toy_data: Path, tmp_path: Path, run: Run) -> None:
    arguments = ("--data", toy_data, "--min-retention", 0.85, "--out", tmp_path / "both")
    code, out, err = run("cascade", "--student", weak, "--teacher", strong, *arguments)
    assert code == 0, err
    assert "On 60 test texts: " in out
    assert "Texts answered: weak " in out
    (tmp_path / "texts.txt").write_text("a great film\n")
    code, out, _ = run("predict", "--model", tmp_path / "both", tmp_path / "texts.txt")
    assert json.loads(out)["label"] == "positive"
    assert "stage-1" in {path.name for path in (tmp_path / "both").iterdir()}


@pytest.mark.process
def test_cascade_of_a_damaged_model_is_refused(cascade: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(cascade, tmp_path / "both"))
    (copy / "stage-2" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(Exception, match=r"stage-2/model\.onnx"):
        Predictor(copy)


@pytest.mark.process
def test_models_of_the_same_name_are_timed_apart(weak: Path, strong: Path, toy_data: Path, tmp_path: Path) -> None:
    same = [
        Path(shutil.copytree(folder, tmp_path / str(number) / "shipped"))
        for number, folder in enumerate((weak, strong))
    ]
    made = make_cascade([same[0]], same[1], load_data(toy_data), tmp_path / "both", 0.85)
    assert made == make_cascade([same[0]], same[1], load_data(toy_data), tmp_path / "both", 0.85)  # kept
    costs = json.loads((tmp_path / "both" / "cascade.json").read_text())
    assert costs[0]["speed"] != 1.0


def renamed(folder: Path, out: Path, labels: list[str]) -> Path:
    """A copy whose outputs have other names; `data_labels` say what they mean."""
    shutil.copytree(folder, out)
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "labels": labels, "data_labels": manifest["labels"]}))
    return out


@pytest.mark.process
def test_outputs_of_the_same_name_and_another_meaning_are_told_apart(
    weak: Path, strong: Path, cascade: Path, toy_data: Path, tmp_path: Path
) -> None:
    first = renamed(weak, tmp_path / "first", ["LABEL_0", "LABEL_1"])
    second = renamed(strong, tmp_path / "second", ["LABEL_1", "LABEL_0"])
    data = load_data(toy_data)
    make_cascade([first], second, data, tmp_path / "both", min_retention=0.85)
    texts = list(data["test"]["text"])
    np.testing.assert_allclose(Predictor(tmp_path / "both").logits(texts), Predictor(cascade).logits(texts), atol=1e-6)


@pytest.mark.process
def test_cascade_may_end_in_a_combination(
    weak: Path, strong: Path, cascade: Path, toy_data: Path, tmp_path: Path
) -> None:
    export_combination([strong, strong], "mean", tmp_path / "teachers")
    data = load_data(toy_data)
    make_cascade([weak], tmp_path / "teachers", data, tmp_path / "both", min_retention=0.85)
    texts = list(data["test"]["text"])
    np.testing.assert_allclose(Predictor(tmp_path / "both").logits(texts), Predictor(cascade).logits(texts), atol=1e-5)
    assert len(_stamp(tmp_path / "both") or ()) == 9  # three models, each with a manifest, a graph and a tokenizer


@pytest.mark.process
def test_text_that_two_models_cut_counts_once(cascade: Path) -> None:
    both = Predictor(cascade)
    both.manifest.stages[0]["least"] = 2.0  # never
    both(["good " * 400])
    assert both.cut == 1
    assert both.max_length == min(stage.max_length for stage in cast(Cascade, both).stages)


@pytest.mark.process
def test_cascade_needs_labels_and_no_cascade(
    cascade: Path, weak: Path, strong: Path, toy_data: Path, tmp_path: Path
) -> None:
    data = load_data(toy_data)
    with pytest.raises(ModelError, match="is a cascade itself"):
        make_cascade([cascade], strong, data, tmp_path / "out", 0.85)
    texts = {name: {"text": part["text"], "label": part["label"]} for name, part in data.items()}
    texts["validation"]["label"] = [None] * len(texts["validation"]["text"])
    with pytest.raises(EyasError, match=r"validation"):
        make_cascade([weak], strong, load_data(texts), tmp_path / "out", 0.85)


@pytest.mark.process
def test_server_waits_for_all_files_of_a_cascade(cascade: Path, tmp_path: Path) -> None:
    folder = tmp_path / "safe" / "1"
    shutil.copytree(cascade, folder)
    late = folder / "stage-2" / "model.onnx"
    content = late.read_bytes()
    late.unlink()
    assert _stamp(folder) is None
    late.write_bytes(content)
    assert Models([tmp_path / "safe"]).get("safe") is not None


@pytest.mark.process
def test_all_files_of_a_cascade_are_uploaded(cascade: Path) -> None:
    names = {file.relative_to(cascade).as_posix() for file in cascade.rglob("*") if file.is_file()}
    left = {name for name in names if not any(fnmatch(name, pattern) for pattern in UPLOADED)}
    assert {Path(name).name for name in left} <= {"README.md", "eyas.json"}


def test_models_must_fit_together(
    weak: Path, strong: Path, exported: dict[Any, Path], toy_data: Path, tmp_path: Path
) -> None:
    data = load_data(toy_data)
    with pytest.raises(ModelError, match="student is enough"):
        make_cascade([exported["cnn", False, False]], strong, data, tmp_path / "out", 0.85)
    other = Path(shutil.copytree(weak, tmp_path / "other"))
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "labels": ["bad", "good"], "data_labels": []}))
    with pytest.raises(LabelError, match=r"0=negative, 1=positive[\s\S]*0=bad, 1=good[\s\S]*--label-map bad=negative"):
        make_cascade([other], strong, data, tmp_path / "out", 0.85)
    make_cascade([other], strong, data, tmp_path / "mapped", 0.85, label_map={"bad": "negative", "good": "positive"})
    assert Predictor(tmp_path / "mapped").label_names == ["bad", "good"]
    three = {**manifest, "labels": ["bad", "good", "so-so"], "data_labels": []}
    (other / "manifest.json").write_text(json.dumps(three))
    with pytest.raises(ModelError, match="only one has bad, good, negative, positive, so-so"):
        make_cascade([other], strong, data, tmp_path / "out", 0.85)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match="can promise"):
        make_cascade([weak], strong, cast(TaskData, data), tmp_path / "out", 0.999)
