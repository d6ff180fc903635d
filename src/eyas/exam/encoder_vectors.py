"""A baseline: a linear model on a pretrained encoder's own sentence vectors, exported as one graph."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eyas.exam.baselines import fit_on
from eyas.export.onnx import input_names, write_onnx
from eyas.runtime.manifest import MODEL, TOKENIZER, Manifest
from eyas.tasks import Task
from eyas.teachers import Encoder
from eyas.teachers.encoder import pooled


class _OnVectors(nn.Module):
    """A frozen encoder, its pooling and a linear layer, as a classifier."""

    def __init__(self, encoder: Encoder, weights: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        self.body: Any = encoder.model
        self.pooling = encoder.pooling
        self.head = nn.Linear(weights.shape[1], weights.shape[0])
        self.head.load_state_dict({"weight": torch.from_numpy(weights), "bias": torch.from_numpy(bias)})
        self.config = copy.copy(encoder.model.config)
        self.config.pooling = encoder.pooling  # the graphs of two poolings differ, and are cached by configuration

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        states = self.body(**inputs).last_hidden_state
        return SimpleNamespace(logits=self.head(pooled(states, inputs["attention_mask"], self.pooling)))

    def get_input_embeddings(self) -> Any:
        return self.body.get_input_embeddings()

    def set_attn_implementation(self, name: str) -> None:
        self.body.set_attn_implementation(name)


def export_on_vectors(
    encoder: Encoder, task: Task, texts: list[str], labels: np.ndarray, folder: Path
) -> dict[str, int]:
    """Fit a linear model on the vectors of `texts` and export it together with the encoder, in fp32.

    Args:
        encoder: in float32, like the graph.
        labels: as from `labels_of`.
        folder: an existing folder; `eyas.serve.Predictor` reads it.

    Returns:
        The number of its parameters: embedding_parameters, other_parameters.
    """
    linear = fit_on(task, encoder.logits, texts, labels)
    encoder.model.to("cpu")
    model = _OnVectors(encoder, linear.weights, linear.bias).eval()
    write_onnx(model, input_names(model, encoder.tokenizer), folder / MODEL)
    tokenizer = copy.deepcopy(encoder.tokenizer.backend_tokenizer)
    tokenizer.no_padding()
    tokenizer.enable_truncation(encoder.max_length)
    tokenizer.save(str(folder / TOKENIZER), pretty=False)
    table = encoder.model.get_input_embeddings().weight
    Manifest(
        task=task.kind,
        labels=list(task.labels),
        data_labels=list(task.labels),
        precision="fp32",
        max_length=encoder.max_length,
        vocab_size=len(table),
        pair=False,
        self_test=[],
        tolerance=0.0,
        unknown=encoder.tokenizer.unk_token,
    ).write(folder)
    total = sum(weight.numel() for weight in model.parameters())
    return {"embedding_parameters": table.numel(), "other_parameters": total - table.numel()}
