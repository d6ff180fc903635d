"""Packed weights are the same weights, in fewer bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import BertConfig, BertForSequenceClassification, set_seed

from eyas.compression import LARGEST, compress, merge, parse_methods, rounded_copy
from eyas.compression.low_bits import quantized
from eyas.errors import ExportError
from eyas.export import stored
from eyas.export.onnx import quantize, write_onnx
from eyas.export.packing import pack, pack_tables

NAMES = ["input_ids", "attention_mask"]


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("values", "share"),
    [
        ([-64, 0, 64], 1 / 4),
        (list(range(-63, 64, 9)), 1 / 2),
        ([*range(-60, 61), *[0] * 600], 0.3),  # a bit for each, and a byte for one in six
        (list(range(-60, 61)), 1),
    ],
)
@pytest.mark.parametrize("columns", [129, 64])  # also where a byte's codes do not divide them
def test_packed_weights_are_the_same_weights(values: list[int], share: float, columns: int, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).choice(np.array(values, dtype=np.int8), (130, columns))
    weight[0, 0] = values[-1]
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    shapes = [helper.make_tensor_value_info(n, t, ["b", s]) for n, t, s in (("x", 2, 130), ("y", 6, columns))]
    graph = helper.make_graph([node], "g", shapes[:1], shapes[1:], [numpy_helper.from_array(weight, "w")])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    pack(path)
    found: Any = session(path).run(None, {"x": np.eye(130, dtype=np.uint8)})[0]
    assert np.array_equal(found, weight)
    kept = {tensor.name: numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(path).graph.initializer}
    assert sum(kept.get(name, 0) for name in ("w", "w_packed", "w_values")) <= share * weight.size * 1.01 + 1


@pytest.mark.parametrize("kind", ["ternary", "int4", "int8"])
def test_rounded_weights_are_exactly_those_that_are_exported(kind: str, tmp_path: Path) -> None:
    """The quantizer's whole numbers and scales give the float weights, bit for bit; so do a table's."""
    weight = torch.randn(100, 300, generator=torch.Generator().manual_seed(0))  # [outputs, inputs]
    stored = quantized(weight, kind, rows=True).numpy()
    nodes = [helper.make_node("Gather", ["table", "ids"], ["x"]), helper.make_node("MatMul", ["x", "w"], ["y"], "mm")]
    shapes = [helper.make_tensor_value_info(n, t, ["b", s]) for n, t, s in (("ids", 7, 2), ("y", 1, 100))]
    weights = [numpy_helper.from_array(stored, "table"), numpy_helper.from_array(stored.T.copy(), "w")]
    graph, path = helper.make_graph(nodes, "g", shapes[:1], shapes[1:], weights), tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    pack_tables(path, LARGEST[kind])
    quantize(path, 1)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    assert np.array_equal((found["w_quantized"] * found["w_scale"]).T, stored)
    assert "table" not in found
    opened = onnx.load(path)
    opened.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
    onnx.save(opened, path)
    ids = np.arange(100).reshape(50, 2)
    assert np.array_equal(session(path).run(["x"], {"ids": ids})[0], stored[ids])


def bert(**more: Any) -> Any:
    set_seed(0)
    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512, **more}
    return BertForSequenceClassification(BertConfig(vocab_size=3000, max_position_embeddings=64, **sizes)).eval()


@pytest.mark.process
@pytest.mark.parametrize(("kind", "times"), [("int4", 6.5), ("ternary", 10)])
def test_few_bits_are_stored_in_few_bits_and_answer_alike(kind: str, times: float, tmp_path: Path) -> None:
    model = bert()
    with torch.no_grad():
        model.classifier.weight.mul_(20)
    whole = write_onnx(model, NAMES, tmp_path / "whole.onnx")
    rounded_copy(model, kind)
    exact = session(write_onnx(model, NAMES, tmp_path / "exact.onnx"))
    packed = write_onnx(model, NAMES, tmp_path / "packed.onnx", kind)
    assert whole.stat().st_size > times * packed.stat().st_size
    ids = np.arange(100, 148).reshape(2, 24)
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    expected: Any = exact.run(None, feed)[0]
    found: Any = session(packed).run(None, feed)[0]
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()  # activations have 8 bits


@pytest.mark.process
@pytest.mark.parametrize(("kind", "width"), [("ternary", 126), ("int4", 126), ("int8", 128)])
def test_table_of_few_bits_is_read_exactly(kind: str, width: int, tmp_path: Path) -> None:
    """A byte's codes do not divide 126."""
    model = rounded_copy(bert(num_hidden_layers=1, hidden_size=width, num_attention_heads=2), kind)
    graph = onnx.load(write_onnx(model, NAMES, tmp_path / "packed.onnx", kind))
    nodes = graph.graph.node
    scales = next(n.output[0] for n in nodes if n.op_type == "Gather" and "word_embeddings.weight_scales" in n.input[0])
    name = next(node.output[0] for node in nodes if scales in node.input)
    graph.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    onnx.save(graph, tmp_path / "open.onnx")
    ids = np.array([[1, 2999, 17]])
    found: Any = session(tmp_path / "open.onnx").run([name], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    expected = model.get_input_embeddings()(torch.from_numpy(ids)).detach().numpy()
    assert np.allclose(found[0], expected, rtol=1e-6, atol=1e-8)


def test_table_that_is_read_twice_is_packed_once(tmp_path: Path) -> None:
    """As by the tasks of one student."""
    torch.manual_seed(0)
    table = quantized(torch.randn(600, 16), "int4", True).numpy()
    nodes = [
        helper.make_node("Gather", ["table", "first"], ["a"]),
        helper.make_node("Gather", ["table", "second"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["found"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", name]) for name in ("first", "second")]
    output = helper.make_tensor_value_info("found", TensorProto.FLOAT, ["n", "both", 16])
    graph = helper.make_graph(nodes, "tasks", inputs, [output], [numpy_helper.from_array(table, "table")])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    pack_tables(path, 7)
    onnx.checker.check_model(path)
    assert path.stat().st_size < 600 * (16 / 2 + 4) + 10_000  # half a byte for each number, and scales
    ids = {"first": np.array([[0, 599, 7]]), "second": np.array([[7, 31]])}
    found: Any = session(path).run(None, ids)[0]
    np.testing.assert_allclose(found[0], table[[0, 599, 7, 7, 31]], rtol=1e-6, atol=1e-8)


@pytest.mark.process
def test_shared_layers_are_stored_once(tmp_path: Path) -> None:
    model = bert()
    whole = write_onnx(model, NAMES, tmp_path / "whole.onnx").stat().st_size
    merge(compress(model, parse_methods(["shared"])))
    shared = write_onnx(model, NAMES, tmp_path / "shared.onnx").stat().st_size
    layer = 4 * sum(p.numel() for p in model.bert.encoder.layer[0].parameters() if p.numel() > 4096)
    assert whole - shared == pytest.approx(layer, rel=0.01)


def test_other_bits_than_those_of_the_training_are_refused(tmp_path: Path) -> None:
    model = bert()
    model.config.eyas_compression = ["low-rank:0.5", "ternary"]
    with pytest.raises(ExportError, match=r"trained as ternary, got --int4. Export it with --int8"):
        stored(model, tmp_path, "int4")
