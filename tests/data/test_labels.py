import numpy as np
import pytest

from eyas.data.labels import match_by_name, match_by_proof, ordered_names, parse_label_map, refuse
from eyas.errors import LabelError


def test_match_by_name_ignores_ids() -> None:
    assert match_by_name(["negative", "positive"], ["Positive", "Negative"]) == [1, 0]
    assert match_by_name(["a", "b"], ["a", "c"]) is None
    assert match_by_name(["a", "b"], ["a", "b", "c"]) is None


def test_match_by_proof_finds_permutation() -> None:
    labels = np.repeat([0, 1, 2], 20)
    predictions = np.array([2, 0, 1])[labels]
    predictions[::10] = 0  # a few mistakes
    assert match_by_proof(["0", "1", "2"], ["LABEL_0", "LABEL_1", "LABEL_2"], labels, predictions) == [2, 0, 1]


@pytest.mark.parametrize("predictions", [np.zeros(60, int), np.arange(60) % 3])
def test_match_by_proof_rejects_constant_and_random_predictions(predictions: np.ndarray) -> None:
    labels = np.repeat([0, 1, 2], 20)
    assert match_by_proof(["0", "1", "2"], ["LABEL_0", "LABEL_1", "LABEL_2"], labels, predictions) is None


def test_match_by_proof_rejects_few_rows() -> None:
    labels = np.array([0, 1] * 5)
    assert match_by_proof(["0", "1"], ["LABEL_0", "LABEL_1"], labels, labels) is None


def test_label_error_shows_both_maps() -> None:
    message = str(refuse(["no", "yes"], ["bad", "good"], "teacher"))
    assert "0=no, 1=yes" in message
    assert "0=bad, 1=good" in message
    assert "--label-map bad=no,good=yes" in message


def test_broken_label_maps_are_refused() -> None:
    assert ordered_names({1: "b", 0: "a"}) == ["a", "b"]
    for broken in ({0: "a", 2: "b"}, {0: "a", 1: "a"}):
        with pytest.raises(LabelError, match="label map"):
            ordered_names(broken)
    with pytest.raises(LabelError, match="expected MODEL=DATA"):
        parse_label_map("LABEL_0")
