"""Real data and a real teacher, if available."""

from pathlib import Path

import pytest

from eyas import Classifier, Teacher, evaluate, load_data
from eyas.data.datasets import is_pair


@pytest.mark.parametrize(
    ("name", "sizes", "labels", "pair"),
    [
        ("sst2", (67_349, 872), 2, False),
        ("clinc150", (15_000, 3_000), 150, False),
        ("rte", (2_490, 277), 2, True),
        ("mrpc", (3_668, 408), 2, True),  # validation is split off
    ],
)
def test_load_data_reads_shared_data_sets(
    shared: Path, name: str, sizes: tuple[int, int], labels: int, pair: bool
) -> None:
    data = load_data(shared / "data" / name)
    assert (len(data["train"]), len(data["validation"])) == sizes
    assert len(data.labels) == labels
    assert is_pair(data["train"]) == pair


def test_sst2_labels_are_matched_by_predictions(shared: Path) -> None:
    """The data has labels 0 and 1, the teacher negative and positive."""
    folder = shared / "models" / "minilm-sst2"
    part = load_data(shared / "data" / "sst2")["validation"].select(range(100))
    scores = evaluate(Classifier.from_pretrained(folder), part, Teacher(folder))
    assert scores["accuracy"] > 0.75  # 0.91; swapped labels give 0.09
    assert scores["agreement"] > 0.75
