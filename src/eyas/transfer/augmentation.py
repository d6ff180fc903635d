"""New texts for the transfer set: a data set and a method -> a larger data set. The same seed gives the same rows."""

import hashlib
import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow
from datasets import Dataset, concatenate_datasets

from eyas.data.datasets import data_fingerprint, ids_of, is_pair, task_of, without_labels
from eyas.data.rows import example_id
from eyas.data.tokenization import UNKNOWN
from eyas.errors import DataError, ModelError
from eyas.models.loading import PART
from eyas.outputs import cache_folder, file_identity, temporary_beside, write_atomically
from eyas.progress import progress
from eyas.teachers.aligned import AnyTeacher, live
from eyas.transfer.doubts import Doubts
from eyas.transfer.masked_lm import MaskedLM
from eyas.transfer.neighbors import Neighbors, Vocabulary
from eyas.transfer.perturb import Perturbation, count_words
from eyas.transfer.words import Words, texts_as_words

logger = logging.getLogger("eyas")

FORMAT_VERSION = 3
PER_TEXT = 20
ROWS_PER_CHUNK = 500


class Method(Protocol):
    """Makes variants of texts."""

    def variants(self, texts: Sequence[Words], count: int, random: np.random.Generator) -> list[list[Words]]:
        """For each text `count` variants; some may be identical to each other or to the text."""
        ...


@dataclass(frozen=True)
class Augmentation:
    """A method, its number of variants per text, and its source.

    Args:
        method: a key of `METHODS`.
        per_text: variants per text; duplicates count once.
        source: a masked language model for `masked-lm`; a file of word vectors for `neighbors`, by default the
            teacher's vectors; a student for `doubts`; nothing for `tang`.
    """

    method: str
    per_text: int = PER_TEXT
    source: str = ""

    @classmethod
    def parse(cls, text: str) -> "Augmentation":
        """`METHOD`, `METHOD:COUNT` or `METHOD:COUNT:SOURCE`, such as `masked-lm:10:bert-base/`.

        Raises:
            DataError: an unknown method, or an invalid count or source.
        """
        method, count, source = [*text.split(":", 2), "", ""][:3]
        if method not in METHODS:
            raise DataError(f"augment (--augment) {text}: no method {method!r}. Expected one of {', '.join(METHODS)}.")
        if count and (not count.isdecimal() or int(count) < 1):
            raise DataError(
                f"augment (--augment) {text}: the count is {count!r}, expected a number, such as {method}:20."
            )
        if NEEDS_SOURCE.get(method) and not source:
            raise DataError(
                f"augment (--augment) {text}: {method} needs {NEEDS_SOURCE[method]}: {method}:{count or 20}:FOLDER."
            )
        if source and method == "tang":
            raise DataError(f"augment (--augment) {text}: tang takes no source; leave {source!r} out.")
        return cls(method, int(count or PER_TEXT), source)

    def __str__(self) -> str:
        return ":".join([self.method, str(self.per_text), *([self.source] if self.source else [])])


def _tang(source: str, dataset: Dataset, teacher: AnyTeacher) -> Method:
    tokenizer = live(teacher).tokenizer
    mask = tokenizer.mask_token or tokenizer.unk_token or UNKNOWN
    return Perturbation(count_words(dataset), mask)


def _neighbors(source: str, dataset: Dataset, teacher: AnyTeacher) -> Method:
    if source:
        return Neighbors(Vocabulary.of_file(source))
    return Neighbors(_words_of(teacher, dataset))


def _masked_lm(source: str, dataset: Dataset, teacher: AnyTeacher) -> Method:
    return MaskedLM(source, count_words(dataset))


def _doubts(source: str, dataset: Dataset, teacher: AnyTeacher) -> Method:
    if task_of(dataset).is_tagging or is_pair(dataset):
        raise ModelError("doubts works on single texts, not on pairs or tags. Use masked-lm, neighbors or tang.")
    return Doubts(source, teacher, _words_of(teacher, dataset))


