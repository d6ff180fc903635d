"""An exam, a shipped student and an answer for every task."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import EXAM_TASKS, OTHER_TASKS, PLANTED, teach
from toys import toy_rows, write_jsonl

from eyas import Classifier, Predictor, StudentSettings
from eyas.exam.best import find_best
from eyas.exam.results import SHIPPED, Requirements, candidates, load_exam
from eyas.report import ship, write_page
from eyas.training.finetune import finetune

METRICS = {
    "films": "accuracy",
    "tags": "span_f1",
    "regression": "pearson",
    "multi-label": "micro_f1",
    "aspects": "accuracy",
}
KINDS = {"films": "classification", "tags": "tagging"}
Run = Callable[..., tuple[int, str, str]]


def _check_rows(data: str, exam: Path) -> None:
    trials = load_exam(exam)
    trials = trials[trials["dataset"] == data]
    assert list(trials["status"].unique()) == ["done"]
    assert set(trials["metric"]) == {METRICS[data]}
    assert set(trials["task"]) == {KINDS.get(data, data)}
    assert trials["latency_ms"].notna().all()
    students = candidates(trials).query("kind == 'student'")
    taught = "dist" if data == "tags" else "logit-mse"  # the default recipe
    assert set(students["recipe"]) == ({taught, "hard-labels"} if data in EXAM_TASKS else {taught})
    linear = trials[trials["kind"] == "baseline"]
    texts = {"words and characters + LR", "static + LR"}
    assert set(linear["model"]) == ({"word features + LR"} if data == "tags" else texts)
    assert linear["score"].max() > 0.5  # planted sentences are easy: 0.9 and more


def _check_answers(data: str, exam: Path, tmp_path: Path, run: Run) -> None:
    shipped = ship(exam, find_best(exam, Requirements(None), data), tmp_path / "shipped")
    text: Any = {"regression": ("a great film", "1"), "tags": "anna went to rome . 4"}.get(data, "a great film")
    answer = Predictor(shipped)([text])[0]
    line = json.dumps(dict(zip(("text", "text_pair"), text, strict=True)) if data == "regression" else text)
    (tmp_path / "in.txt").write_text(line + "\n")
    code, out, _ = run("predict", "--model", shipped, tmp_path / "in.txt", "--quiet")
    assert code == 0
    told = json.loads(out)
    wanted = {
        "films": {"label", "score"},
        "regression": {"score"},
        "multi-label": {"labels", "scores"},
        "aspects": {"aspects"},
        "tags": {"tokens", "tags", "scores", "spans"},
    }
    assert set(answer) == wanted[data]
    assert told.items() >= {name: told[name] for name in answer}.items()
    if data == "tags":
        assert told["tags"] == answer["tags"]
        assert "token-classification" in (shipped / "README.md").read_text()


@pytest.mark.parametrize("data", EXAM_TASKS)
def test_exam_scores_films_and_tags(data: str, exam: Path) -> None:
    _check_rows(data, exam)


@pytest.mark.parametrize("data", OTHER_TASKS)
def test_exam_scores_every_other_task(data: str, other_exam: Path) -> None:
    _check_rows(data, other_exam)


@pytest.mark.parametrize("data", EXAM_TASKS)
def test_shipped_student_answers_for_films_and_tags(data: str, exam: Path, tmp_path: Path, run: Run) -> None:
    _check_answers(data, exam, tmp_path, run)


@pytest.mark.parametrize("data", OTHER_TASKS)
def test_shipped_student_answers_for_every_other_task(data: str, other_exam: Path, tmp_path: Path, run: Run) -> None:
    _check_answers(data, other_exam, tmp_path, run)


def test_exported_teacher_of_pairs_cuts_long_texts_as_the_teacher(other_exam: Path) -> None:
    trials = load_exam(other_exam)
    teachers = trials[(trials["dataset"] == "regression") & (trials["kind"] == "teacher")]
    shipped = Predictor(other_exam / "trials" / teachers["key"].iloc[0] / SHIPPED)
    firsts, seconds = ["a great film " * 200] * 2 + ["a great film"], ["1 " * 300, "3", "2 " * 300]
    expected = Classifier.from_pretrained(PLANTED / "regression").logits(firsts, seconds)
    assert shipped.logits(firsts, seconds) == pytest.approx(expected, abs=1e-4)
    assert shipped.cut == 3


def test_page_names_metric_of_each_task(exam: Path) -> None:
    page = write_page(exam).read_text()
    for name in ("span F1", "accuracy"):
        assert f'"metric": "{name}"' in page
    assert "B-PER" in page


def test_page_names_metric_of_each_other_task(other_exam: Path) -> None:
    page = write_page(other_exam).read_text()
    for name in ("micro F1", "Pearson correlation", "accuracy"):
        assert f'"metric": "{name}"' in page


def test_page_offers_recipes_of_the_data_set(exam: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto(write_page(exam).as_uri())
    options = page.locator("#recipe option")
    page.select_option("#dataset", "tags")
    assert options.all_inner_texts() == ["all", "dist", "hard-labels"]
    page.select_option("#recipe", "dist")
    page.select_option("#dataset", "films")
    assert options.all_inner_texts() == ["all", "logit-mse", "hard-labels"]
    assert page.locator("#recipe").input_value() == "all"
    assert "static" in page.locator("#candidates").inner_text()
    page.close()


def test_distill_refuses_teacher_of_another_task(
    teacher_folder: Path, toy_tags: Path, tmp_path: Path, run: Run
) -> None:
    code, _, err = run("distill", "--teacher", teacher_folder, "--data", toy_tags, "--out", tmp_path / "student")
    assert code == 2
    assert "tagging (5 tags)" in err
    assert "classification (2 labels)" in err
    assert not (tmp_path / "student").exists()


def test_distill_refuses_teacher_with_other_tags(
    tag_teacher_folder: Path, toy_tags: Path, tmp_path: Path, run: Run
) -> None:
    for name in ("train", "validation"):
        (tmp_path / f"{name}.conll").write_text((toy_tags / f"{name}.conll").read_text().replace("LOC", "GPE"))
    code, _, err = run("distill", "--teacher", tag_teacher_folder, "--data", tmp_path, "--out", tmp_path / "student")
    assert code == 2
    assert "B-GPE" in err
    assert "B-LOC" in err


def test_distill_refuses_crf_for_classification(teacher_folder: Path, toy_data: Path, tmp_path: Path, run: Run) -> None:
    options = ("--teacher", teacher_folder, "--data", toy_data, "--out", tmp_path / "student", "--crf")
    code, _, err = run("distill", *options)
    assert code == 2
    assert "--crf" in err
    assert "classification (2 labels)" in err


def test_pipeline_returns_regression_scores(tiny_bert: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    from eyas import FinetuneSettings, load_data

    rows = [{"text": row["text"], "score": float(len(row["text"]))} for row in toy_rows(120)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    data = load_data(tmp_path)
    teacher = finetune(tiny_bert, data, tmp_path / "teacher", FinetuneSettings({"max_steps": 1, "bf16": False}))
    folder = teach(teacher, data, tmp_path / "student", StudentSettings("static", embedding_size=16))
    texts = ["a great film", "dreadful"]
    theirs = [found["score"] for found in pipeline("text-classification", model=str(folder))(texts)]
    np.testing.assert_allclose(theirs, Classifier.from_pretrained(folder).logits(texts)[:, 0], atol=1e-5)
