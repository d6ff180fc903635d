"""An exam, a shipped student and an answer for every task."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL_EXAM, TEACHER_ARGUMENTS, toy_rows, write_jsonl

from eyas import FinetuneSettings, Predictor, load_data, load_exam
from eyas.exam.best import find_best
from eyas.exam.plan_file import make_plan
from eyas.exam.results import Requirements, candidates
from eyas.exam.run import run_exam
from eyas.report import ship, write_page
from eyas.training.finetune import finetune

Row = dict[str, Any]


def _regression(row: Row, number: int) -> Row:
    score = 2.0 * (row["label"] == "positive") + number % 5 / 10
    return {"text1": row["text"], "text2": str(number % 5), "score": score}


def _multi_label(row: Row, number: int) -> Row:
    return {"text": row["text"], "labels": [row["label"]] + ["film"] * ("film" in row["text"])}


def _aspects(row: Row, number: int) -> Row:
    return {"text": row["text"], "mood": row["label"], "length": "long" if len(row["text"]) > 25 else "short"}


MAKE: dict[str, Callable[[Row, int], Row]] = {
    "regression": _regression,
    "multi-label": _multi_label,
    "aspects": _aspects,
}
METRICS = {"regression": "pearson", "multi-label": "micro_f1", "aspects": "accuracy", "tagging": "span_f1"}


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, tag_teacher_folder: Path, toy_tags: Path) -> Path:
    """One exam of four data sets, each with a task and a teacher of its own."""
    root = tmp_path_factory.mktemp("every")
    entries = [{"source": str(toy_tags), "name": "tagging", "teacher": str(tag_teacher_folder)}]
    for kind, make in MAKE.items():
        (root / kind).mkdir()
        for name, count, start in (("train", 240, 0), ("validation", 60, 1000), ("test", 60, 2000)):
            rows = [make(dict(row), number) for number, row in enumerate(toy_rows(count, start))]
            write_jsonl(root / kind / f"{name}.jsonl", rows)
        settings = FinetuneSettings(TEACHER_ARGUMENTS)
        teacher = finetune(tiny_bert, load_data(root / kind), root / f"{kind}-teacher", settings)
        entries.append({"source": str(root / kind), "name": kind, "teacher": str(teacher)})
    cnn = {"architecture": "cnn", "embedding_size": 16, "hidden_size": 64}
    settings = {**SMALL_EXAM, "students": [cnn], "twins": False}
    exam = run_exam(make_plan(data=entries, **settings), root / "exam")
    write_page(exam)
    return exam


@pytest.mark.parametrize("kind", METRICS)
def test_every_task_is_examined(kind: str, every: Path) -> None:
    trials = load_exam(every)
    trials = trials[trials["dataset"] == kind]
    assert list(trials["status"].unique()) == ["done"]
    assert set(trials["metric"]) == {METRICS[kind]}
    assert set(trials["task"]) == {kind}
    assert trials["latency_ms"].notna().all()
    students = candidates(trials).query("kind == 'student'")
    assert students["score"].max() > 0.7
    assert set(students["recipe"]) == {"dist" if kind == "tagging" else "logit-mse"}  # where nobody says
    linear = trials[trials["kind"] == "baseline"]
    assert set(linear["model"]) == {"word features + LR"} if kind == "tagging" else {"tf-idf + LR", "static + LR"}
    assert linear["score"].max() > 0.6


def test_the_page_names_the_score_of_each_task(every: Path) -> None:
    page = (every / "report" / "index.html").read_text()
    for name in ("span F1", "micro F1", "Pearson correlation", "accuracy"):
        assert f'"metric": "{name}"' in page
    assert "label B-PER" in page or "B-PER" in page


def test_the_choice_of_recipes_is_the_data_sets(every: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto((every / "report" / "index.html").as_uri())
    options = page.locator("#recipe option")
    page.select_option("#dataset", "tagging")
    assert options.all_inner_texts() == ["all", "dist"]
    page.select_option("#recipe", "dist")
    page.select_option("#dataset", "aspects")
    assert options.all_inner_texts() == ["all", "logit-mse"]
    assert page.locator("#recipe").input_value() == "all"
    assert "cnn" in page.locator("#candidates").inner_text()
    page.close()


@pytest.mark.parametrize("kind", METRICS)
def test_what_ships_answers(kind: str, every: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    shipped = ship(every, find_best(every, Requirements(None), kind), tmp_path / "shipped")
    text: Any = {"regression": ("a great film", "1"), "tagging": "anna went to rome . 4"}.get(kind, "a great film")
    answer = Predictor(shipped)([text])[0]
    line = json.dumps(dict(zip(("text", "text_pair"), text, strict=True)) if kind == "regression" else text)
    (tmp_path / "in.txt").write_text(line + "\n")
    code, out, _ = run("predict", "--model", shipped, tmp_path / "in.txt", "--quiet")
    assert code == 0
    told = json.loads(out)
    wanted = {
        "regression": {"score"},
        "multi-label": {"labels", "scores"},
        "aspects": {"aspects"},
        "tagging": {"tokens", "tags", "scores", "spans"},
    }
    assert set(answer) == wanted[kind]
    assert told.items() >= {name: told[name] for name in answer}.items()
    if kind == "tagging":
        assert told["tags"] == answer["tags"]
        assert answer["tags"][0] == "B-PER"
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

    from eyas import Classifier, DistillSettings, StudentSettings, Teacher
    from eyas.training.distill import distill

    rows: list[Any] = [_regression(dict(row), number) for number, row in enumerate(toy_rows(120))]
    write_jsonl(tmp_path / "train.jsonl", [{"text": row["text1"], "score": row["score"]} for row in rows])
    data = load_data(tmp_path)
    teacher = finetune(tiny_bert, data, tmp_path / "teacher", FinetuneSettings({**TEACHER_ARGUMENTS, "max_steps": 5}))
    student = StudentSettings("static", embedding_size=16)
    folder = distill(Teacher(teacher), data, tmp_path / "student", DistillSettings(student, arguments={"max_steps": 5}))
    texts = ["a great film", "dreadful"]
    theirs = [found["score"] for found in pipeline("text-classification", model=str(folder))(texts)]
    np.testing.assert_allclose(theirs, Classifier.from_pretrained(folder).logits(texts)[:, 0], atol=1e-5)
