"""Run an exported model with onnxruntime, tokenizers, tokie and numpy alone."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from tokenizers import Tokenizer

from eyas.errors import ExportError
from eyas.kinds import GENERATION
from eyas.runtime.alignment import WordEncoder
from eyas.runtime.arrays import ArraysRun
from eyas.runtime.crf import max_marginals
from eyas.runtime.manifest import MODEL, TOKENIZER, Manifest, kind_of
from eyas.runtime.predict import PredictMixin
from eyas.runtime.tokens import TextEncoder, is_cut
from eyas.text import clean_texts, is_too_long, wrong_shape

# The graph's inputs, and their names in a tokenizer's encoding.
FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}

# {input: [texts, tokens] int64} -> logits [texts, labels], for a tagger [texts, tokens, tags].
Run = Callable[[dict[str, np.ndarray]], np.ndarray]


def open_session(path: Path, threads: int) -> Any:
    """A session of onnxruntime on the processor."""
    import onnxruntime  # 0.1 s, which a `static` student does without

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Predictor(PredictMixin):
    """Runs a folder that `eyas export` wrote.

    Texts run through the model one at a time, so an answer never depends on the other texts, not even in int8.
    Batching does not speed up small students on a CPU.

    Args:
        folder: the exported folder.
        threads: threads per prediction. More than 1 slows small students down; run more processes instead.
        abstain_below: confidence below which a label is None; by default as exported. See `PredictMixin.abstain`.
        self_test: whether to check at load that this machine reproduces the scores of the exporting machine.

    Raises:
        ExportError: the folder is damaged, or its scores differ on this machine.
    """

    def __new__(cls, folder: str | Path, *args: Any, **kwargs: Any) -> Self:
        """A `Cascade`, a `Combination`, `SeveralTasks` or a `GenerationPredictor` if the folder holds one."""
        kind = kind_of(Path(folder)) if cls is Predictor else ""
        if kind in ("tasks", "task"):
            from eyas.runtime.several_tasks import OneTask, SeveralTasks

            return cast(Self, object.__new__(SeveralTasks if kind == "tasks" else OneTask))
        if kind == "cascade":
            from eyas.runtime.cascade import Cascade

            return cast(Self, object.__new__(Cascade))
        if kind == "combination":
            from eyas.runtime.combination import Combination

            return cast(Self, object.__new__(Combination))
        if kind == GENERATION:
            from eyas.runtime.generation import GenerationPredictor

            return cast(Self, object.__new__(GenerationPredictor))
        return object.__new__(cls)

    def __init__(
        self, folder: str | Path, threads: int = 1, self_test: bool = True, abstain_below: float | None = None
    ) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder)
        self.task = self.manifest.meaning
        self.abstain(self.manifest.abstain_below if abstain_below is None else abstain_below)
        self.pair = self.manifest.pair
        self.label_names = self.manifest.labels
        self.data_labels = self.manifest.data_labels
        self.row_fields = self.manifest.fields
        self._files, tokie = self.manifest.files(self.folder), self.manifest.tokie
        self._encode = TextEncoder(self._files / TOKENIZER, self.manifest.max_length, **tokie) if tokie else None
        self._run, self._inputs = self._open(threads)
        vocabulary = (self._encode or self._tokenizer).get_vocab_size()
        if vocabulary > self.manifest.vocab_size:
            raise ExportError(
                f"{self.folder}: the tokenizer has {vocabulary:,} tokens, the model embeds "
                f"{self.manifest.vocab_size:,}. The files belong to different models; export the model again."
            )
        self.max_length = self.manifest.max_length
        if self_test:
            self._self_test()
            self.cut = 0

    def _open(self, threads: int) -> tuple[Run, list[str]]:
        """The graph as a function, and the names of its inputs."""
        if self.manifest.arrays is not None:
            return ArraysRun(self.folder / MODEL, self.manifest.arrays), ["input_ids"]
        session = open_session(self.folder / MODEL, threads)

        def run(feed: dict[str, np.ndarray]) -> np.ndarray:
            logits: np.ndarray = session.run(None, feed)[0]
            return logits

        return run, [node.name for node in session.get_inputs()]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_file(str(self._files / TOKENIZER))
        detects_padding = "attention_mask" not in self._inputs
        if self.task.is_tagging or (self.pair and detects_padding):  # several tasks have one file; these cut themselves
            tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def words(self) -> WordEncoder:
        return WordEncoder(self._tokenizer, self.manifest.unknown)

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Logits, [texts, labels] float32; for a tagger's lists of words [words, tags].

        Raises:
            DataError: pairs where single texts are expected, or the reverse.
        """
        if self.task.is_tagging:
            sentence = np.repeat(np.arange(len(texts)), list(map(len, texts)))
            return self._finite(self._tag(texts), sentence)
        if self.pair != (pairs is not None):
            raise wrong_shape(self.pair)
        texts = self.written(texts)
        if self._encode is not None and isinstance(self._run, ArraysRun) and len(texts):
            return self._finite(self._together(texts, self._encode, self._run))
        result = np.empty((len(texts), len(self.label_names)), dtype=np.float32)
        given = [column for column in (texts, pairs) if column is not None]
        for row, (feed, cut) in enumerate(self._feeds([clean_texts(column, self.max_length) for column in given])):
            self.cut += cut or any(is_too_long(column[row], self.max_length) for column in given)
            result[row] = self._run(feed)[0]
        return self._finite(result)

    def _together(self, texts: Sequence[str], encode: TextEncoder, run: ArraysRun) -> np.ndarray:
        """Logits of texts in one call."""
        rows = []
        for text, given in zip(clean_texts(texts, self.max_length), texts, strict=True):
            before = encode.cut
            rows.append(encode(text))
            self.cut += encode.cut > before or is_too_long(given, self.max_length)
        return run.many(rows)

    def _finite(self, logits: np.ndarray, texts: np.ndarray | None = None) -> np.ndarray:
        """`logits`; `texts` [rows] is the text that each row belongs to, for the error, if it is not the row's own."""
        if not np.isfinite(logits).all():
            row = int(np.flatnonzero(~np.isfinite(logits).all(1))[0])
            raise ExportError(
                f"{self.folder} returned a score that is not finite for text {row if texts is None else texts[row]}: "
                "its weights are damaged."
            )
        return logits

    def _tag(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        offsets = np.concatenate([[0], np.cumsum([len(words) for words in sentences], dtype=np.int64)])
        result = np.zeros((int(offsets[-1]), len(self.label_names)), dtype=np.float32)
        for window in self.words.windows(sentences, self.manifest.max_length):
            logits = self._run(self._feed_ids(window.ids))[0]
            if self.manifest.crf is not None:
                starts = np.flatnonzero(~self.words.continues[window.ids])[len(self.words.before) :]
                logits[starts] = max_marginals(logits[starts], self.manifest.crf)
            result[offsets[window.sentence] + window.words] = logits[window.positions]
        return result

    def _feeds(self, columns: list[list[str]]) -> Iterator[tuple[dict[str, np.ndarray], bool]]:
        """The model's inputs for each text, or pair of texts, and whether it has more tokens than the model reads."""
        if self._encode is not None:
            for text in columns[0]:
                before = self._encode.cut
                feed = self._feed_ids(self._encode(text))
                yield feed, self._encode.cut > before
            return
        rows: list[Any] = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        for encoding in self._tokenizer.encode_batch_fast(rows):
            yield self._feed(encoding), is_cut(encoding, self.max_length)

    def _feed(self, encoding: Any) -> dict[str, np.ndarray]:
        return {name: np.array([getattr(encoding, FIELDS[name])], dtype=np.int64) for name in self._inputs}

    def _feed_ids(self, ids: list[int]) -> dict[str, np.ndarray]:
        """The model's inputs for the token ids of one text."""
        row = np.array([ids], dtype=np.int64)
        if self._inputs == ["input_ids"]:
            return {"input_ids": row}
        feed = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        return {name: feed[name] for name in self._inputs}

    def _self_test(self) -> None:
        for example in self.manifest.self_test:
            pairs = None if example.get("text_pair") is None else [example["text_pair"]]
            texts = [example["tokens"] if self.task.is_tagging else example["text"]]
            found = self.task.probabilities(self.logits(texts, pairs)).reshape(-1)
            expected = np.array(example["probabilities"])
            if found.shape != expected.shape:
                raise ExportError(
                    f"{self.folder} has the self-test of another model: {expected.size} scores, not {found.size}."
                )
            difference = float(np.abs(found - expected).max())
            if not difference <= self.manifest.tolerance:  # nor NaN
                raise ExportError(
                    f"The scores of {self.folder} differ by {difference:.3f} from those at export (allowed: "
                    f"{self.manifest.tolerance}). int8 arithmetic differs between processors: export on this kind of "
                    "machine, or without --int8."
                )