def _words_of(teacher: AnyTeacher, dataset: Dataset) -> Vocabulary:
    """The words of `dataset`, with the teacher's vectors."""
    return Vocabulary.of_model(live(teacher).model, live(teacher).tokenizer, count_words(dataset))


METHODS: dict[str, Callable[[str, Dataset, AnyTeacher], Method]] = {
    "tang": _tang,
    "neighbors": _neighbors,
    "masked-lm": _masked_lm,
    "doubts": _doubts,
}
NEEDS_SOURCE = {"masked-lm": "a masked language model", "doubts": "a student"}


def augment(
    dataset: Dataset,
    augmentation: Augmentation | str,
    teacher: AnyTeacher,
    seed: int = 0,
    processes: int = 1,
) -> Dataset:
    """New texts made from `dataset`, without the texts themselves.

    The result is cached and memory-mapped; an interrupted call resumes.

    Args:
        dataset: a split from `load_data`.
        augmentation: a method, as in `Augmentation.parse`.
        teacher: the source of the mask token and the word vectors.
        seed: the same seed gives the same rows, whatever the number of processes.
        processes: for the methods without a model. With more than one, a script must run under
            `if __name__ == "__main__"`.

    Returns:
        The columns of `dataset`, unlabeled (in a tagged sentence, unchanged words keep their tags), `source_id` (the
        `example_id` of the source text) and `method`.

    Raises:
        EyasError: invalid input, raised before work starts.
    """
    if isinstance(augmentation, str):
        augmentation = Augmentation.parse(augmentation)
    if not len(dataset):
        raise DataError("There are no texts to augment.")
    folder = cache_folder("transfer", _key(dataset, augmentation, teacher, seed))
    chunks = [Chunk(start, folder / f"{start:09}.arrow") for start in range(0, len(dataset), ROWS_PER_CHUNK)]
    waiting = [chunk for chunk in chunks if not chunk.path.exists()]
    rows = sum(min(ROWS_PER_CHUNK, len(dataset) - chunk.start) for chunk in waiting)
    jobs = ((dataset[chunk.start : chunk.start + ROWS_PER_CHUNK], chunk) for chunk in waiting)
    if waiting:
        method = METHODS[augmentation.method](augmentation.source, dataset, teacher)
        workers = processes if isinstance(method, Perturbation | Neighbors) else 1
        with progress(str(augmentation), rows, "texts") as advance:
            for count in _run(_Maker(method, augmentation, seed), jobs, workers):
                advance(count)
    made = concatenate_datasets([Dataset.from_file(str(chunk.path)) for chunk in chunks])
    ids, first = np.unique(ids_of(made), return_index=True)
    new = made.select(np.sort(first[~np.isin(ids, ids_of(dataset))]))
    wanted = len(dataset) * augmentation.per_text
    logger.info("%s: %s new texts; the rest of %s were duplicates.", augmentation, f"{len(new):,}", f"{wanted:,}")
    if not len(new):
        logger.warning("%s made no new text: the texts are too short, or their words are unknown.", augmentation)
    return (
        new.cast_column("label", dataset.features["label"])
        if "label" in made.column_names
        else without_labels(new, task_of(dataset))
    )


class Chunk(NamedTuple):
    """Some of the texts, and the file of their variants."""

    start: int
    path: Path


@dataclass(frozen=True)
class _Maker:
    """Writes a method's variants of a chunk."""

    method: Method
    augmentation: Augmentation
    seed: int

    def __call__(self, job: tuple[dict[str, Any], Chunk]) -> int:
        """Returns the number of texts."""
        columns, chunk = job
        random = np.random.default_rng([self.seed, chunk.start])
        sources = list(texts_as_words(columns))
        sides = [self.method.variants(side, self.augmentation.per_text, random) for side in zip(*sources, strict=True)]
        rows: dict[int, dict[str, Any]] = {}
        for number, (source, source_id) in enumerate(zip(sources, columns["example_id"], strict=True)):
            for variant in _paired(source, [side[number] for side in sides]):
                row = {**_row(variant, tagging="tokens" in columns), "source_id": source_id}
                rows.setdefault(row["example_id"], {**row, "method": self.augmentation.method})
        schema = _schema(columns)
        buffer = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(buffer, schema) as writer:
            writer.write_batch(pyarrow.RecordBatch.from_pylist(list(rows.values()), schema))
        write_atomically(chunk.path, buffer.getvalue().to_pybytes())
        return len(sources)


