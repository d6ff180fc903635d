"""A matrix product with weights of 8, 4 and 2 bits: is any kernel of ONNX Runtime faster than the one of int8?

    python benchmarks/few_bits.py

The shapes are a MiniLM's, for a text of 1, 8 and 32 tokens; all kernels take turns in one process, one thread. Run it
with nothing else running.
"""

import time
from pathlib import Path

import numpy as np
import onnxruntime
from common import append_row, machine
from onnx import NodeProto, TensorProto, helper, numpy_helper

RESULTS = Path(__file__).parent / "results" / "few_bits.jsonl"
TOKENS, SHAPES, TURNS, BLOCK = (1, 8, 32), ((384, 1536), (1536, 384), (384, 384)), 500, 32
# Computes with activations of 8 bits.
INT8_ACTIVATIONS = 4


def session(nodes: list[NodeProto], weights: list[TensorProto], inputs: int, outputs: int) -> object:
    shapes = [
        helper.make_tensor_value_info(name, 1, ["tokens", size]) for name, size in (("x", inputs), ("y", outputs))
    ]
    graph = helper.make_graph(nodes, "product", shapes[:1], shapes[1:], weights)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def kernels(inputs: int, outputs: int) -> dict[str, object]:
    random = np.random.default_rng(0)
    weight = random.normal(size=(inputs, outputs)).astype(np.float32)
    whole = numpy_helper.from_array(np.rint(weight * 15).clip(-63, 63).astype(np.int8), "w")
    steps = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["xq", "w", "zero"], ["a"]),
        helper.make_node("Cast", ["a"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "scale"], ["y"]),
    ]
    found = {
        "fp32": session(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], [numpy_helper.from_array(weight, "w")], inputs, outputs
        ),
        "int8": session(steps, [whole], inputs, outputs),
    }
    for bits in (4, 2):
        packed = random.integers(0, 256, size=(outputs, inputs // BLOCK, BLOCK * bits // 8), dtype=np.uint8)
        scales = np.ones(outputs * inputs // BLOCK, np.float32)
        options = {"K": inputs, "N": outputs, "bits": bits, "block_size": BLOCK, "accuracy_level": INT8_ACTIVATIONS}
        node = helper.make_node("MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft", **options)
        weights = [numpy_helper.from_array(packed, "b"), numpy_helper.from_array(scales, "s")]
        found[f"{bits} bits"] = session([node], weights, inputs, outputs)
    return found


def main() -> None:
    for tokens in TOKENS:
        for inputs, outputs in SHAPES:
            models = kernels(inputs, outputs)
            values = np.random.default_rng(1).normal(size=(tokens, inputs)).astype(np.float32)
            best = dict.fromkeys(models, float("inf"))
            for _ in range(TURNS):
                for name, model in models.items():
                    start = time.perf_counter()
                    model.run(None, {"x": values})
                    best[name] = min(best[name], time.perf_counter() - start)
            row = {"tokens": tokens, "shape": f"{inputs} x {outputs}", "int8_us": round(1e6 * best["int8"], 1)}
            row |= {f"{name} speed": round(best["int8"] / took, 2) for name, took in best.items() if name != "int8"}
            append_row(RESULTS, {**row, **machine()})
            print(row, flush=True)


if __name__ == "__main__":
    main()
