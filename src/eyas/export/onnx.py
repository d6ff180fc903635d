"""A classifier as one ONNX file: dynamic batch and length, weights inside, optionally int8."""

import hashlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from eyas.compression import LARGEST, PACKED
from eyas.export.graphs import kept_graph
from eyas.export.packing import is_packed, pack, pack_tables
from eyas.models import TasksForSequenceClassification, is_student
from eyas.tasks import COMPRESSION

OPSET = 20
# A tagger's list of continuing subwords; its graph returns the logits of all of them.
UNUSED_BUFFER = "continues"
# A matrix product smaller than this is faster in fp32 than the nodes that quantize its input.
SMALLEST_INT8_WEIGHT = 8192
# One of fewer bits saves bytes, if it was rounded.
SMALLEST_PACKED = 512
# Fields of a configuration that do not change the graph, and those that its shapes or the task's groups show.
ANY_MODEL = {
    *("_name_or_path", "transformers_version", "id2label", "label2id", "data_labels", "vocab_size"),
    *("dropout", "eyas_calibration", COMPRESSION),
}


class _LogitsOnly(nn.Module):
    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(self.names, inputs, strict=True))
        return tuple(self.model(**named, **which).logits for which in _outputs(self.model).values())


def _outputs(model: Any) -> dict[str, dict[str, str]]:
    """The graph's outputs by name, and the argument of `model` for each."""
    if not isinstance(model, TasksForSequenceClassification):
        return {"logits": {}}
    return {output_name(task): {"task": task} for task in model.config.tasks or {}}


def output_name(task: str) -> str:
    """The graph's output for a task of several."""
    return f"logits_{task}"


def input_names(model: Any, tokenizer: Any) -> list[str]:
    """The graph's inputs. A student detects padding; a transformer needs an attention mask."""
    if isinstance(model, TasksForSequenceClassification):
        pair = any(task["pair"] for task in (model.config.tasks or {}).values())
        mask = [] if is_student(model) else ["attention_mask"]
        return ["input_ids", *mask, *(["token_type_ids"] if pair else [])]
    if is_student(model):
        return ["input_ids", "token_type_ids"] if model.config.pair else ["input_ids"]
    return [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in tokenizer.model_input_names]


def write_onnx(model: Any, names: list[str], path: Path, precision: str = "fp32") -> Path:
    """Export `model` to `path`, and return it.

    Args:
        model: a classifier of texts or words in eval mode, on the CPU.
        names: the graph's inputs, each [batch, length] int64.
        precision: "fp32", or "int8", which quantizes weights (dynamic activations) and the embedding table; with "int4"
            and "ternary", weights that are rounded so are stored in fewer bits.
    """
    with quiet():
        write_graph(form_of(model, names), lambda: _convert(model, names), model, path)
        if precision != "fp32":
            pack_tables(path, LARGEST[precision])
            quantize(path, SMALLEST_PACKED if precision in PACKED else SMALLEST_INT8_WEIGHT)
        if precision != "fp32" or getattr(model.config, COMPRESSION, None):
            pack(path)
    return path


def write_graph(form: str, make: Callable[[], onnx.ModelProto], model: Any, path: Path) -> None:
    """Write the graph of this form, kept or made, with the weights of `model`."""
    onnx.save(_with_weights(kept_graph(form, make), model), path)
    _fold_constants(path)


def form_of(model: Any, names: list[str]) -> str:
    """Everything that determines the graph except parameters. An ensemble's buffers do: they leave members out.

    A graph fits any vocabulary: the rows of the table of word vectors are the only trace of it. Vectors of characters
    are an exception: their table of spellings becomes a constant of the graph.
    """
    settings = {name: value for name, value in model.config.to_dict().items() if name not in ANY_MODEL}
    words = model.get_input_embeddings().weight
    spelled = getattr(model.config, "char_embedding_size", 0)
    shapes = {
        name: list(weight.shape) if spelled or weight is not words else ["words", *weight.shape[1:]]
        for name, weight in model.named_parameters()
    }
    groups = getattr(getattr(model, "task", None), "groups", None)  # derived from the label names
    buffers = hashlib.sha256()
    for name, buffer in model.named_buffers():
        if name.rpartition(".")[2] != UNUSED_BUFFER:
            buffers.update(buffer.numpy().tobytes())
    return json.dumps([type(model).__name__, names, settings, groups, shapes, buffers.hexdigest()], default=str)