def _paired(source: tuple[Words, ...], variants: Sequence[Sequence[Words]]) -> Iterator[tuple[Words, ...]]:
    """The variants of a text; for pairs, the first, the second or both change in turn (Tang et al. 2019, 3.3)."""
    if len(source) == 1:
        yield from ((variant,) for variant in variants[0])
        return
    for number, (first, second) in enumerate(zip(*variants, strict=True)):
        yield (first if number % 3 != 1 else source[0], second if number % 3 != 0 else source[1])


def _row(texts: tuple[Words, ...], tagging: bool) -> dict[str, Any]:
    """A row in the schema of `read_table`."""
    if tagging:
        words = texts[0]
        tokens = {"tokens": list(words.words), "label": list(words.tags)}
        return {"example_id": example_id("\n".join(words.words)), "text": str(words), **tokens}
    parts = [str(text) for text in texts]
    return {"example_id": example_id(*parts), **dict(zip(("text", "text_pair"), parts, strict=False))}


def _schema(columns: dict[str, Any]) -> pyarrow.Schema:
    fields = [("example_id", pyarrow.int64()), ("text", pyarrow.string())]
    if "tokens" in columns:
        fields += [("tokens", pyarrow.list_(pyarrow.string())), ("label", pyarrow.list_(pyarrow.int64()))]
    elif "text_pair" in columns:
        fields.append(("text_pair", pyarrow.string()))
    return pyarrow.schema([*fields, ("source_id", pyarrow.int64()), ("method", pyarrow.string())])


_maker: _Maker | None = None  # each worker process has its own


def _start_worker(maker: _Maker) -> None:
    global _maker
    _maker = maker


def _work(job: tuple[dict[str, Any], Chunk]) -> int:
    assert _maker is not None
    return _maker(job)


def _run(maker: _Maker, jobs: Iterator[tuple[dict[str, Any], Chunk]], workers: int) -> Iterator[int]:
    if workers == 1:
        yield from map(maker, jobs)
        return
    context = get_context("forkserver")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(maker,)) as pool:
        waiting = deque(pool.submit(_work, job) for job in islice(jobs, 2 * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(_work, job) for job in islice(jobs, 1))


def _key(dataset: Dataset, augmentation: Augmentation, teacher: AnyTeacher, seed: int) -> str:
    """A cache key that changes with everything that affects the rows."""
    about = {
        "format_version": FORMAT_VERSION,
        "texts": data_fingerprint(dataset),
        "augmentation": str(augmentation),
        "source": identity(augmentation.source),
        "teacher": live(teacher).fingerprint,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]


def identity(source: str) -> list[Any]:
    """The identity of each file in a file or folder; empty for a Hub name. One task of several has weights of all."""
    path = Path(source)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()) if source else []
    if source and (path / "config.json").is_file() and f'"{PART}"' in (path / "config.json").read_text():
        files.append(path.resolve().parent / "model.safetensors")
    return [file_identity(file) for file in files]


def write_texts(made: Dataset, dataset: Dataset, path: Path) -> None:
    """Write new texts as JSON lines, each with its source text from `dataset`; `--unlabeled` can read them."""
    places = {number: place for place, number in enumerate(ids_of(dataset).tolist())}
    columns = ["tokens"] if "tokens" in made.column_names else [n for n in ("text", "text_pair") if n in made.features]
    temporary = temporary_beside(path)
    with open(temporary, "w", encoding="utf-8") as file:
        for row in made.select_columns([*columns, "method", "source_id"]):
            source = dataset[places[row["source_id"]]]["text"]
            file.write(json.dumps({**row, "source": source}, ensure_ascii=False) + "\n")
    temporary.replace(path)
