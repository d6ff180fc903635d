"""Labeling on a Ray cluster."""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import toy_rows
from datasets import Dataset

from eyas.data.rows import example_id
from eyas.errors import EyasError, MissingExtraError, ModelError
from eyas.teachers import Teacher, cached, label_texts


@pytest.fixture
def texts() -> Dataset:
    rows = [f"{row['text']} {number}" for number, row in enumerate(toy_rows(400))]
    return Dataset.from_dict({"example_id": [example_id(text) for text in rows], "text": rows})


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "ROWS_PER_SHARD", 16)


class SlowTeacher(Teacher):
    """Time enough to kill a node."""

    def outputs(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        time.sleep(0.3)
        return super().outputs(*arguments, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray's own
def test_cluster_labels_with_the_same_bits_though_a_node_dies(
    teacher_folder: Path, texts: Dataset, small_shards: None, tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the nodes have no tests
    from ray.cluster_utils import Cluster

    label_texts(Teacher(teacher_folder), texts, tmp_path / "here")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    killed = threading.Event()

    def kill() -> None:
        while len(list((tmp_path / "there").glob("shard-*.safetensors"))) < 5:
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)
        killed.set()

    threading.Thread(target=kill, daemon=True).start()
    try:
        label_texts(SlowTeacher(teacher_folder), texts, tmp_path / "there", ray=cluster.address)
    finally:
        cluster.shutdown()
    assert killed.is_set()
    assert content(tmp_path / "there") == content(tmp_path / "here")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_errors_of_a_node_and_of_the_address_are_said(
    teacher_folder: Path, texts: Dataset, small_shards: None, tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray")
    teacher = Teacher(teacher_folder)
    with pytest.raises(EyasError, match=r"No Ray cluster at 'auto'.*ray start --head"):
        label_texts(teacher, texts, tmp_path / "nowhere", ray="auto")
    teacher.model.classifier.weight.fill_(float("nan"))
    address = ray.init(num_cpus=1, log_to_driver=False).address_info["address"]
    try:
        with pytest.raises(ModelError, match="not finite"):
            label_texts(teacher, texts, tmp_path / "broken", ray=address)
        with pytest.raises(EyasError, match=r"No node of the cluster has 4 processors.*the largest has 1.*--ray-cpus"):
            label_texts(teacher, texts, tmp_path / "large", ray=address, ray_cpus=4)
        assert ray.is_initialized()  # it was before
    finally:
        ray.shutdown()


def test_cluster_needs_ray(
    teacher_folder: Path, texts: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"--ray needs Ray.*ray"):
        label_texts(Teacher(teacher_folder), texts, tmp_path / "cache", ray="auto")
