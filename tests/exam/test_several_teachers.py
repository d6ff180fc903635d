"""Exams with several teachers: a row for each and for all together."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL_EXAM
from safetensors.torch import load_file, save_file

from eyas import CombinedTeacher, Predictor, Teacher, load_data
from eyas.errors import DataError, ExportError
from eyas.exam.plan_file import make_plan, read_plan
from eyas.exam.results import candidates, load_exam
from eyas.exam.run import run_exam
from eyas.exam.trials import members_of, trials_of
from eyas.export.combination import export_combination
from eyas.report import write_page
from eyas.runtime.combination import RULES
from eyas.runtime.openvino import OpenVINOPredictor
from eyas.tasks import Task, softmax

Run = Callable[..., tuple[int, str, str]]
TEXTS = ["a wonderful film", "a dull film", "so bad", "not bad at all"]


@pytest.fixture(scope="module")
def second(teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Less sure than the first, with its labels in another order."""
    folder = Path(shutil.copytree(teacher_folder, tmp_path_factory.mktemp("teachers") / "second"))
    weights = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = 0.3 * weights[name].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    names = [config["id2label"]["1"], config["id2label"]["0"]]
    config["id2label"], config["label2id"] = dict(enumerate(names)), {name: place for place, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.process
@pytest.mark.parametrize("rule", RULES)
def test_exported_teachers_answer_together_as_in_training(
    rule: str, teacher_folder: Path, second: Path, tmp_path: Path
) -> None:
    export_combination([teacher_folder, second], rule, tmp_path / "both")
    shipped = Predictor(tmp_path / "both")
    each = [Teacher(folder, dtype="float32").logits(TEXTS) for folder in (teacher_folder, second)]
    aligned = np.stack([each[0], each[1][:, ::-1]])
    chances = softmax(aligned)
    expected = {  # by hand, from the probabilities
        "mean": softmax(aligned.mean(0)),
        "probabilities": chances.mean(0),
        "confidence": (chances * chances.max(2, keepdims=True)).sum(0) / chances.max(2).sum(0)[:, None],
    }[rule]
    np.testing.assert_allclose(shipped.predict_proba(TEXTS), expected, atol=1e-4)
    assert shipped.label_names == Teacher(teacher_folder).label_names
    with pytest.raises(ExportError, match="is a combination, which does not run on OpenVINO"):
        OpenVINOPredictor(tmp_path / "both")


@pytest.mark.process
def test_exam_has_a_row_for_each_teacher_and_for_all_together(
    teacher_folder: Path, second: Path, toy_data: Path, tmp_path: Path
) -> None:
    data = {"source": str(toy_data), "name": "films", "augment": "none", "teachers": "confidence"}
    plan = make_plan(data=data, teacher=[str(teacher_folder), str(second)], **SMALL_EXAM)
    folder = run_exam(plan, tmp_path / "exam", jobs=0)
    table = candidates(load_exam(folder)).set_index("title")
    names = [
        f"{name} {precision}"
        for name in ("teacher", f"teacher {teacher_folder.name}", "teacher second")
        for precision in ("fp32", "int8")
    ]
    assert set(names) <= set(table.index)
    assert table.loc["teacher fp32", "retention"] == 1
    together, *members = (table.loc[name] for name in names[::2])
    assert together["size_bytes"] == pytest.approx(sum(one["size_bytes"] for one in members), rel=0.01)
    assert together["other_parameters"] == sum(one["other_parameters"] for one in members)
    test = load_data(toy_data)["test"]
    teachers = CombinedTeacher([Teacher(one, dtype="float32") for one in (teacher_folder, second)], "confidence").label(
        test
    )
    expected = teachers.logits(np.asarray(test["example_id"])).numpy()
    found = pd.read_parquet(folder / "trials" / together["keys"][0] / "predictions.parquet")
    np.testing.assert_allclose(np.stack(found["logits"]), expected, atol=1e-3)
    page = write_page(folder).read_text()
    assert "Together the 2 teachers score" in page
    assert "the best alone, teacher" in page


def test_plan_names_several_teachers(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    path = tmp_path / "plan.yaml"
    path.write_text("data: films\nteacher: [a, b]\nteachers: confidence\nseeds: [0]\n")
    (entry,) = read_plan(path).datasets
    assert [Path(one) for one in entry.teacher] == [tmp_path / "a", tmp_path / "b"]
    assert entry.teachers == "confidence"
    assert list(members_of(entry)) == ["teacher a", "teacher b"]
    trials = trials_of(read_plan(path), {"films": Task("classification", ("x", "y"))})
    assert [trial.model for trial in trials if trial.kind == "member"] == ["teacher a", "teacher b"] * 2
    path.write_text("data: films\nteacher: [a, b]\nteachers: vote\n")
    with pytest.raises(DataError, match=r"plan.yaml:3: teachers: expected one of mean, probabilities, confidence"):
        read_plan(path)


@pytest.mark.process
def test_command_line_takes_several_teachers(teacher_folder: Path, second: Path, toy_data: Path, run: Run) -> None:
    options = ("--data", toy_data, "--student", "static", "--seeds", 1, "--augment", "none", "--dry-run")
    code, out, err = run("exam", "--teacher", teacher_folder, "--teacher", second, *options)
    assert code == 0, err
    assert "teacher second · fp32" in out
