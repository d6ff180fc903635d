"""An exam of students that write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sacrebleu
from conftest import SMALL_EXAM, write_jsonl
from letters import LEARNS

from eyas import Predictor
from eyas.errors import DataError
from eyas.evaluation.bootstrap import score
from eyas.evaluation.written import text_sums
from eyas.exam.entries import inspect
from eyas.exam.plan import Plan
from eyas.exam.plan_file import make_plan
from eyas.exam.plan_parts import DataPlan
from eyas.exam.results import PREDICTIONS, load_exam
from eyas.exam.run import run_exam
from eyas.report import write_page

DATA = {"source": "letters", "name": "letters", "task": "generation"}


def test_bleu_from_sums_is_that_of_sacrebleu() -> None:
    """Also where no run of four words matches, or none is there."""
    targets = ["the cat sat on the mat", "a dog barks at the moon", "yes", "one two three four five"]
    for written in (
        targets,
        ["the cat sat on a mat", "the dog barks at a moon", "no", "one two three four"],
        ["mat the on sat", "moon", "", "five one"],
        ["nothing", "of", "the", "kind"],
    ):
        expected = sacrebleu.corpus_bleu(written, [targets]).score / 100
        assert score("bleu", text_sums(written, targets).sum(0)) == pytest.approx(expected, abs=1e-9)


def test_plan_in_python_has_students_that_write() -> None:
    entry = DataPlan(source="letters", task="generation", teacher=("t",))
    for data in (entry, [entry], (entry,)):
        assert [student.architecture for student in Plan.model_validate({"data": data}).students] == ["encoder-decoder"]


@pytest.mark.process
def test_exam_compares_by_bleu_and_ships(
    writer_folder: Path, letter_data: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    students = [{"layers": 2, "decoder_layers": 2}]  # of the teacher's form, so that graphs are converted once
    arguments = {**LEARNS, "num_train_epochs": 8}
    settings: dict[str, Any] = {**SMALL_EXAM, "students": students, "arguments": arguments, "recipes": ["word-kd"]}
    plan = make_plan(data={**DATA, "source": str(letter_data)}, teacher=str(writer_folder), **settings)
    exam = run_exam(plan, tmp_path / "exam", jobs=0)
    trials = load_exam(exam)
    assert list(trials["status"]) == ["done"] * 4
    assert [*trials["kind"], *trials["recipe"][2:]] == ["teacher"] * 2 + ["student"] * 2 + ["word-kd", "hard-labels"]
    assert set(trials["task"]) == {"generation"}
    assert trials["latency_ms"].notna().all()
    assert trials["retention"].iloc[0] == 1
    assert trials["agreement"].iloc[0] == 1
    for row in trials.to_dict("records"):
        kept = pd.read_parquet(exam / "trials" / row["key"] / PREDICTIONS)
        assert row["score"] == pytest.approx(float(score("bleu", np.stack(list(kept["sums"])).sum(0))))
        assert row["score"] > 0.1
    given = ("--task", "generation", "--data", letter_data, "--teacher", writer_folder)
    code, out, _ = run("exam", *given, "--student", "gru", "--seeds", 1, "--epochs", 1, "--dry-run")
    assert code == 0
    assert "letters · gru · word-kd · teacher embeddings · seed 0\n" in out
    assert " of training on this machine" in out
    page = write_page(exam).read_text()
    assert '"metric": "BLEU"' in page
    code, _, err = run("best", exam, "--min-retention", "0.01", "--export", tmp_path / "shipped")
    assert code == 0, err
    key = trials["key"].iloc[2]
    expected = pd.read_parquet(exam / "trials" / key / PREDICTIONS)["prediction"].iloc[0]
    source = pd.read_json(letter_data / "test.jsonl", lines=True)["source"].iloc[0]
    assert Predictor(tmp_path / "shipped")([source]) == [{"generated_text": expected}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": [DATA, "films"]}, "need a plan of their own"),
        ({"tune": 3}, "tune is set, but students that write do not take it"),
        ({"data": {**DATA, "label_noise": 0.2}}, "label_noise is set, but students that write"),
        ({"data": {**DATA, "augment": ["tang:20"]}}, "augment is set, but students that write"),
        ({"teacher": ["a", "b"]}, "students that write have one teacher, got a, b"),
        ({"students": ["bilstm"]}, "bilstm does not write: choose encoder-decoder or gru"),
        ({"students": [{"architecture": "gru", "layers": 2}]}, "gru-l2: layers is set, but a student that writes"),
        ({"recipes": ["dist"]}, "Unknown recipe 'dist' for students that write"),
        ({"data": {**DATA, "task": None}, "recipes": ["word-kd"]}, "word-kd"),
    ],
)
def test_plans_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_plan(**{"data": DATA, "teacher": "teacher", **given})


def test_targets_longer_than_the_teacher_writes_are_refused(writer_folder: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"source": "a b", "target": " ".join("k" * 20)}] * 2)
    write_jsonl(tmp_path / "validation.jsonl", [{"source": "a b", "target": "k l"}])
    entry = DataPlan(source=str(tmp_path), task="generation", teacher=(str(writer_folder),))
    with pytest.raises(DataError, match="2 of 2 targets are longer than the model writes: 21 tokens, at most 12"):
        inspect(entry)


def test_students_that_write_are_smaller_models_by_default() -> None:
    (usual,) = make_plan(data=DATA, teacher="teacher").students
    assert (usual.architecture, usual.name) == ("encoder-decoder",) * 2
    (other,) = make_plan(data=DATA, teacher="teacher", students=[{"layers": 2, "decoder_layers": 1}]).students
    assert (other.architecture, other.name) == ("encoder-decoder", "encoder-decoder-l2-d1")