def _convert(model: Any, names: list[str]) -> onnx.ModelProto:
    """The graph of all models of this form, with the parameters as inputs."""
    fields = len(getattr(model.config, "fields", ()))
    ids = torch.randint(5, 50, (2, 12)) if not fields else torch.ones(2, fields + 1, dtype=torch.int64)
    example = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    example["token_type_ids"][:, 6:] = 1
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    given = tuple(example[name] for name in names)
    shapes = (tuple({0: batch} if fields else {0: batch, 1: length} for _ in names),)
    found: onnx.ModelProto = convert(_LogitsOnly(model, names), given, names, list(_outputs(model)), shapes)
    return found


def convert(module: Any, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str], shapes: Any) -> Any:
    """The graph of `module`, with the parameters of the model, its `model`, as inputs.

    Args:
        example: inputs.
        shapes: the dynamic shapes of `torch.export`.
    """
    import onnxscript.optimizer  # takes a second, and most graphs are cached

    with _eager_attention(module.model), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            example,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            optimize=False,  # it would fold and rename weights
        )
    assert program is not None  # None only without dynamo
    graph = program.model.graph
    for name, _ in _parameters(module.model):
        if name in graph.initializers:
            weight = graph.initializers.pop(name)
            weight.const_value = None
            graph.inputs.append(weight)
    onnxscript.optimizer.optimize(program.model)
    return program.model_proto


def _with_weights(graph: onnx.ModelProto, model: Any) -> onnx.ModelProto:
    filled = onnx.ModelProto()
    filled.CopyFrom(graph)
    inputs = {value.name: value for value in filled.graph.input}
    for name, weight in _parameters(model):
        if name in inputs:
            filled.graph.input.remove(inputs[name])
            filled.graph.initializer.append(onnx.numpy_helper.from_array(weight.detach().numpy(), name))
    return filled


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters by their names in the graph."""
    return model.named_parameters(prefix="model", remove_duplicate=False)


def _fold_constants(path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def quantize(path: Path, smallest: int) -> None:
    model = onnx.load(path)
    graph = model.graph
    del graph.value_info[:]  # wrong once the quantizer turns Gemm into MatMul; it infers its own
    _unshare(graph)
    sizes = {weight.name: int(np.prod(weight.dims)) for weight in graph.initializer}
    small = [
        name
        for node in graph.node
        for name in (node.name, f"{node.name}_MatMul")  # the quantizer's name for a Gemm
        if node.op_type in ("MatMul", "Gemm") and sizes.get(node.input[1], 0) < smallest
    ]
    small += [node.name for node in graph.node if is_packed(node)]
    quantize_dynamic(
        model,
        path,
        op_types_to_quantize=["MatMul", "Gemm", "Gather", "LSTM"],
        weight_type=QuantType.QInt8,  # U8S8 reaches VNNI and AMX; QUInt8 is 2.5 to 4 times slower
        nodes_to_exclude=small,
        per_channel=True,  # as fast and as small, and closer to fp32 for transformers
        reduce_range=True,  # 7 bits: without VNNI, products of 8 bits saturate, which ruins a student
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
    )


def _unshare(graph: onnx.GraphProto) -> None:
    """Give each LSTM weights of its own: the quantizer turns them into a form of their own, once for each."""
    weights, used = {weight.name: weight for weight in graph.initializer}, set[str]()
    for number, node in enumerate(node for node in graph.node if node.op_type == "LSTM"):
        for place in (1, 2):
            if (name := node.input[place]) in used:
                own = onnx.TensorProto()
                own.CopyFrom(weights[name])
                own.name = node.input[place] = f"{name}/{number}"
                graph.initializer.append(own)
            used.add(node.input[place])


@contextmanager
def _eager_attention(model: Any) -> Iterator[None]:
    """sdpa exports guards that no optimizer fuses."""
    several: Any = model.students.values() if isinstance(model, TasksForSequenceClassification) else [model]
    changed = [one for one in several if not is_student(one) and one.config._attn_implementation != "eager"]
    before = [one.config._attn_implementation for one in changed]
    for one in changed:
        one.set_attn_implementation("eager")
    try:
        yield
    finally:
        for one, used in zip(changed, before, strict=True):
            one.set_attn_implementation(used)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter and the quantizer, which write to the root logger and to stdout."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
