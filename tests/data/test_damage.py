"""Damaged training labels: exact counts, seeded, the rest untouched."""

from typing import Any

import numpy as np
import pytest

from eyas.data.damage import Damage, damaged
from eyas.data.datasets import labels_of, load_data
from eyas.data.targets import with_labels_of
from eyas.errors import DataError

COUNTS = {"a": 400, "b": 200, "c": 300}


def train() -> Any:
    texts = [f"{name} {number}" for name, count in COUNTS.items() for number in range(count)]
    rows = {"text": texts, "label": [text[0] for text in texts]}
    return load_data({"train": rows, "validation": {"text": ["x"], "label": ["a"]}})["train"]


def confident(rows: Any) -> np.ndarray:
    """A teacher that takes every a and b for a c, if it errs, and a c for a b three times out of four."""
    chances = np.array([[0.8, 1e-9, 0.2], [1e-9, 0.8, 0.2], [0.05, 0.15, 0.8]])
    return np.asarray(np.log(chances[labels_of(rows)]))


def counts(labels: np.ndarray) -> list[int]:
    return [int((labels == place).sum()) for place in range(3)]


def test_imbalance_is_the_ratio_of_the_largest_and_the_smallest_class() -> None:
    """By hand: 400, 400 / sqrt(16) and 400 / 16 rows, in the order of the sizes a, c, b."""
    rows = damaged(train(), Damage(imbalance=16), confident)
    assert counts(labels_of(rows)) == [400, 25, 100]
    assert rows["text"][:2] == ["a 0", "a 1"]


def test_no_class_exceeds_its_share_of_the_imbalance() -> None:
    """By hand: the smallest, 200, is at its natural size if the largest has 320; between them 320 / sqrt(1.6) = 253."""
    rows = damaged(train(), Damage(imbalance=1.6), confident)
    assert counts(labels_of(rows)) == [320, 200, 253]


def test_wrong_labels_are_those_of_the_data() -> None:
    """The teacher knows a d, which no text has."""
    rows = with_labels_of(train(), ["a", "b", "c", "d"])
    found = labels_of(damaged(rows, Damage(label_noise=0.5), confident))
    assert set(found.tolist()) == {0, 1, 2}


def test_label_fraction_keeps_texts_and_shares_of_each_class() -> None:
    rows = damaged(train(), Damage(label_fraction=0.1), confident)
    assert counts(labels_of(rows)) == [40, 20, 30]
    assert len(rows) == 900
    true = labels_of(train())
    kept = labels_of(rows) >= 0
    assert (labels_of(rows)[kept] == true[kept]).all()


@pytest.mark.parametrize("noise", [0.2, "0.2"])
def test_label_noise_is_symmetric(noise: Any) -> None:
    before, after = labels_of(train()), labels_of(damaged(train(), Damage(label_noise=noise), confident))
    wrong = before != after
    assert wrong.sum() == 180
    from_a = [int(((after == other) & (before == 0)).sum()) for other in (1, 2)]
    assert min(from_a) > 0.3 * sum(from_a)


def test_label_noise_by_confusion_follows_the_teacher() -> None:
    before = labels_of(train())
    after = labels_of(damaged(train(), Damage(label_noise="confusion:0.5"), confident))
    wrong = before != after
    assert wrong.sum() == 450
    assert set(after[wrong & (before < 2)]) == {2}
    of_c = after[wrong & (before == 2)]
    assert 0.6 < (of_c == 1).mean() < 0.9


def test_damage_is_seeded_and_its_parts_follow_one_another() -> None:
    damage = Damage(imbalance=4, label_fraction=0.5, label_noise=0.1)
    first, second = (labels_of(damaged(train(), damage, confident)) for _ in range(2))
    assert (first == second).all()
    assert len(first) == 400 + 200 + 100
    assert (first >= 0).sum() == 350
    assert damage.describe() == "imbalance 4, 50% labeled, 10% wrong labels"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"imbalance": 0.5}, "imbalance is 0.5, expected at least 1"),
        ({"label_fraction": 0}, "label_fraction is 0, expected above 0"),
        ({"label_fraction": 1.1}, "label_fraction is 1.1"),
        ({"label_noise": 1}, "label_noise is 1, expected a share"),
        ({"label_noise": "often"}, "label_noise is often"),
        ({"label_noise": "confusion"}, "label_noise is confusion"),
    ],
    ids=str,
)
def test_impossible_damage_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Damage(**given)


def test_damage_is_for_classification() -> None:
    texts = {"text": ["x", "y"], "label": [0.5, 1.5]}
    numbers = load_data({"train": texts, "validation": {"text": ["z"], "label": [0.1]}})["train"]
    with pytest.raises(DataError, match="for classification; this is regression"):
        damaged(numbers, Damage(label_noise=0.1), confident)
    tags = load_data(
        {name: {"tokens": [["a", "b"], ["c"]], "label": [["X", "Y"], ["X"]]} for name in ("train", "validation")}
    )
    for damage in (Damage(label_noise=0.5), Damage(label_fraction=0.5), Damage(imbalance=2)):
        with pytest.raises(DataError, match="for classification; this is tagging"):
            damaged(tags["train"], damage, confident)
