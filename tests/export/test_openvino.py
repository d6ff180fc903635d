"""The OpenVINO folder gives the same answers with another engine."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import toy_rows

from eyas import Classifier, export_model
from eyas.errors import ExportError
from eyas.serve import OpenVINOPredictor, Predictor

pytest.importorskip("openvino")
pytestmark = pytest.mark.process  # another engine, seconds for each graph


@pytest.mark.parametrize(("name", "pair"), [("cnn", True), ("bilstm", False)])
def test_openvino_answers_as_classifier(
    name: str, pair: bool, students: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    export_model(students[name, pair], tmp_path / "out", int8=True, min_agreement=0.8, openvino=True)
    texts = [row["text"] for row in toy_rows(50)] + ["", "word " * 300, "🙂"]
    pairs = texts[::-1] if pair else None
    expected = Classifier.from_pretrained(students[name, pair]).logits(texts, pairs)
    found = OpenVINOPredictor(tmp_path / "out").logits(texts, pairs)
    np.testing.assert_allclose(found, expected, atol=0.005 * np.abs(expected).max())
    assert {file.name for file in (tmp_path / "out" / "openvino").iterdir()} == {"model.xml", "model.bin"}
    assert not list((tmp_path / "out").glob("*fp32*"))
    assert Predictor(tmp_path / "out").logits(texts, pairs).shape == expected.shape


def test_export_refuses_student_that_openvino_runs_differently(
    students: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    """OpenVINO ignores the lengths of texts in a batched LSTM, so biases act beyond their ends."""
    student = Path(shutil.copytree(students["bilstm", True], tmp_path / "student"))
    model = Classifier.from_pretrained(student).model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lstm" in name and "bias" in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(student)
    with pytest.raises(ExportError, match=r"OpenVINO|\d+ of \d+"):
        export_model(student, tmp_path / "out", min_agreement=0, openvino=True)
    assert not (tmp_path / "out").exists()


def test_openvino_tags_as_predictor(taggers: dict[str, Path], tmp_path: Path) -> None:
    export_model(taggers["bilstm-crf"], tmp_path / "out", min_agreement=0.8, openvino=True)
    sentence = ["anna", "lives", "in", "new", "york"]
    assert (
        OpenVINOPredictor(tmp_path / "out").tag(sentence)["tags"] == Predictor(tmp_path / "out").tag(sentence)["tags"]
    )


def test_openvino_errors_name_what_is_missing(
    exported: dict[tuple[str, bool, bool], Path],
    students: dict[tuple[str, bool], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ExportError, match="--openvino"):
        OpenVINOPredictor(exported["cnn", False, True])
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExportError, match=r"pip install '\.\[openvino\]'"):
        OpenVINOPredictor(exported["cnn", False, True])
    with pytest.raises(ExportError, match=r"pip install '\.\[openvino\]'"):
        export_model(students["cnn", False], tmp_path / "out", openvino=True)
    assert not (tmp_path / "out").exists()
