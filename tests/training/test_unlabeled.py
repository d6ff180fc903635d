"""Students of every task learn from unlabeled texts, which share batches with labeled ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PLANTED, QUICK, teach
from datasets import Dataset
from tagging import sentences, write_conll
from toys import ROWS, write_jsonl
from transformers import set_seed

from eyas import Classifier, StudentSettings, Teacher, create_student, load_data, load_unlabeled
from eyas.data.datasets import is_labeled, task_of
from eyas.data.task_data import TaskData
from eyas.transfer import transfer_set

WHOLE_PASS = {**QUICK, "max_steps": -1, "num_train_epochs": 1}


def _without(word: str, data: TaskData) -> TaskData:
    """Few training rows, none with `word`."""
    kept = data["train"].filter(lambda text: word not in text.split(), input_columns="text").select(range(24))
    return TaskData({**data, "train": kept})


def _vectors(model: Any, tokenizer: Any, word: str) -> torch.Tensor:
    return model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(word)].detach()


def _check_that_only_teachers_read_more(
    kind: str, word: str, data: TaskData, more: Dataset, student: StudentSettings, recipe: str, folder: Path
) -> None:
    """The vector of a word that only unlabeled rows have changes with a teacher, and not without one."""
    data = _without(word, data)
    teacher = Teacher(PLANTED / kind, max_length=64, dtype="float32")
    transfer = transfer_set(data, teacher, more)
    assert task_of(transfer) == task_of(data["train"])
    assert int(is_labeled(transfer).sum()) == len(data["train"])
    assert len(transfer) > len(data["train"]) + 20  # the rest are near-duplicates
    set_seed(0)
    fresh = _vectors(*create_student(student, teacher, transfer), word)
    for name in (recipe, "hard-labels"):
        made = Classifier.from_pretrained(
            teach(teacher, data, folder / name, student, name, WHOLE_PASS, unlabeled=more)
        )
        moved = _vectors(made.model, made.tokenizer, word) - fresh
        assert bool(moved.any()) == (name == recipe)


@pytest.mark.parametrize("crf", [False, True])
def test_tagger_learns_from_unlabeled_sentences(crf: bool, toy_tags: Path, tmp_path: Path) -> None:
    more = load_unlabeled([write_conll(tmp_path / "more.conll", sentences(160))], tagging=True)
    student = StudentSettings("cnn", embedding_size=16, hidden_size=32, crf=crf)
    _check_that_only_teachers_read_more("tags", "rome", load_data(toy_tags), more, student, "soft-targets", tmp_path)


@pytest.mark.parametrize("kind", ["regression", "multi-label", "aspects"])
@pytest.mark.parametrize("recipe", ["logit-mse", "soft-targets"])
def test_students_of_other_tasks_learn_from_unlabeled_texts(
    kind: str, recipe: str, toys: dict[str, Path], tmp_path: Path
) -> None:
    rows = [{n: v for n, v in row.items() if n.startswith("text")} for row in ROWS[kind](100, 3000)]
    more = load_unlabeled([write_jsonl(tmp_path / "more.jsonl", rows)])
    student = StudentSettings("static", embedding_size=16)
    _check_that_only_teachers_read_more(kind, "witty", load_data(toys[kind]), more, student, recipe, tmp_path)
