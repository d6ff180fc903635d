"""Exams with several teachers: a row for each and for all together."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL_EXAM, write_jsonl
from safetensors.torch import load_file, save_file

from eyas import CombinedTeacher, Predictor, Teacher, load_data
from eyas.errors import DataError, ExportError
from eyas.exam.entries import load_entry
from eyas.exam.plan_file import make_plan, read_plan
from eyas.exam.plan_parts import DataPlan
from eyas.exam.results import Requirements, candidates, load_exam
from eyas.exam.run import run_exam
from eyas.exam.trials import members_of, trials_of
from eyas.export.combination import export_combination
from eyas.report import write_page
from eyas.report.terminal import verdicts
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
        "joined": softmax(aligned.mean(0)),
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
    with pytest.raises(DataError, match=r"plan.yaml:3: teachers: .*expected one of mean, probabilities, confidence"):
        read_plan(path)
    path.write_text("data: films\nteacher: [a, b]\nteachers: label-loss\nrecipes: [dist]\n")
    with pytest.raises(DataError, match="label-loss is the recipe mt-bert, but recipe .* is dist"):
        read_plan(path)
    path.write_text("data: films\nteacher: [a, b]\nteachers: label-loss\ntwins: false\n")
    trials = trials_of(read_plan(path), {"films": Task("classification", ("x", "y"))})
    assert {trial.recipe for trial in trials if trial.kind == "student"} == {"mt-bert"}


def test_teachers_on_the_hub_have_trials_of_their_own() -> None:
    plan = make_plan(data="films", teacher=["someone/one", "someone/other"])
    trials = trials_of(plan, {"films": Task("classification", ("x", "y"))})
    assert len({trial.key("") for trial in trials}) == len(trials)


@pytest.mark.process
def test_labels_that_overlap_are_joined_in_what_is_exported(teacher_folder: Path, second: Path, tmp_path: Path) -> None:
    """The second teacher has a label of its own in place of the first's negative."""
    other = Path(shutil.copytree(second, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = {"0": config["id2label"]["0"], "1": "neutral"}
    config["label2id"] = {name: int(place) for place, name in config["id2label"].items()}
    (other / "config.json").write_text(json.dumps(config))
    export_combination([teacher_folder, other], "joined", tmp_path / "both")
    shipped = Predictor(tmp_path / "both")
    teachers = CombinedTeacher([Teacher(one, dtype="float32") for one in (teacher_folder, other)], "joined")
    assert shipped.label_names == teachers.label_names
    assert len(shipped.label_names) == 3
    np.testing.assert_allclose(shipped.logits(TEXTS), teachers.outputs({"text": TEXTS})["logits"], atol=1e-3)


@pytest.mark.process
def test_exam_takes_answers_and_exported_models(
    exported: dict[tuple[str, bool, bool], Path], toy_data: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    rows = [row for part in load_data(toy_data).values() for row in part]
    labels = load_data(toy_data).labels
    answers = [{"text": row["text"], "answer": labels[row["label"]]} for row in rows]
    data = {"source": str(toy_data), "name": "films", "encoder": str(tiny_bert), "confidence": 0.9}
    known = write_jsonl(tmp_path / "answers.jsonl", answers)
    teachers = [str(known), str(exported["static", False, False])]
    plan = make_plan(data=data, teacher=teachers, teachers="reinforced", **SMALL_EXAM, twins=False, baselines=False)
    folder = run_exam(plan, tmp_path / "exam", jobs=0)
    table = candidates(load_exam(folder)).set_index("title")
    name = exported["static", False, False].name
    assert list(table.index) == [
        "teacher fp32", "teacher answers.jsonl fp32", f"teacher {name} fp32", "static-e16, reinforced"
    ]  # fmt: skip
    assert table.loc["teacher answers.jsonl fp32", "score"] == 1
    assert np.isnan(table["latency_ms"]).tolist() == [True, True, False, False]
    assert np.isnan(table["times_faster"]).all()
    write_page(folder)
    ((_, _, verdict),) = verdicts(folder, Requirements(0.1))
    assert re.search(r"Ship static-e16, reinforced: .* of the teacher .*, at [\d.]+ ms and", verdict)
    few = write_jsonl(tmp_path / "few.jsonl", answers[:-10])
    with pytest.raises(DataError, match="has no answer for 10 of 60 test texts, on which an exam compares"):
        load_entry(DataPlan(source=str(toy_data), teacher=(str(few),), encoder=str(tiny_bert)))


@pytest.mark.process
def test_command_line_takes_several_teachers(teacher_folder: Path, second: Path, toy_data: Path, run: Run) -> None:
    options = ("--data", toy_data, "--student", "static", "--seeds", 1, "--augment", "none", "--dry-run")
    code, out, err = run("exam", "--teacher", teacher_folder, "--teacher", second, *options)
    assert code == 0, err
    assert "teacher second · fp32" in out
