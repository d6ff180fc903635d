"""`static` students run with numpy, as onnxruntime would run their graph."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import teach

from eyas import Predictor, StudentSettings, export_model
from eyas.runtime.arrays import ArraysRun
from eyas.runtime.manifest import Manifest

TEXTS = ["a great film", "i found it awful, and boring too", "", "x", "the cast is witty " * 30]


@pytest.fixture(
    scope="module",
    params=[pytest.param((False, 16, 96), marks=pytest.mark.process), (True, 16, 96), (True, 128, 100)],
    ids=str,
)
def folder(
    request: pytest.FixtureRequest, teacher_folder: Path, toy_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An exported student: in fp32; in int8; and with a hidden layer large enough for int8."""
    int8, size, hidden = request.param
    place = tmp_path_factory.mktemp("static")
    student = StudentSettings("static", embedding_size=size, hidden_size=hidden, embeddings="random")
    teach(teacher_folder, toy_data, place / "student", student)
    export_model(place / "student", place / "shipped", int8=int8, min_agreement=0.5)
    return place / "shipped"


def test_numpy_computes_what_onnxruntime_does(folder: Path) -> None:
    predictor = Predictor(folder)
    assert isinstance(predictor._run, ArraysRun)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    for feed, _ in predictor._feeds([TEXTS]):
        expected = session.run(None, feed)[0]
        close = 1e-5 if Manifest.read(folder).precision == "fp32" else 0.02
        np.testing.assert_allclose(predictor._run(feed), expected, atol=close)


def test_padding_and_no_tokens_are_as_in_the_graph(folder: Path) -> None:
    predictor, session = Predictor(folder), onnxruntime.InferenceSession(str(folder / "model.onnx"))
    for row in ([[5, 6, 0, 0]], [[0]], [[7]]):
        feed = {"input_ids": np.array(row, dtype=np.int64)}
        np.testing.assert_allclose(predictor._run(feed), session.run(None, feed)[0], atol=0.02)


def test_a_text_has_the_same_answer_alone_and_among_others(folder: Path) -> None:
    predictor = Predictor(folder)
    texts = [*TEXTS, "[PAD] a great film", "[PAD]", *(f"film {number} " * number for number in range(40))]
    alone = np.concatenate([predictor.logits([text]) for text in texts])
    np.testing.assert_array_equal(predictor.logits(texts), alone)


def test_weights_are_stored_once(folder: Path) -> None:
    assert {path.suffix for path in folder.iterdir()} <= {".onnx", ".json", ".md"}
    assert (folder / "manifest.json").stat().st_size < 20_000
    arrays = json.loads((folder / "manifest.json").read_text())["arrays"]
    assert arrays["table"]["offset"] > 0


@pytest.mark.process
def test_other_students_run_in_a_session(exported: dict[tuple[str, bool, bool], Path]) -> None:
    for key in (("cnn", False, False), ("static", True, False)):
        assert Predictor(exported[key]).manifest.arrays is None
