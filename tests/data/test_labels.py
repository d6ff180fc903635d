import json
import shlex
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from eyas.data.labels import match_by_name, match_by_proof, ordered_names, parse_label_map, refuse
from eyas.errors import LabelError


def test_match_by_name_ignores_ids() -> None:
    assert match_by_name(["negative", "positive"], ["Positive", "Negative"]) == [1, 0]
    assert match_by_name(["a", "b"], ["a", "c"]) is None
    assert match_by_name(["a", "A"], ["A", "a"]) == [1, 0]
    assert match_by_name(["a", "A"], ["a", "b"]) is None
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


printable = st.characters(exclude_categories=("C", "Z")) | st.just(" ")
names = st.text(printable, min_size=1).map(str.strip).filter(bool)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.lists(st.tuples(names, names), min_size=2, unique_by=lambda pair: pair[0].casefold()))
@example([("a", "b.json"), ("c", "d.yaml")])
@example([("Cost, delivery", "food=neg"), ('it\'s "new"', "$HOME `a` \\")])
def test_suggested_label_map_is_accepted_as_it_must_be_typed(pairs: list[tuple[str, str]]) -> None:
    model_names, data_names = zip(*pairs, strict=True)
    typed = str(refuse(data_names, model_names, "teacher")).rsplit("--label-map ", 1)[1]
    words = shlex.split(typed)
    assert len(words) == 1
    assert parse_label_map(words[0]) == dict(pairs)


def test_label_map_is_read_from_file(tmp_path: Path) -> None:
    wanted = {"Cost, delivery": "food=neg", "1": "ja"}
    (tmp_path / "map.json").write_text(json.dumps(wanted))
    (tmp_path / "map.yaml").write_text("Cost, delivery: food=neg\n1: ja\n")
    assert parse_label_map(str(tmp_path / "map.json")) == parse_label_map(str(tmp_path / "map.yaml")) == wanted


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("map.yaml", "yes: ja\nb: c\n", r"got True \(in YAML, quote it\)"),
        ("map.yaml", "a: [b\n", r"map\.yaml"),
        ("map.yaml", "- a\n", "expected"),
        ("map.json", '{"a": "b", "a": "c"}', "'a' occurs twice"),
        ("map.json", '{"a": {"b": "c"}}', "expected"),
        ("map.json", '{"a": ', r"map\.json: Expecting value"),
        (None, '{"a": ', "is not valid JSON: Expecting value"),
        (None, "a=b=c", "write JSON"),
        (None, "a=b,a=c", "'a' occurs twice"),
        (None, "missing.yaml", r"no such file: missing\.yaml"),
    ],
)
def test_wrong_label_maps_are_refused(name: str | None, content: str, message: str, tmp_path: Path) -> None:
    if name:
        (tmp_path / name).write_text(content)
    with pytest.raises(LabelError, match=message):
        parse_label_map(str(tmp_path / name) if name else content)
