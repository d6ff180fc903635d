"""The teacher's logits on disk: computed once per text, and found by `example_id`, not by position."""

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import pyarrow.compute
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from eyas import processes
from eyas.data.datasets import ids_of
from eyas.errors import CacheError, ModelError
from eyas.outputs import cache_folder, write_atomically
from eyas.progress import progress
from eyas.teachers.combined import CombinedTeacher
from eyas.teachers.spread import label_on_cluster

if TYPE_CHECKING:
    from datasets import Dataset

    from eyas.teachers.live import Teacher

logger = logging.getLogger("eyas")

FORMAT_VERSION = 3
FINGERPRINT = "fingerprint.json"
ROWS_PER_SHARD = 4096
ROWS_PER_BATCH = 100_000
TOKENS_PER_BATCH = 4096
CHARACTERS_PER_TOKEN = 4
# The places of the texts of shards, by the start of each; and the starts with what is in their files.
Waiting = Mapping[int, np.ndarray]
Shards = Generator[tuple[int, bytes | None], None, None]


class CachedRows:
    """Tensors with some rows for each example, memory-mapped in shards, found by `example_id`.

    Args:
        shards: the files, each with `example_id` [examples] int64, `lengths` [examples] (rows of each) and `fields`.
        fields: names of tensors [rows of all examples of the shard, ...].
    """

    def __init__(self, shards: Sequence[Path], fields: Sequence[str]) -> None:
        self.folder = shards[0].parent if shards else Path()
        ids, self._starts, self._values = [], [], []
        for path in shards:
            try:
                with safe_open(path, framework="pt") as file:
                    ids.append(file.get_tensor("example_id").numpy())
                    # For each example of a shard, its first row.
                    self._starts.append(np.concatenate([[0], np.cumsum(file.get_tensor("lengths").numpy())]))
                    self._values.append({field: file.get_tensor(field) for field in fields})
            except SafetensorError as error:
                raise CacheError(f"{path} is damaged ({error}). Delete it and run the same command again.") from None
        self._ends = np.cumsum([len(part) for part in ids])
        joined = np.concatenate(ids) if ids else np.empty(0, np.int64)
        self._order = np.argsort(joined, kind="stable")
        self._ids = joined[self._order]

    def rows(self, ids: np.ndarray, field: str) -> tuple[torch.Tensor, np.ndarray]:
        """The rows of [examples] int64 ids, one after the other, and [examples] the number of each.

        Raises:
            CacheError: an id that is not there.
        """
        found = np.searchsorted(self._ids, ids).clip(max=max(len(self._ids) - 1, 0))
        unknown = self._ids[found] != ids if len(self._ids) else np.ones(len(ids), bool)
        if unknown.any():
            raise CacheError(
                f"{self.folder} has no {field.replace('_', ' ')} for {int(unknown.sum()):,} of {len(ids):,} texts: it "
                "was made from other data. Omit cache (--cache), or label this data."
            )
        places = self._order[found]
        shards = np.searchsorted(self._ends, places, side="right")
        starts, ends = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64)
        for shard in np.unique(shards):
            here = shards == shard
            inside = places[here] - (self._ends[shard - 1] if shard else 0)
            starts[here], ends[here] = self._starts[shard][inside], self._starts[shard][inside + 1]
        owner = np.repeat(np.arange(len(ids)), ends - starts)
        firsts = np.repeat(np.cumsum(ends - starts) - (ends - starts), ends - starts)
        inside = np.arange(len(owner)) - firsts + starts[owner]
        values = self._values[0][field]
        result = torch.empty(len(owner), *values.shape[1:], dtype=values.dtype)
        for shard in np.unique(shards):
            chosen = np.flatnonzero(shards[owner] == shard)
            result[chosen] = self._values[shard][field][inside[chosen]]
        return result, ends - starts


