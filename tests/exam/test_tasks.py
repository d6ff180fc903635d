"""An exam, a shipped student and an answer for every task."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL_EXAM, TEACHER_ARGUMENTS, toy_rows, write_jsonl

from understudy import FinetuneSettings, Predictor, finetune, load_data
from understudy.exam import load
from understudy.exam.best import find_best
from understudy.exam.plan import make_plan
from understudy.exam.results import Wanted, candidates
from understudy.exam.run import run_exam
from understudy.report import ship, write_page

Row = dict[str, Any]


def _regression(row: Row, number: int) -> Row:
    return {
        "text1": row["text"],
        "text2": str(number % 5),
        "score": 2.0 * (row["label"] == "positive") + number % 5 / 10,
    }


def _multi_label(row: Row, number: int) -> Row:
    return {"text": row["text"], "labels": [row["label"]] + ["film"] * ("film" in row["text"])}


def _aspects(row: Row, number: int) -> Row:
    return {"text": row["text"], "mood": row["label"], "length": "long" if len(row["text"]) > 25 else "short"}


@pytest.mark.parametrize(
    ("kind", "make", "metric"),
    [
        ("regression", _regression, "pearson"),
        ("multi-label", _multi_label, "micro_f1"),
        ("aspects", _aspects, "accuracy"),
    ],
)
def test_tasks_of_texts(
    kind: str, make: Callable[[Row, int], Row], metric: str, tiny_bert: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, count, start in (("train", 240, 0), ("validation", 60, 1000), ("test", 60, 2000)):
        rows = [make(dict(row), number) for number, row in enumerate(toy_rows(count, start))]
        write_jsonl(data / f"{name}.jsonl", rows)
    assert len(load_data(data)["train"]) == 240
    teacher = finetune(tiny_bert, load_data(data), tmp_path / "teacher", FinetuneSettings(TEACHER_ARGUMENTS))
    plan = make_plan(data=str(data), teacher=str(teacher), recipes=["logit-mse", "soft-targets"], **SMALL_EXAM)
    exam = run_exam(plan, tmp_path / "exam")
    trials = load(exam)
    assert list(trials["status"].unique()) == ["done"]
    assert set(trials["metric"]) == {metric}
    assert set(trials["task"]) == {kind}
    students = candidates(trials).query("kind == 'student'")
    assert students["score"].max() > 0.7
    assert write_page(exam).is_file()
    shipped = ship(exam, find_best(exam, Wanted(None)), tmp_path / "shipped")
    text = ("a great film", "1") if kind == "regression" else "a great film"
    answer = Predictor(shipped)([text])[0]
    line = json.dumps(dict(zip(("text", "text_pair"), text, strict=True)) if kind == "regression" else text)
    (tmp_path / "in.txt").write_text(line + "\n")
    code, out, _ = run("predict", "--model", shipped, tmp_path / "in.txt", "--quiet")
    assert code == 0
    told = json.loads(out)
    assert all(told[name] == pytest.approx(value, abs=1e-5) for name, value in answer.items() if name == "score")
    assert set(answer) == {"regression": {"score"}, "multi-label": {"labels", "scores"}, "aspects": {"aspects"}}[kind]


def test_an_exam_of_taggers(tag_teacher_folder: Path, toy_tags: Path, tmp_path: Path) -> None:
    settings = {
        **SMALL_EXAM,
        "students": [*SMALL_EXAM["students"], {"architecture": "cnn", "crf": True, "hidden_size": 16}],
    }
    plan = make_plan(data=str(toy_tags), teacher=str(tag_teacher_folder), **settings)
    exam = run_exam(plan, tmp_path / "exam")
    trials = load(exam)
    assert list(trials["status"].unique()) == ["done"]
    assert set(trials["model"]) == {"teacher", "word features + LR", "static-e16", "cnn-e16-h96", "cnn-h16-crf"}
    baseline = trials[trials["kind"] == "baseline"].iloc[0]
    assert baseline["span_f1"] > 0.8
    assert trials["latency_ms"].notna().all()
    page = write_page(exam).read_text()
    assert '"metric": "span F1"' in page
    assert "label B-PER" in page or "B-PER" in page
    shipped = ship(exam, find_best(exam, Wanted(None)), tmp_path / "shipped")
    assert Predictor(shipped).tag("anna went to rome . 4")["tags"][0] == "B-PER"
    assert "token-classification" in (shipped / "README.md").read_text()


def test_a_teacher_of_another_task_is_refused(
    teacher_folder: Path, toy_tags: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    code, _, err = run("distill", "--teacher", teacher_folder, "--data", toy_tags, "--out", tmp_path / "student")
    assert code == 2
    assert "The data is tagging (5 tags), the teacher does classification (2 labels)" in err
    assert not (tmp_path / "student").exists()


def test_a_teacher_with_other_tags_is_refused(
    tag_teacher_folder: Path, toy_tags: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    for name in ("train", "validation"):
        (tmp_path / f"{name}.conll").write_text((toy_tags / f"{name}.conll").read_text().replace("LOC", "GPE"))
    code, _, err = run("distill", "--teacher", tag_teacher_folder, "--data", tmp_path, "--out", tmp_path / "student")
    assert code == 2
    assert "B-GPE" in err
    assert "B-LOC" in err


def test_characters_and_crf_are_for_taggers(
    teacher_folder: Path, toy_data: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    options = ("--teacher", teacher_folder, "--data", toy_data, "--out", tmp_path / "student", "--crf")
    code, _, err = run("distill", *options)
    assert code == 2
    assert "A CRF and characters are for tagging; this is classification (2 labels)" in err


def test_numbers_of_a_pipeline(tiny_bert: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    from understudy import Classifier, DistillSettings, StudentSettings, Teacher, distill

    rows: list[Any] = [_regression(dict(row), number) for number, row in enumerate(toy_rows(120))]
    write_jsonl(tmp_path / "train.jsonl", [{"text": row["text1"], "score": row["score"]} for row in rows])
    data = load_data(tmp_path)
    teacher = finetune(tiny_bert, data, tmp_path / "teacher", FinetuneSettings({**TEACHER_ARGUMENTS, "max_steps": 5}))
    student = StudentSettings("static", embedding_size=16)
    folder = distill(Teacher(teacher), data, tmp_path / "student", DistillSettings(student, arguments={"max_steps": 5}))
    texts = ["a great film", "dreadful"]
    theirs = [found["score"] for found in pipeline("text-classification", model=str(folder))(texts)]
    np.testing.assert_allclose(theirs, Classifier.load(folder).logits(texts)[:, 0], atol=1e-5)
