import numpy as np
import pytest

from eyas.evaluation.changes import KEEPING, TURNING, Changed, change_slices, changed_texts
from eyas.report.verdict import worst_slice
from eyas.tasks import Task

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("in capitals", "a fine film", "A FINE FILM"),
        ("without punctuation", "well, fine!", "well fine"),
        ("with an added \u201cnot\u201d", "It is good and was cheap", "It is not good and was cheap"),
        ("with an added \u201cnot\u201d", "It is not good", "It is not good"),
        ("without its \u201cnot\u201d", "It is not good", "It is good"),
        ("without its \u201cnot\u201d", "I didn't like it", "I did like it"),
        ("without its \u201cnot\u201d", "I won\u2019t go, I can't", "I will go, I can"),
    ],
)
def test_change_makes_expected_text(name: str, text: str, expected: str) -> None:
    assert {**KEEPING, **TURNING}[name](text, RANDOM) == expected


def test_typo_swaps_two_letters_within_a_word() -> None:
    found = {KEEPING["with a typo"]("so lovely", RANDOM) for _ in range(50)}
    assert found == {"so lvoely", "so loevly", "so lovley", "so loveyl"}
    assert KEEPING["with a typo"]("so it is", RANDOM) == "so it is"  # no long word


def test_doubled_word_stands_beside_itself() -> None:
    found = {KEEPING["with a word doubled"]("so good", RANDOM) for _ in range(20)}
    assert found == {"so so good", "so good good"}


def test_changed_texts_name_their_originals() -> None:
    changed = changed_texts(["Fine.", "It is not bad at all"])
    for text, name, row in zip(changed.texts, changed.names, changed.rows, strict=True):
        if name == "in capitals":
            assert text == ("FINE.", "IT IS NOT BAD AT ALL")[row]
    assert changed.names.count("without its \u201cnot\u201d") == 1


def test_slices_count_what_only_one_gets_right() -> None:
    task = Task("classification", ("bad", "fine"))
    changed = Changed(["a", "b", "c"], ["in capitals", "in capitals", "with an added \u201cnot\u201d"], [0, 1, 1])
    student, teacher = np.array([[1, 0], [1, 0], [0, 1.0]]), np.array([[1, 0], [0, 1], [1, 0.0]])
    kept, turned = change_slices(task, changed, np.array([0, 1]), student, teacher)
    assert (kept["rows"], kept["student_accuracy"], kept["teacher_accuracy"]) == (2, 0.5, 1.0)
    assert (kept["lost"], kept["won"], kept["agreement"]) == (1, 0, 0.5)
    assert (turned["rows"], turned["student_accuracy"], turned["agreement"]) == (1, None, 0.0)


def _row(name: str, rows: int, lost: int, won: int, group: str = "content") -> dict[str, object]:
    right = rows - lost - won
    scores = {"student_accuracy": (right + won) / rows, "teacher_accuracy": (right + lost) / rows}
    return {"group": group, "name": name, "rows": rows, "lost": lost, "won": won, **scores}


def test_worst_slice_is_beyond_chance() -> None:
    small, even, worst = _row("few", 19, 19, 0), _row("even", 100, 12, 10), _row("with a negation", 50, 12, 1)
    mild = _row("bad", 200, 20, 2, "label")
    assert worst_slice([small, even, worst, mild]) == "It loses most on texts with a negation: 76.0 against 98.0."
    assert worst_slice([small, even, mild]) == "It loses most on the label bad: 90.0 against 99.0."
    assert worst_slice([small, even]) == ""


def test_no_slice_is_named_by_chance() -> None:
    random, named = np.random.default_rng(0), 0
    for _ in range(200):
        slices = [_row(str(n), 100, *map(int, random.multinomial(20, [0.5, 0.5]))) for n in range(24)]
        named += bool(worst_slice(slices))
    assert named <= 20  # 5 % of 200, and chance


def test_punctuation_leaves_combining_marks_and_emoji() -> None:
    text = "\u0939\u093f\u0928\u094d\u0926\u0940, \U0001f600!"
    assert KEEPING["without punctuation"](text, RANDOM) == "\u0939\u093f\u0928\u094d\u0926\u0940 \U0001f600"
