"""Exported folders: the same answers as torch, batch invariance, and damaged files."""

import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pandas
import pytest
from toys import toy_rows

from eyas import STUDENTS, Classifier, Predictor, export_model, load_data
from eyas.errors import DataError, ExportError
from eyas.runtime.manifest import Manifest
from eyas.training.folders import SAMPLE_FILE

ALL = [
    pytest.param(name, pair, marks=[] if name in ("static", "cnn") and not pair else pytest.mark.process)
    for name in STUDENTS
    for pair in (False, True)
]
ODD = [
    "",
    " ",
    "\x00",
    "🙂🙃",
    "!",
    "a",
    "a great film",
    "word " * 30,
    "x" * 5000,
    "\ud800",
    "a [PAD] [PAD] boring film",
]


def columns(pair: bool) -> tuple[list[str], list[str] | None]:
    return (ODD, ODD[::-1]) if pair else (ODD, None)


@pytest.mark.parametrize(("name", "pair"), ALL)
def test_onnx_logits_equal_torch_logits(
    name: str, pair: bool, students: dict[tuple[str, bool], Path], exported: dict[tuple[str, bool, bool], Path]
) -> None:
    expected = Classifier.from_pretrained(students[name, pair]).logits(*columns(pair))
    found = Predictor(exported[name, pair, False]).logits(*columns(pair))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("name", "pair"), ALL)
@pytest.mark.parametrize("int8", [False, True])
def test_onnx_logits_do_not_depend_on_batch(
    name: str, pair: bool, int8: bool, exported: dict[tuple[str, bool, bool], Path]
) -> None:
    """The graph gives the same logits alone and in a padded batch."""
    predictor = Predictor(exported[name, pair, int8])
    texts = ["a great film", "boring", "i found it moving and the cast is witty"]
    rows: list[object] = [(t, "lovely") for t in texts] if pair else list(texts)
    encodings = [predictor._tokenizer.encode(*row) if pair else predictor._tokenizer.encode(row) for row in rows]
    alone = [predictor._run(predictor._feed(e))[0] for e in encodings]
    width = max(len(e.ids) for e in encodings)
    feed = {"input_ids": np.zeros((3, width), dtype=np.int64)}
    if pair:
        feed["token_type_ids"] = np.zeros((3, width), dtype=np.int64)
    for i, encoding in enumerate(encodings):
        feed["input_ids"][i, : len(encoding.ids)] = encoding.ids
        if pair:
            feed["token_type_ids"][i, : len(encoding.ids)] = encoding.type_ids
    together = predictor._run(feed)
    # int8 scales activations by the largest value in the batch: equal within the tolerance of quantization
    np.testing.assert_allclose(together, alone, atol=0.05 * np.abs(alone).max() if int8 else 1e-5)


@pytest.mark.parametrize(("name", "pair"), ALL)
@pytest.mark.parametrize("int8", [False, True])
def test_predictor_never_mixes_texts(
    name: str, pair: bool, int8: bool, exported: dict[tuple[str, bool, bool], Path]
) -> None:
    predictor = Predictor(exported[name, pair, int8])
    firsts, seconds = columns(pair)
    together = predictor.logits(firsts, seconds)
    for i, text in enumerate(firsts):
        alone = predictor.logits([text], None if seconds is None else [seconds[i]])
        assert np.array_equal(alone[0], together[i])


def test_int8_weights_have_seven_bits(exported: dict[tuple[str, bool, bool], Path]) -> None:
    """Without VNNI, two products are added in 16 bits; with 8-bit weights, they overflow."""
    graph = onnx.load(exported["cnn", False, True] / "model.onnx").graph
    weights = [
        onnx.numpy_helper.to_array(part) for part in graph.initializer if part.data_type == onnx.TensorProto.INT8
    ]
    largest = [int(np.abs(weight.astype(int)).max()) for weight in weights if weight.size > 1]
    assert largest
    assert max(largest) <= 64


