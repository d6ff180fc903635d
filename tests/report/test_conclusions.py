"""Conclusions from small made-up exams, whose right answers are plain."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eyas.errors import DataError
from eyas.evaluation.bootstrap import ratio_interval
from eyas.evaluation.differences import differences
from eyas.exam.best import find_best
from eyas.exam.results import PREDICTIONS, TWIN, Requirements, candidates, load_exam, winner
from eyas.outputs import strict_json
from eyas.report.answers import Answers
from eyas.report.gains import summaries, taught
from eyas.report.terminal import print_table, reachable
from eyas.report.verdict import teacher_doubt, verdict, worst_slice
from eyas.tasks import Task

ROWS = 2000
Exam = Callable[..., Path]


def model(
    name: str, right: int, latency: float, size: float = 1e6, recipe: str = "", dataset: str = "films", **more: Any
) -> dict[str, Any]:
    """A candidate that answers `right` of each 100 texts right, the first ones or, a baseline, the last."""
    kind = "baseline" if name.endswith("LR") else "teacher" if name == "teacher" else "student"
    row = {"kind": kind, "model": name, "recipe": recipe, "dataset": dataset, "score": right / 100, "size_bytes": size}
    return {**row, "validation_score": right / 100, "latency_ms": latency, **more}


@pytest.fixture
def made(tmp_path: Path) -> Exam:
    def make(*models: dict[str, Any]) -> Path:
        folder, rows, costs = tmp_path / "exam", [], []
        for number, one in enumerate(models):
            row = {"key": f"t{number}", "format_version": 4, "status": "done", "precision": "fp32", "seed": 0}
            row |= {"embeddings": "teacher", "metric": "accuracy", "task": "classification", "rows": ROWS, **one}
            latency = row.pop("latency_ms")
            right = (np.arange(ROWS) + 50 * (one["kind"] == "baseline")) % 100 < 100 * one["score"]
            (folder / "trials" / row["key"]).mkdir(parents=True)
            sums = np.stack([right, np.ones(ROWS)], 1).astype(float)
            pd.DataFrame({"sums": list(sums)}).to_parquet(folder / "trials" / row["key"] / PREDICTIONS)
            costs.append({**row, "latency_ms": latency, "times_faster": 10 / latency} | dict.fromkeys(NO_COST))
            rows.append(row)
        for name, content in (("results", rows), ("costs", costs)):
            (folder / f"{name}.jsonl").write_text("".join(f"{strict_json(row)}\n" for row in content))
        return folder

    return make


NO_COST = ("latency_p95_ms", "latency_p99_ms", "sentences_per_second", "load_ms", "peak_rss_bytes", "added_rss_bytes")
NO_COST = (*NO_COST, "joules_per_1000")
TEACHER = model("teacher", 95, 10, 9e7)


def said(folder: Path, requirements: Requirements | None = None) -> str:
    return verdict(folder, candidates(load_exam(folder)), requirements or Requirements(0.9))[0]


@pytest.mark.parametrize(
    ("baselines", "meaning"),
    [
        ([model("words + LR", 94, 0.1, 5e5)], "scores more (94.0 against 90.0), so no student is needed"),
        ([model("words + LR", 91, 0.1, 5e5)], "more, within the interval (91.0 against 90.0), so a student may not be"),
        ([model("words + LR", 94, 5, 5e5)], "so the student has only its speed to offer"),
        ([model("words + LR", 94, 0.1, 5e7)], "so the student has only its size to offer"),
        ([model("encoder + LR", 95, 9, 9e7)], "so the student has only its speed and size to offer"),
        ([model("encoder + LR", 95, 9, 9e7), model("words + LR", 94, 0.1, 5e5)], "words + LR scores more (94.0"),
    ],
)
def test_linear_model_makes_a_student_needless_if_it_costs_no_more(
    made: Exam, baselines: Sequence[dict[str, Any]], meaning: str
) -> None:
    folder = made(TEACHER, model("cnn", 90, 1, 2e6, "dist"), *baselines)
    assert meaning in said(folder)


@pytest.mark.parametrize("score", [0, -10])
def test_nothing_is_kept_of_a_teacher_that_does_not_score_above_0(
    made: Exam, score: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(model("teacher", score, 10), model("cnn", 5, 1, 1e6, "dist"), model("static", -30, 0.5, 1e6, "dist"))
    table = candidates(load_exam(folder))
    assert table["retention"].isna().all()
    assert said(folder) == "cnn, dist has no teacher to keep a share of: it failed, or it does not score above 0."
    with pytest.raises(DataError, match="does not score above 0"):
        find_best(folder)
    print_table(table)
    assert "nan" not in capsys.readouterr().out


def test_ratio_of_a_score_that_may_be_0_has_no_interval() -> None:
    random = np.random.default_rng(0)
    own, weak, sure = ([np.stack([random.random(200) < share, np.ones(200)], 1)] for share in (0.5, 0.01, 0.5))
    assert ratio_interval(own, weak, "accuracy") is None
    low, high = ratio_interval(own, sure, "accuracy") or (0, 0)
    assert 0.5 < low < 1 < high < 2


def test_next_command_asks_for_no_negative_share(made: Exam) -> None:
    folder = made(TEACHER, model("cnn", 90, 1, 1e6, "dist", validation_score=-0.2))
    assert reachable(candidates(load_exam(folder)), Requirements()).retention == 0


def test_requirements_are_not_rounded() -> None:
    shares = [str(Requirements(share)).split("%")[0] for share in (0.97, 0.974, 0.975, 0.995)]
    assert shares == ["97", "97.4", "97.5", "99.5"]


def test_closest_student_is_within_the_limits(made: Exam) -> None:
    folder = made(TEACHER, model("static", 90, 0.1, 1e6, "dist"), model("bilstm", 93, 5, 5e7, "dist"))
    table = candidates(load_exam(folder))
    assert table.loc[winner(table, Requirements(0.99, latency_ms=0.2))[0], "model"] == "static"
    assert table.loc[winner(table, Requirements(0.99))[0], "model"] == "bilstm"
    assert table.loc[winner(table, Requirements(0.99, latency_ms=0.01))[0], "model"] == "bilstm"
    with pytest.raises(DataError, match=r"reaches 99% of the teacher within 0.2 ms. The closest is static"):
        find_best(folder, Requirements(0.99, latency_ms=0.2))


def test_control_that_ships_for_want_of_students_is_told(made: Exam) -> None:
    folder = made(TEACHER, model("cnn", 93, 1, 1e6, TWIN))
    (folder / "plan.yaml").write_text("recipes: [dist]\n")
    assert said(folder).startswith("No student with a teacher finished this exam. Ship cnn, hard-labels: ")


def test_data_sets_with_a_recipe_of_their_own_are_not_compared(made: Exam) -> None:
    """The control would win, as the only one on all data sets."""
    folder = made(
        *[model("cnn", 95, 1, 1e6, "logit-mse"), model("cnn", 90, 1, 1e6, TWIN)],
        *[model("cnn", 88, 1, 1e6, "dist", "topics"), model("cnn", 80, 1, 1e6, TWIN, "topics")],
    )
    assert taught(folder, candidates(load_exam(folder))) == []
    assert summaries([]) == []


def test_doubt_names_what_the_linear_model_read(made: Exam) -> None:
    folder = made(model("teacher", 70, 10), model("values + LR", 72, 1))
    table = candidates(load_exam(folder))
    doubt = teacher_doubt(Answers(folder, table), table)
    assert "than a linear model on values (72.0)" in doubt
    assert doubt.endswith("fine-tune the teacher longer or with more labels.")


def test_errors_that_come_together_are_no_evidence_each() -> None:
    """Two taggers with as many errors, the student's in 8 words of each of 10 sentences, the teacher's in 1 of each of
    80: by words the student loses nothing, by sentences it is better, and turned around it must not be worse by chance.
    """
    labels, sentences = np.zeros(80 * 8, int), [["a"] * 8] * 80
    student, teacher = np.zeros((2, 80, 8), int)
    student[:10], teacher[:, 0] = 1, 1
    found = differences(
        Task("tagging", ("O", "B-a")),
        sentences,
        labels,
        *(np.eye(2)[one.reshape(-1)] for one in (student, teacher)),
        {"a"},
    )
    row = next(row for row in found["slices"] if row["name"] == "with known words only")
    assert (row["rows"], row["student_accuracy"], row["teacher_accuracy"]) == (640, 0.875, 0.875)
    assert (row["lost"], row["won"]) == (10, 70)
    few = {"group": "content", "name": "x", "rows": 640, "student_accuracy": 0.8, "teacher_accuracy": 0.9}
    assert worst_slice([{**few, "lost": 5, "won": 2}]) == ""
    assert worst_slice([{**few, "lost": 50, "won": 2}]) == "It loses most on texts x: 80.0 against 90.0."