class CachedTeacher(CachedRows):
    """A teacher's memory-mapped logits, with the interface of the teacher.

    Args:
        folder: written by `label_texts`.

    Raises:
        CacheError: the folder is not a cache, or is incomplete.
    """

    fields: ClassVar[frozenset[str]] = frozenset({"logits"})
    reads: ClassVar[tuple[str, ...]] = ("example_id",)

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.fingerprint = _read_fingerprint(self.folder)
        super().__init__(sorted(self.folder.glob("shard-*.safetensors")), ["logits"])
        if len(self._ids) != self.fingerprint["rows"]:
            raise CacheError(
                f"{self.folder} holds {len(self._ids):,} of {self.fingerprint['rows']:,} texts: it was interrupted. "
                "Run eyas label again with the same arguments to finish it."
            )
        self.label_names: list[str] = self.fingerprint["labels"]

    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = ("logits",)) -> dict[str, Any]:
        """`logits` float32 for `batch["example_id"]` [batch] int64: [batch, labels], for tagging [words, tags]."""
        return {"logits": self.logits(torch.as_tensor(batch["example_id"]).cpu().numpy())}

    def logits(self, ids: np.ndarray) -> torch.Tensor:
        """[rows, labels] float32 for [rows] int64 ids; for tagging [words of all rows, tags].

        Raises:
            CacheError: an id that was not labeled.
        """
        return self.rows(ids, "logits")[0]


def label_texts(
    teacher: Any, dataset: "Dataset", folder: str | Path | None = None, ray: str | None = None, ray_cpus: float = 1
) -> CachedTeacher:
    """Compute the teacher's logits for every text of `dataset`, or take them from the cache.

    Texts are processed in order of length. After an interruption, the same call resumes at the first unfinished shard,
    with bit-identical results.

    Args:
        folder: output folder; by default a cache folder named after the fingerprint of teacher, tokenizer, maximum
            length, precision and data.
        ray: label on a Ray cluster: its address, or "auto"; see `eyas.teachers.spread`.
        ray_cpus: processors per copy of the teacher there.

    Raises:
        CacheError: `folder` was made by another teacher or from other data.
        ModelError: a logit is not finite.
    """
    if isinstance(teacher, CombinedTeacher):  # each teacher's answers are cached apart
        if ray:
            raise ModelError("ray (--ray) labels with one teacher. Label with each of them, then combine them.")
        return cast(CachedTeacher, teacher.label(dataset, folder))
    ids, first = np.unique(ids_of(dataset), return_index=True)
    fingerprint = {
        "format_version": FORMAT_VERSION,
        **teacher.fingerprint,
        "data": hashlib.sha256(ids.tobytes()).hexdigest(),
        "rows": len(ids),
    }
    path = claim_cache(folder, fingerprint, "labels")
    order = first[np.argsort(_text_lengths(dataset)[first], kind="stable")]

    def labeled(waiting: Waiting) -> Shards:
        if ray:
            return label_on_cluster(ray, ray_cpus, _labeled, teacher, dataset, waiting)
        return _labeled_here(teacher, dataset, path, waiting)

    write_shards(path, order, labeled)
    return CachedTeacher(path)


def write_shards(folder: Path, order: np.ndarray, make: Callable[[Waiting], Shards], rows: int = 0) -> list[Path]:
    """Write the shards of a cache that are missing.

    Args:
        order: the places of the texts, shard by shard.
        make: {start of a shard: places of its texts} -> each start and the content of the file, None if another process
            has written it.
        rows: of a shard; by default `ROWS_PER_SHARD`.

    Returns:
        The files of all shards.
    """
    rows = rows or ROWS_PER_SHARD
    files = {start: shard_path(folder, start, rows) for start in range(0, len(order), rows)}
    waiting = {start: order[start : start + rows] for start, file in files.items() if not file.exists()}
    left = sum(map(len, waiting.values()))
    if 0 < left < len(order):
        logger.info("%s of %s texts are already labeled; resuming.", f"{len(order) - left:,}", f"{len(order):,}")
    if waiting:
        with progress("labeling", left, "texts") as advance, closing(make(waiting)) as made:
            for start, content in made:
                if content is not None:
                    write_atomically(files[start], content)
                advance(len(waiting[start]))
    return list(files.values())


def _labeled_here(teacher: Any, dataset: "Dataset", folder: Path, waiting: Waiting) -> Shards:
    """Label each shard, except those that another process has written by then: None. Each begins at another place."""
    starts = list(waiting)
    first = len(starts) * processes.number() // processes.count()
    for start in (*starts[first:], *starts[:first]):
        done = shard_path(folder, start).exists()
        yield start, None if done else _labeled(teacher, dataset[waiting[start].tolist()])