@pytest.mark.parametrize(
    "name", ["static", "cnn", *(pytest.param(n, marks=pytest.mark.process) for n in ("bilstm", "cnn-lstm"))]
)
def test_int8_model_keeps_labels_and_has_int8_weights(
    name: str, exported: dict[tuple[str, bool, bool], Path], toy_data: Path
) -> None:
    texts = list(load_data(toy_data)["test"]["text"])
    exact, small = (Predictor(exported[name, False, int8]) for int8 in (False, True))
    assert (exact.logits(texts).argmax(1) == small.logits(texts).argmax(1)).mean() > 0.85
    types = {i.data_type for i in onnx.load(exported[name, False, True] / "model.onnx").graph.initializer if i.dims}
    assert types & {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


@pytest.mark.process
def test_exported_weights_are_inside_the_graph_file(exported: dict[tuple[str, bool, bool], Path]) -> None:
    for folder in (exported[name, pair, True] for name, pair in product(STUDENTS, (False, True))):
        assert {p.name for p in folder.iterdir()} == {
            "model.onnx", "tokenizer.json", "manifest.json", "README.md", "eyas.json",
        }  # fmt: skip
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        assert not any(i.external_data for i in model.graph.initializer)


def test_export_model_supports_transformers(teacher_folder: Path, tmp_path: Path) -> None:
    texts = [(t,) for t in ODD]
    export_model(teacher_folder, tmp_path / "out", texts=texts)
    found = Predictor(tmp_path / "out").logits(ODD)
    np.testing.assert_allclose(found, Classifier.from_pretrained(teacher_folder).logits(ODD), atol=1e-4)
    parity = export_model(teacher_folder, tmp_path / "int8", int8=True, texts=texts, min_agreement=0.5)
    assert parity.rows == len(ODD)


def test_export_model_fails_if_labels_disagree(students: dict[tuple[str, bool], Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"\d+ of \d+|1\.0"):
        export_model(students["bilstm", False], tmp_path / "out", int8=True, min_agreement=1.01)
    assert not list(tmp_path.iterdir())


def test_export_model_refuses_student_without_sample(students: dict[tuple[str, bool], Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(students["cnn", False], copy)
    (copy / "validation_sample.jsonl").unlink()
    with pytest.raises(ExportError, match=r"validation_sample.jsonl"):
        export_model(copy, tmp_path / "out")


def test_export_model_needs_texts_and_an_agreement_that_can_be_met(
    students: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(students["cnn", False], model)
    with pytest.raises(ExportError, match="--min-agreement.*expected a number"):
        export_model(model, tmp_path / "out", min_agreement=float("nan"))
    (model / SAMPLE_FILE).write_text("")
    with pytest.raises(ExportError, match="no texts for the parity check"):
        export_model(model, tmp_path / "out")


def test_predictor_returns_labels_and_scores(exported: dict[tuple[str, bool, bool], Path]) -> None:
    predictor = Predictor(exported["cnn", False, False])
    rows = toy_rows(40, 3000)
    answers = predictor([row["text"] for row in rows])
    assert sum(answer["label"] == row["label"] for answer, row in zip(answers, rows, strict=True)) > 34
    assert all(0.5 < answer["score"] <= 1 for answer in answers)
    assert predictor([]) == []
    pairs = Predictor(exported["cnn", True, False])
    answers = pairs([("a flat film", row["text"]) for row in rows])
    assert {answer["label"] for answer in answers} <= {"liked", "disliked"}


@pytest.mark.parametrize("bad", [None, 3, b"bytes", ["a", "b"]])
def test_predictor_refuses_inputs_that_are_not_text(exported: dict[tuple[str, bool, bool], Path], bad: object) -> None:
    with pytest.raises(DataError, match="Text 1 is"):
        Predictor(exported["cnn", False, False])(["fine", bad])  # type: ignore[list-item]


def test_predictor_refuses_string_instead_of_list(exported: dict[tuple[str, bool, bool], Path]) -> None:
    with pytest.raises(DataError, match=r"Pass \[text\]"):
        Predictor(exported["cnn", False, False])("a great film")
    with pytest.raises(DataError, match="two texts"):
        Predictor(exported["cnn", True, False])(["a great film"])


def test_predictor_ignores_end_of_long_text(exported: dict[tuple[str, bool, bool], Path]) -> None:
    predictor = Predictor(exported["cnn", False, False])
    long = "a great film " * 80_000
    assert np.array_equal(predictor.logits([long]), predictor.logits([long[:20_000]]))


def copy_of(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_predictor_names_damaged_file(exported: dict[tuple[str, bool, bool], Path], tmp_path: Path, name: str) -> None:
    folder = copy_of(exported["cnn", False, True], tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ExportError, match=rf"{name} .*checksum"):
        Predictor(folder)
    (folder / name).unlink()
    with pytest.raises(ExportError, match=rf"{name} .*missing"):
        Predictor(folder)
    (folder / name).symlink_to(exported["cnn", False, True] / name)
    with pytest.raises(ExportError, match=rf"{name} .*plain file"):
        Predictor(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format version 99"),
        ({"format_version": 2}, "format version 2"),
        ({"labels": None, "extra": 1}, "manifest.json"),
        ({"sha256": {}}, "checksum"),
        ({"sha256": {"../x": "0"}}, "checksum"),
        ({"vocab_size": 3}, r"\b3\b"),
    ],
)
def test_predictor_refuses_invalid_manifest(
    exported: dict[tuple[str, bool, bool], Path], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    folder = copy_of(exported["cnn", False, True], tmp_path)
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(ExportError, match=message):
        Predictor(folder)


def test_predictor_refuses_paths_outside_the_folder(
    exported: dict[tuple[str, bool, bool], Path], tmp_path: Path
) -> None:
    folder = copy_of(exported["cnn", False, True], tmp_path)
    content = json.loads((folder / "manifest.json").read_text())
    content["sha256"]["../secret"] = "0"
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ExportError, match=r"\.\./secret"):
        Predictor(folder)


def test_self_test_detects_other_scores(exported: dict[tuple[str, bool, bool], Path], tmp_path: Path) -> None:
    folder = copy_of(exported["cnn", False, True], tmp_path)
    manifest = Manifest.read(folder)
    manifest.self_test[0]["probabilities"] = manifest.self_test[0]["probabilities"][::-1]
    manifest.write(folder)
    with pytest.raises(ExportError, match="differ by"):
        Predictor(folder)
    assert len(Predictor(folder, self_test=False)(["a great film"])) == 1


def test_examples_of_an_empty_text(exported: dict[tuple[str, bool, bool], Path]) -> None:
    manifest = Manifest.read(exported["bilstm", False, True])
    manifest.self_test = [{"text": "", "probabilities": []}, {"text": "some text", "probabilities": []}]
    assert manifest.examples == [["some text"]]


def test_self_test_matches_predictor(exported: dict[tuple[str, bool, bool], Path]) -> None:
    manifest = Manifest.read(exported["bilstm", False, True])
    predictor = Predictor(exported["bilstm", False, True])
    assert len(manifest.self_test) == 8
    for example in manifest.self_test:
        found = predictor.predict_proba([example["text"]])[0]
        np.testing.assert_allclose(found, example["probabilities"], atol=1e-4)


def test_model_card_describes_exported_student(exported: dict[tuple[str, bool, bool], Path]) -> None:
    card = (exported["cnn", False, True] / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: eyas\n")
    assert "negative, positive" in card
    assert "| recipe | logit-mse |" in card
    assert "## Intended use\n\nIt assigns a text one of 2 labels." in card
    assert "license: unknown" in card


def test_what_is_no_list_of_texts_is_refused(
    exported: dict[tuple[str, bool, bool], Path], taggers: dict[str, Path], tmp_path: Path
) -> None:
    model = Predictor(exported["cnn", False, False])
    for wrong in ({"a": 1}, pandas.DataFrame({"text": ["a"]})):
        with pytest.raises(DataError, match="Expected a list of texts, got a"):
            model(wrong)
    export_model(taggers["static"], tmp_path / "tags", min_agreement=0.5)
    tagger = Predictor(tmp_path / "tags")
    for row in ({"text": "a"}, None, 1):
        with pytest.raises(DataError, match="Expected a sentence or a list of its words"):
            tagger([row])


@pytest.mark.parametrize("content", ["[]", "null", '"x"'])
def test_manifest_that_is_no_object_is_refused(
    content: str, exported: dict[tuple[str, bool, bool], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(exported["cnn", False, False], tmp_path / "films")
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ExportError, match="damaged: it is no JSON object"):
        Predictor(folder)


def test_self_test_refuses_scores_that_are_no_numbers(
    exported: dict[tuple[str, bool, bool], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(exported["cnn", False, False], tmp_path / "films")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "calibration": {"temperature": 0}}))
    with pytest.raises(ExportError, match="differ by nan"), np.errstate(all="ignore"):
        Predictor(folder)
