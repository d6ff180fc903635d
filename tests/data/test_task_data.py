import copy
import pickle

import pytest
from conftest import toy_rows
from datasets import Dataset, DatasetDict

from eyas import load_data
from eyas.data.datasets import TaskData, labels_of
from eyas.errors import DataError, LabelError

TEXTS = [row["text"] for row in toy_rows(40)]
LABELS = [row["label"] for row in toy_rows(40)]


@pytest.fixture
def data() -> TaskData:
    return load_data((TEXTS, LABELS))


def test_task_data_describes_task_labels_and_pairs(data: TaskData) -> None:
    assert (data.task.kind, data.labels, data.is_pair) == ("classification", ["negative", "positive"], False)
    assert load_data({"text": TEXTS, "text_pair": TEXTS, "label": LABELS}).is_pair


def test_task_data_is_a_dataset_dict(data: TaskData) -> None:
    assert isinstance(data, DatasetDict)
    assert list(data.select_columns("text")) == ["train", "validation", "test"]
    for same in (pickle.loads(pickle.dumps(data)), copy.copy(data)):
        assert isinstance(same, TaskData)
        assert same.fingerprint() == data.fingerprint()


def test_task_data_describes_replaced_split(data: TaskData) -> None:
    before, whole = data.fingerprint("train"), data.fingerprint()
    data["train"] = load_data((TEXTS, [n % 3 for n in range(40)]))["train"]
    assert data.labels == ["0", "1", "2"]
    assert data.fingerprint("train") != before
    assert data.fingerprint() != whole


def test_fingerprint_depends_on_labels_and_order(data: TaskData) -> None:
    assert data.fingerprint() == load_data((TEXTS, LABELS)).fingerprint()
    shuffled = TaskData.of({**data, "train": data["train"].shuffle(1)})
    assert shuffled.fingerprint("train") != data.fingerprint("train")
    assert shuffled.fingerprint("test") == data.fingerprint("test")
    named = load_data((TEXTS, ["no" if label == "negative" else "yes" for label in LABELS]))
    assert named.fingerprint("train") == data.fingerprint("train")
    assert named.fingerprint() != data.fingerprint()


def test_task_data_is_built_from_splits(data: TaskData) -> None:
    small = TaskData.of({"train": data["train"].select(range(4)), "validation": data["validation"]})
    assert (len(small["train"]), small.labels) == (4, data.labels)
    with pytest.raises(DataError, match="there is no split 'train'"):
        TaskData.of({"validation": data["validation"]})
    with pytest.raises(DataError, match="the split 'test' is not from load_data"):
        TaskData.of({**data, "test": Dataset.from_dict({"text": TEXTS, "label": LABELS})})


def test_with_labels_of_adds_labels_of_the_model(data: TaskData) -> None:
    more = data.with_labels_of(["positive", "mixed", "NEGATIVE"])
    assert more.labels == ["negative", "positive", "mixed"]
    assert labels_of(more["test"]).tolist() == labels_of(data["test"]).tolist()
    assert data.with_labels_of(["a", "b", "c"], {"a": "negative", "b": "positive"}).labels == [*data.labels, "c"]
    assert data.with_labels_of(["positive", "mixed"]).labels == data.labels


def test_check_validation_refuses_unlabeled_split(data: TaskData) -> None:
    data.check_validation()
    bare = load_data({"train": (TEXTS, LABELS), "validation": (TEXTS[:3], [-1] * 3)})
    with pytest.raises(LabelError, match="The validation split has no labels"):
        bare.check_validation()
