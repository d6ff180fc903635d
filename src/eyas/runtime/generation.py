"""Run an exported encoder-decoder with onnxruntime, tokenizers and numpy alone: greedy and beam search."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tokenizers import Tokenizer

from eyas._version import __version__
from eyas.errors import DataError, ExportError
from eyas.kinds import GENERATION
from eyas.runtime.answers import Answer
from eyas.runtime.manifest import FORMAT_VERSION, MANIFEST, TOKENIZER, checksum
from eyas.runtime.predict import Text
from eyas.runtime.predictor import Predictor
from eyas.runtime.tokens import is_cut
from eyas.tasks import Task
from eyas.text import clean_texts

# The encoder, which also computes the keys and values that the decoder reads of it; and one step of the decoder.
ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
FILES = (ENCODER, DECODER, TOKENIZER)
# The score of what cannot be.
NEVER = -1e9


@dataclass
class GenerationManifest:
    """`manifest.json` of an exported encoder-decoder.

    Args:
        max_length: maximum number of tokens of a source.
        longest: of a target, with the start token.
        start, end: ids of the token from which the decoder starts, and of the end of a text.
        forced: id of the first word of every text, if any.
        forced_end: id of the last word of a text that reaches `longest`, if any.
        beams: of the beam search; 1 is greedy.
        length_penalty: a text's log-probability is divided by its length to this power.
        early_stopping: True, False or "never", as in transformers' `GenerationConfig`.
        state: heads and size of each head of the decoder's keys and values.
        self_test: texts with what the model wrote when it was exported.
        sha256: checksum of each other file.
    """

    precision: str
    max_length: int
    longest: int
    start: int
    end: int
    forced: int | None
    beams: int
    length_penalty: float
    early_stopping: bool | str
    state: list[int]
    forced_end: int | None = None
    self_test: list[dict[str, str]] = field(default_factory=list)
    sha256: dict[str, str] = field(default_factory=dict)
    task: str = GENERATION
    eyas_version: str = __version__
    format_version: int = FORMAT_VERSION

    # What the manifests of other models have, and these have not.
    labels: ClassVar[Sequence[str]] = ()
    pair: ClassVar[bool] = False
    abstain_below: ClassVar[float] = 0.0

    @property
    def examples(self) -> list[list[str]]:
        """Texts to try."""
        return [[row["text"]] for row in self.self_test]

    @classmethod
    def read(cls, folder: Path) -> "GenerationManifest":
        """Read the manifest, and check the files of its folder against it.

        Raises:
            ExportError: another format version, a missing or changed file.
        """
        try:
            content = json.loads((folder / MANIFEST).read_text())
            if content["format_version"] != FORMAT_VERSION:
                raise ExportError(
                    f"{folder} has format version {content['format_version']}, this eyas reads {FORMAT_VERSION}. "
                    "Export the model again."
                )
            manifest = cls(**content)
            changed = [name for name in FILES if checksum(folder, name) != manifest.sha256[name]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ExportError(f"{folder / MANIFEST} is not as expected: {error}. Export the model again.") from None
        if changed:
            raise ExportError(f"{folder / changed[0]} is not the file that was exported (checksum). Export it again.")
        return manifest

    def write(self, folder: Path) -> None:
        """Write the manifest, with the current checksums of the files in `folder`."""
        self.sha256 = {name: checksum(folder, name) for name in FILES}
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


class GenerationPredictor(Predictor):
    """Runs an encoder-decoder that `eyas export` wrote, one text at a time.

    Args:
        folder: the exported folder.
        threads: threads per prediction.
        self_test: whether to check at load that this machine writes what the exporting machine wrote.
        beams: of the beam search, 1 is greedy; by default as exported.

    Raises:
        ExportError: the folder is damaged, or the self-test fails.
    """

    manifest: GenerationManifest  # type: ignore[assignment]

    def __init__(self, folder: str | Path, threads: int = 1, self_test: bool = True, beams: int | None = None) -> None:
        import onnxruntime

        self.folder = Path(folder)
        self.manifest, self.task = GenerationManifest.read(self.folder), Task(GENERATION, ())
        self.max_length, self.beams = self.manifest.max_length, self.manifest.beams if beams is None else beams
        if self.beams < 1:
            raise DataError(f"beams (--beams) is {beams}, expected at least 1.")
        self._texts = Tokenizer.from_file(str(self.folder / TOKENIZER))
        self._texts.enable_truncation(self.max_length)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(str(self.folder / name), options, providers=["CPUExecutionProvider"])
            for name in (ENCODER, DECODER)
        )
        self._crosses = [output.name for output in self._encoder.get_outputs()]
        self._presents = [output.name for output in self._decoder.get_outputs()][1:]
        for example in self.manifest.self_test if self_test else ():
            found = self._decoded(self._greedy(self._ids(example["text"])))
            if found != example["generated_text"]:
                raise ExportError(
                    f"{self.folder} writes {found!r:.80} for {example['text']!r:.80}, at export it wrote "
                    f"{example['generated_text']!r:.80}. int8 arithmetic differs between processors: export on this "
                    "kind of machine, or without --int8."
                )
        self.cut = 0

    def __call__(self, texts: Iterable[Text]) -> list[Answer]:
        """One answer, {"generated_text": str}, per text.

        Raises:
            DataError: an input is no text.
        """
        return [{"generated_text": text} for text in self.predict(texts)]

    def predict(self, texts: Iterable[Text]) -> list[str]:
        """The text written for each text."""
        if isinstance(texts, str):
            raise DataError("Expected a list of texts, got one text. Put it into a list.")
        search = self._greedy if self.beams == 1 else self._beam_search
        return [self._decoded(search(self._ids(text))) for text in clean_texts(texts, self.max_length)]

    def predict_proba(self, texts: Iterable[Text]) -> np.ndarray:
        raise DataError("This model writes texts: it has no labels with probabilities. Use predict.")

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        raise DataError("This model writes texts: it has no labels. Use predict.")

    def _ids(self, text: str) -> list[int]:
        encoding = self._texts.encode(text)
        self.cut += is_cut(encoding, self.max_length)
        return list(encoding.ids)

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self._texts.decode(ids, skip_special_tokens=True))

    def _begin(self, ids: list[int], beams: int) -> dict[str, np.ndarray]:
        """What the decoder reads at the first step, but for the word: nothing written yet."""
        row = np.array([ids], dtype=np.int64)
        read = self._encoder.run(None, {"input_ids": row, "attention_mask": np.ones_like(row)})
        heads, size = self.manifest.state
        state: dict[str, np.ndarray] = {"attention_mask": np.ones((beams, len(ids)), dtype=np.int64)}
        state |= {name: np.repeat(value, beams, 0) for name, value in zip(self._crosses, read, strict=True)}
        empty = np.zeros((beams, heads, 0, size), dtype=np.float32)
        return state | {name.replace("present", "past"): empty for name in self._presents}

    def _step(self, words: Sequence[int], state: dict[str, np.ndarray], written: int) -> np.ndarray:
        """Logits [beams, vocabulary] of the next word, of which `written` are there; `state` gets the words' keys."""
        feed = {**state, "input_ids": np.array(words, dtype=np.int64)[:, None]}
        logits, *present = self._decoder.run(None, feed)
        state |= {name.replace("present", "past"): value for name, value in zip(self._presents, present, strict=True)}
        if written == 1 and self.manifest.forced is not None:
            logits = _forced(logits, self.manifest.forced)
        if written == self.manifest.longest - 1 and self.manifest.forced_end is not None:
            logits = _forced(logits, self.manifest.forced_end)
        return np.asarray(logits)

    def _greedy(self, ids: list[int]) -> list[int]:
        state, words = self._begin(ids, 1), [self.manifest.start]
        while len(words) < self.manifest.longest and (len(words) == 1 or words[-1] != self.manifest.end):
            words.append(int(self._step(words[-1:], state, len(words))[0].argmax()))
        return words[1:]

    def _beam_search(self, ids: list[int]) -> list[int]:
        """As transformers: the best of the finished texts by log-probability over length."""
        about, beams = self.manifest, self.beams
        state, running = self._begin(ids, beams), [[about.start]] * beams
        scores = np.array([0.0, *[NEVER] * (beams - 1)])
        finished: list[tuple[float, list[int]]] = []
        for length in range(1, about.longest):
            logits = self._step([words[-1] for words in running], state, length).astype(np.float64)
            logits -= logits.max(1, keepdims=True)
            chances = scores[:, None] + logits - np.log(np.exp(logits).sum(1, keepdims=True))
            best = np.argsort(-chances, axis=None, kind="stable")[: 2 * beams]
            owners, words = np.unravel_index(best, chances.shape)
            ends = (words == about.end) | (length + 1 == about.longest)
            full = len(finished) == beams and about.early_stopping is True
            for rank in np.flatnonzero(ends[:beams]) if not full else ():
                score = chances[owners[rank], words[rank]] / length**about.length_penalty
                finished.append((float(score), [*running[owners[rank]], int(words[rank])]))
            finished = sorted(finished, key=lambda one: -one[0])[:beams]
            if ends.all():
                break
            open_ones = np.flatnonzero(~ends)[:beams]
            owner = owners[open_ones]
            scores = chances[owner, words[open_ones]]
            running = [[*running[one], int(word)] for one, word in zip(owner, words[open_ones], strict=True)]
            for name in state:
                if name.startswith("past"):
                    state[name] = state[name][owner]
            final = about.early_stopping == "never" and about.length_penalty > 0
            reach = scores[0] / (about.longest - 1 if final else length) ** about.length_penalty
            if len(finished) == beams and (about.early_stopping is True or reach <= finished[-1][0]):
                break
        return finished[0][1][1:]


def _forced(logits: np.ndarray, word: int) -> np.ndarray:
    """Logits of the same shape with which no other word can follow."""
    found = np.full_like(logits, -np.inf)
    found[:, word] = 0
    return found
