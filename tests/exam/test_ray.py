"""Trials on a real local Ray cluster of two nodes, one of which dies."""

import threading
import time
from pathlib import Path

import pytest

from eyas.exam.plan import Plan
from eyas.exam.results import RESULT, RESULTS, read_rows
from eyas.exam.run import run_exam


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray's own
def test_ray_exam_survives_death_of_a_node(plan: Plan, exam: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    out = tmp_path / "exam"
    killed = threading.Event()

    def kill() -> None:
        while len(list(out.glob(f"trials/*/{RESULT}"))) < 2:
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)
        killed.set()

    threading.Thread(target=kill, daemon=True).start()
    try:
        run_exam(plan, out, ray=cluster.address)
    finally:
        cluster.shutdown()
    assert killed.is_set()
    expected = {row["key"]: row for row in read_rows(exam / RESULTS)}
    found = read_rows(out / RESULTS)
    assert found == [expected[row["key"]] for row in found]
    assert len(found) == 6
