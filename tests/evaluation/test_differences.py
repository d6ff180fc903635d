import numpy as np

from eyas.evaluation.differences import differences
from eyas.tasks import Task

TASK = Task("classification", ("bad", "fine"))
TEXTS = ["not good", "a great film of 1999", "good", "it wasn\u2019t bad at all", "zyx good"]
LABELS = np.array([0, 1, 1, 1, 1])
TEACHER = np.array([[3.0, 0], [0, 4], [0, 1], [0, 2], [0, 3]])
STUDENT = np.array([[0.0, 2], [0, 4], [0, 1], [1, 0], [0, 3]])


def test_slices_have_expected_rows_and_scores() -> None:
    found = differences(TASK, TEXTS, LABELS, STUDENT, TEACHER, {"not", "good", "a", "great", "film"})
    slices = {row["name"]: row for row in found["slices"]}
    assert slices["bad"] == {
        "group": "label",
        "name": "bad",
        "rows": 1,
        "student_accuracy": 0.0,
        "teacher_accuracy": 1.0,
        "agreement": 0.0,
        "lost": 1,
        "won": 0,
    }
    assert slices["fine"]["student_accuracy"] == 0.75
    assert slices["with a negation"]["rows"] == 2
    assert slices["with a negation"]["agreement"] == 0.0
    assert slices["with a number"]["rows"] == 1
    assert slices["with known words only"]["rows"] == 2
    assert slices["1 to 5 words"]["rows"] == 4
    assert sum(row["rows"] for row in found["slices"] if row["group"] == "confidence") == 5


def test_flips_start_with_most_confident() -> None:
    flips = differences(TASK, TEXTS, LABELS, STUDENT, TEACHER, set())["flips"]
    assert [flip["text"] for flip in flips] == ["not good", "it wasn\u2019t bad at all"]
    assert flips[0] == {
        "text": "not good",
        "label": "bad",
        "student": "fine",
        "student_score": 0.8808,
        "teacher": "bad",
        "teacher_score": 0.9526,
    }


def test_flips_truncate_long_texts() -> None:
    flips = differences(TASK, ["x" * 1000], np.array([0]), STUDENT[:1], TEACHER[:1], set())["flips"]
    assert len(flips[0]["text"]) == 301
