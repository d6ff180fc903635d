"""Labeling on many machines, with Ray Data: the texts travel to the teacher, and its logits back."""

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
import torch

from eyas.cluster import connect
from eyas.errors import EyasError, ModelError
from eyas.teachers.live import fastest_device

if TYPE_CHECKING:
    from datasets import Dataset

LARGE_LIST = pyarrow.large_list(pyarrow.large_string())
COLUMNS = ("example_id", "text", "text_pair", "tokens")


class _Labeler:
    """A teacher on a node, and the texts, which a node fetches once."""

    def __init__(self, label: Callable[[Any, Mapping[str, Any]], bytes], teacher: Any, texts: Any, cpus: float) -> None:
        import ray

        torch.set_num_threads(max(int(cpus), 1))
        self.label, self.teacher, self.texts = label, ray.get(teacher), ray.get(texts)
        if isinstance(getattr(self.teacher, "model", None), torch.nn.Module):
            self.teacher.model.to(fastest_device())

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        error = ""
        try:
            shards = [self.label(self.teacher, self.texts.take(rows).to_pydict()) for rows in batch["rows"]]
        except EyasError as found:  # its type would be lost on the way
            shards, error = [b""] * len(batch["rows"]), str(found)
        return {"start": batch["start"], "shard": np.array(shards, dtype=object), "error": [error] * len(shards)}


def label_on_cluster(
    address: str,
    cpus: float,
    label: Callable[[Any, Mapping[str, Any]], bytes],
    teacher: Any,
    dataset: "Dataset",
    shards: Mapping[int, np.ndarray],
) -> Generator[tuple[int, bytes], None, None]:
    """Yield (start, labeled shard) in order of completion. A shard whose node dies is labeled on another.

    The nodes need eyas with `train` and `ray`, and nothing else: no files of this machine.

    Args:
        address: of the cluster, "auto" = that of this machine.
        cpus: processors per copy of the teacher, which are its threads. Other numbers may change the last bits.
        label: (teacher, columns of a shard's texts) -> the shard.
        shards: for each start, the rows of its texts.

    Raises:
        EyasError: there is no cluster, or it failed.
        ModelError: what `label` raised.
    """
    ray, close = connect(address)
    try:
        gpus = int(fastest_device().type == "cuda")
        _check_nodes(ray.nodes(), cpus, gpus)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = 0
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        places = [column for column in COLUMNS if column in dataset.column_names]
        flat = dataset.select_columns(places).flatten_indices() if dataset._indices is not None else dataset
        texts = ray.put(_large(flat.select_columns(places).data.table).combine_chunks())
        given = {"label": label, "teacher": ray.put(teacher), "texts": texts, "cpus": cpus}
        items = [{"start": start, "rows": rows} for start, rows in shards.items()]
        # Blocks of one shard from the start: splitting them later would need a processor beside the teachers'.
        waiting = ray.data.from_items(items, override_num_blocks=len(items))
        most = max(int(ray.cluster_resources().get("CPU", 1) / cpus), 1)
        labeled = waiting.map_batches(
            _Labeler,
            fn_constructor_kwargs=given,
            batch_size=1,
            num_cpus=cpus,
            num_gpus=gpus,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
        )
        for batch in labeled.iter_batches(batch_size=1, prefetch_batches=0):
            for error in filter(None, batch["error"]):
                raise ModelError(str(error))
            yield from zip(batch["start"].tolist(), batch["shard"], strict=True)
    except ray.exceptions.RayError as error:
        raise EyasError(f"Labeling on {address!r} failed: {str(error).strip().splitlines()[-1]}") from None
    finally:
        close()


def _check_nodes(nodes: Sequence[Mapping[str, Any]], cpus: float, gpus: int) -> None:
    """Raises EyasError if the teacher fits on no node: Ray would wait for one."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in alive):
        most = max((node.get("CPU", 0) for node in alive), default=0)
        raise EyasError(
            f"No node of the cluster has {cpus:g} processors{' and a GPU' if gpus else ''} for a copy of the teacher; "
            f"the largest has {most:g}. Set ray_cpus (--ray-cpus) to less{', or label on the CPU' if gpus else ''}."
        )


def _large(table: pyarrow.Table) -> pyarrow.Table:
    """The table with strings that may exceed 2 GB in one piece."""
    large = {pyarrow.string(): pyarrow.large_string(), pyarrow.list_(pyarrow.string()): LARGE_LIST}
    return table.cast(pyarrow.schema([(field.name, large.get(field.type, field.type)) for field in table.schema]))
