"""Unlabelled text teaches in every task; rows with and without labels share batches."""

from pathlib import Path
from typing import Any

import pytest
from conftest import TEACHER_ARGUMENTS, toy_rows, write_jsonl
from tagging import sentences, write_conll

from eyas import (
    Classifier,
    DistillSettings,
    FinetuneSettings,
    StudentSettings,
    Teacher,
    distill,
    evaluate,
    finetune,
    load_data,
    load_unlabelled,
)
from eyas.data.datasets import is_labelled, task_of
from eyas.transfer import transfer_set


@pytest.mark.parametrize("crf", [False, True])
def test_a_tagger_learns_from_unlabelled_sentences(
    crf: bool, tag_teacher_folder: Path, toy_tags: Path, tmp_path: Path
) -> None:
    data = load_data(toy_tags)
    data["train"] = data["train"].select(range(4))
    more = load_unlabelled([write_conll(tmp_path / "more.conll", sentences(160))], tagging=True)
    transfer = transfer_set(data, Teacher(tag_teacher_folder), more)
    assert task_of(transfer) == task_of(data["train"])
    assert int(is_labelled(transfer).sum()) == 4
    assert len(transfer) > 40  # the rest says nearly the same
    student = StudentSettings("cnn", embedding_size=16, hidden_size=32, crf=crf)
    arguments = {"num_train_epochs": 40, "per_device_train_batch_size": 16, "learning_rate": 5e-3}
    scores = {}
    for recipe in ("soft-targets", "hard-labels"):
        settings = DistillSettings(student, recipe, arguments=arguments)
        folder = distill(Teacher(tag_teacher_folder, max_length=64), data, tmp_path / recipe, settings, more)
        scores[recipe] = evaluate(Classifier.load(folder), data["test"])["span_f1"]
    assert scores["soft-targets"] > scores["hard-labels"]
    assert scores["soft-targets"] > 0.8


@pytest.mark.parametrize("kind", ["regression", "multi-label", "aspects"])
@pytest.mark.parametrize("recipe", ["logit-mse", "soft-targets"])
def test_other_tasks_learn_from_unlabelled_texts(kind: str, recipe: str, tiny_bert: Path, tmp_path: Path) -> None:
    def labelled(row: dict[str, str]) -> dict[str, Any]:
        good = row["label"] == "positive"
        return {
            "regression": {"text": row["text"], "score": 1.5 * good},
            "multi-label": {"text": row["text"], "labels": ["good"] if good else []},
            "aspects": {
                "text": row["text"],
                "mood": row["label"],
                "kind": "film" if "film" in row["text"] else "other",
            },
        }[kind]

    write_jsonl(tmp_path / "train.jsonl", [labelled(row) for row in toy_rows(240)])
    write_jsonl(tmp_path / "validation.jsonl", [labelled(row) for row in toy_rows(40, 1000)])
    (tmp_path / "more.txt").write_text("".join(f"{row['text']}\n" for row in toy_rows(100, 3000)))
    data, more = load_data(tmp_path), load_unlabelled([tmp_path / "more.txt"])
    teacher = finetune(
        tiny_bert, data, tmp_path / "teacher", FinetuneSettings({**TEACHER_ARGUMENTS, "num_train_epochs": 14})
    )
    transfer = transfer_set(data, Teacher(teacher), more)
    assert len(transfer) > 270  # the rest says nearly the same
    assert int(is_labelled(transfer).sum()) == 240
    arguments = {"num_train_epochs": 40, "per_device_train_batch_size": 16, "learning_rate": 5e-3}
    settings = DistillSettings(StudentSettings("static", embedding_size=16), recipe, arguments=arguments)
    folder = distill(Teacher(teacher), data, tmp_path / "student", settings, more)
    scores = evaluate(Classifier.load(folder), data["validation"], Classifier.load(teacher))
    assert scores["agreement"] > 0.6