def _labeled(teacher: "Teacher", columns: Mapping[str, Any]) -> bytes:
    """The file of a shard: ids, rows and logits of texts in order of length."""
    texts, pairs, words = columns["text"], columns.get("text_pair"), columns.get("tokens")

    def tokens(row: int) -> int:
        length = len(texts[row]) + (len(pairs[row]) if pairs else 0)
        return int(min(length // CHARACTERS_PER_TOKEN + 8, teacher.max_length))

    logits, start = [], 0
    while start < len(texts):
        end = start + 1
        while end < len(texts) and (end + 1 - start) * tokens(end) <= TOKENS_PER_BATCH:
            end += 1  # texts are sorted by length: the last one is the longest
        batch: dict[str, Any] = {"text": texts[start:end], "text_pair": pairs[start:end] if pairs else None}
        batch["example_id"] = torch.tensor(columns["example_id"][start:end])
        if words:
            batch["tokens"] = words[start:end]
        logits.append(teacher.outputs(batch)["logits"].cpu())
        start = end
    result = torch.cat(logits)
    lengths = torch.tensor([len(row) for row in words] if words else [1] * len(texts))
    broken = torch.nonzero(~torch.isfinite(result).all(1))
    if len(broken):
        row = int(torch.searchsorted(lengths.cumsum(0), int(broken[0]), right=True))
        raise ModelError(
            f"The teacher's logits are not finite ({result[int(broken[0])].tolist()[:8]}) for example "
            f"{columns['example_id'][row]}: {texts[row]!r:.80}. Its weights are damaged, or its precision is too "
            "low: try dtype='float32' (--teacher-dtype float32)."
        )
    ids = torch.tensor(columns["example_id"], dtype=torch.int64)
    return save({"example_id": ids, "lengths": lengths, "logits": result})


def _text_lengths(dataset: "Dataset") -> np.ndarray:
    columns = [column for column in ("text", "text_pair") if column in dataset.column_names]
    batches = dataset.select_columns(columns).with_format("arrow").iter(ROWS_PER_BATCH)
    lengths = [sum(pyarrow.compute.utf8_length(part).to_numpy() for part in batch.columns) for batch in batches]
    return np.concatenate([np.empty(0, np.int64), *lengths])


def shard_path(folder: Path, start: int, rows: int = 0) -> Path:
    """The file of the rows from `start` on, of `rows` rows; by default `ROWS_PER_SHARD`."""
    return folder / f"shard-{start // (rows or ROWS_PER_SHARD):06}.safetensors"


def claim_cache(given: str | Path | None, fingerprint: dict[str, Any], kind: str) -> Path:
    """Create a cache, or check that the existing one has this `fingerprint`.

    Args:
        given: its folder; by default one of the caches of this `kind`, named after the fingerprint.
    """
    name = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_folder(kind) / name if given is None else Path(given)
    if (folder / FINGERPRINT).exists():
        found = _read_fingerprint(folder, fingerprint["format_version"])
        differing = [key for key in fingerprint if found.get(key) != fingerprint[key]]
        if differing:
            raise CacheError(
                f"{folder} was made with different {' and '.join(k.replace('_', ' ') for k in differing)}. "
                "Choose another cache (--cache), or omit it to use the default."
            )
        return folder
    # Another process may be creating the same cache: its temporary files do not count.
    if folder.exists() and any(file.suffix != ".tmp" for file in folder.iterdir()):
        raise CacheError(f"{folder} is not empty and not a cache of teacher logits. Choose another cache (--cache).")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FINGERPRINT, json.dumps(fingerprint, indent=2, sort_keys=True) + "\n")
    return folder


def _read_fingerprint(folder: Path, version: int = FORMAT_VERSION) -> dict[str, Any]:
    try:
        found = json.loads((folder / FINGERPRINT).read_text())
    except (OSError, ValueError) as error:
        raise CacheError(f"{folder} is not a cache of teacher logits: {error}") from None
    if not isinstance(found, dict):
        raise CacheError(f"{folder} is not a cache of teacher logits: its {FINGERPRINT} holds no settings.")
    if found.get("format_version") != version:
        raise CacheError(
            f"{folder} has format version {found.get('format_version')}, this eyas reads {version}. "
            "Delete it and label again."
        )
    return dict(found)
