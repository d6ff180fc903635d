"""Exported models as teachers: folders that `eyas export` wrote, and other ONNX classifiers."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification

from eyas.encoders import CONFIG
from eyas.errors import DataError, ModelError
from eyas.models.loading import task_of_config
from eyas.models.positions import position_count
from eyas.runtime.manifest import EXAM, MANIFEST, MODEL, TOKENIZER
from eyas.runtime.predictor import FIELDS, Predictor
from eyas.tasks import Task
from eyas.teachers.answers import DEFAULT_ENCODER, AnsweringTeacher
from eyas.teachers.encoder import Encoder
from eyas.text import clean_texts

# Where an ONNX classifier may have its graph; the first is ours, the second that of transformers.js.
GRAPHS = (MODEL, "onnx/model.onnx")
BATCH = 32
# Heads in pickle, as SetFit and scikit-learn write them.
PICKLES, SETFIT = ("*.pkl", "*.pickle", "*.joblib"), "model_head.pkl"


class _Runs(Protocol):
    task: Task
    label_names: list[str]
    data_labels: list[str]

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray: ...


class ExportedTeacher(AnsweringTeacher):
    """A model in ONNX as a teacher of whole texts. Its students take their words from an encoder.

    Args:
        folder: what `eyas export` wrote (also a cascade), or a folder with model.onnx (or onnx/model.onnx),
            tokenizer.json and the config.json of transformers, as other exporters write it.
        encoder: as for `AnsweringTeacher`.
        max_length: maximum number of tokens per text, of the encoder and of another's model.

    Raises:
        ModelError: it is a tagger, its head is a pickle, or files are missing.
    """

    def __init__(
        self, folder: str | Path, encoder: str | Path | Encoder = DEFAULT_ENCODER, max_length: int = 256
    ) -> None:
        self.folder = Path(folder)
        runs: _Runs = (
            Predictor(folder, torch.get_num_threads()) if _is_ours(self.folder) else _Other(folder, max_length)
        )
        if runs.task.is_tagging:
            raise ModelError(
                f"{folder} is an exported tagger, which cannot teach. Name the folder that it was exported from."
            )
        super().__init__(runs.label_names, encoder, max_length, runs.task)
        self.data_labels = list(runs.data_labels)
        self._runs = runs

    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = ("logits",)) -> dict[str, Any]:
        """`logits` [batch, labels] float32."""
        pairs = batch.get("text_pair")
        return {"logits": torch.from_numpy(self._runs.logits(list(batch["text"]), list(pairs) if pairs else None))}

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        content = hashlib.sha256()
        for file in sorted(self.folder.rglob("*")):
            if file.is_file() and file.name not in ("README.md", EXAM):
                content.update(file.relative_to(self.folder).as_posix().encode())
                with file.open("rb") as stream:
                    content.update(hashlib.file_digest(stream, "sha256").digest())
        return self._fingerprint(exported=content.hexdigest(), max_length=self.max_length)


def is_exported(source: Any) -> bool:
    """Whether `source` is a folder of an exported model, and of no model in torch.

    Raises:
        ModelError: the folder holds a pickle instead, which could run any code.
    """
    if not isinstance(source, str | Path) or not Path(source).is_dir():
        return False
    folder = Path(source)
    if _is_ours(folder):
        return True
    if _is_classifier(folder):
        return False
    pickled = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if pickled:
        raise ModelError(
            f"{folder} has its classifier in {pickled[0]}. It is a pickle, which can run any code when it is read, so "
            "eyas does not. Load it yourself, and pass its predict_proba: "
            "eyas.FunctionTeacher(model.predict_proba, labels=[...], version='1')."
        )
    return any((folder / graph).is_file() for graph in GRAPHS)


def _is_classifier(folder: Path) -> bool:
    """Whether the folder has a trained head in torch."""
    weights = any(folder.glob("*.safetensors")) or (folder / "pytorch_model.bin").is_file()
    try:
        heads = " ".join(json.loads((folder / CONFIG).read_text()).get("architectures") or [])
    except (OSError, ValueError, AttributeError):
        heads = ""
    return weights and "Classification" in heads and not (folder / SETFIT).is_file()


def _is_ours(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Any error of the libraries inside, in words."""
    try:
        yield
    except Exception as error:  # tokenizers and onnxruntime raise bare ones
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"Cannot read {path}: {reason[0]:.200}") from error


class _Other:
    """An ONNX classifier that another tool exported: batches of texts -> its first output."""

    def __init__(self, folder: str | Path, max_length: int) -> None:
        import onnxruntime

        self.folder = Path(folder)
        missing = [name for name in (CONFIG, TOKENIZER) if not (self.folder / name).is_file()]
        if missing:
            raise ModelError(f"{folder} has an ONNX graph, but no {missing[0]}: expected {CONFIG} and {TOKENIZER}.")
        with _opening(self.folder / CONFIG), torch.device("meta"):
            config = AutoConfig.from_pretrained(folder)
            positions = position_count(AutoModelForSequenceClassification.from_config(config))
        self.task = task_of_config(config)
        self.label_names, self.data_labels = list(self.task.labels), list[str]()
        with _opening(self.folder / TOKENIZER):
            self.tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
        self.tokenizer.enable_truncation(min(max_length, positions or max_length))
        padding = self.tokenizer.padding or {}
        pad = getattr(config, "pad_token_id", None) or 0
        token = self.tokenizer.id_to_token(pad) or padding.get("pad_token", "[PAD]")
        self.tokenizer.enable_padding(pad_id=pad, pad_token=token)
        self.max_length = max_length
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        graph = next(self.folder / name for name in GRAPHS if (self.folder / name).is_file())
        with _opening(graph):
            self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.inputs = [node.name for node in self.session.get_inputs()]
        if not set(self.inputs) <= set(FIELDS):
            raise ModelError(f"{graph} reads {', '.join(self.inputs)}, expected some of {', '.join(FIELDS)}.")

    def logits(self, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> np.ndarray:
        """[texts, labels] float32."""
        columns = [clean_texts(column, self.max_length) for column in (texts, pairs) if column is not None]
        rows: list[Any] = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        found = np.empty((len(rows), len(self.label_names)), dtype=np.float32)
        for start in range(0, len(rows), BATCH):
            encoded = self.tokenizer.encode_batch_fast(rows[start : start + BATCH])
            feed = {
                name: np.array([getattr(one, FIELDS[name]) for one in encoded], dtype=np.int64) for name in self.inputs
            }
            logits = np.asarray(self.session.run(None, feed)[0], dtype=np.float32)
            if logits.shape != (len(encoded), len(self.label_names)):
                raise DataError(
                    f"{self.folder} returned an array of {logits.shape} for {len(encoded)} texts, expected "
                    f"{(len(encoded), len(self.label_names))}: a number for each text and label of config.json."
                )
            found[start : start + BATCH] = logits
        return found
