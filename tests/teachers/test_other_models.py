"""Teachers that are no torch classifiers of the data's labels: exported graphs, and models of entailment."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Once, toy_rows
from tokenizers import Tokenizer

import eyas
from eyas import Classifier, DistillSettings, ExportedTeacher, Predictor, Teacher, ZeroShotTeacher, load_data
from eyas.data.datasets import ids_of
from eyas.errors import DataError, LabelError, ModelError
from eyas.export.onnx import write_onnx
from eyas.teachers.exported import is_exported
from eyas.teachers.zero_shot import parse_hypotheses
from eyas.training.students import create_student
from eyas.training.teachers import open_teachers

Run = Callable[..., tuple[int, str, str]]
TEXTS = [row["text"] for row in toy_rows(70)]
SHORT = DistillSettings(arguments={"max_steps": 2})


def test_exported_folder_answers_as_its_predictor(
    exported: dict[tuple[str, bool, bool], Path], tiny_bert: Path
) -> None:
    folder = exported["cnn", False, True]
    teacher = ExportedTeacher(folder, encoder=tiny_bert)
    expected = Predictor(folder)
    assert teacher.label_names == expected.label_names
    np.testing.assert_allclose(teacher.outputs({"text": TEXTS})["logits"].numpy(), expected.logits(TEXTS), atol=1e-6)


@pytest.fixture(scope="module")
def graph(once: Once, teacher_folder: Path) -> Path:
    """The films teacher as another exporter writes it: a graph, its configuration and tokenizer."""

    def make(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        classifier = Classifier.from_pretrained(teacher_folder)
        write_onnx(classifier.model, ["input_ids", "attention_mask", "token_type_ids"], folder / "model.onnx")
        for name in ("config.json", "tokenizer.json"):
            shutil.copy2(teacher_folder / name, folder)

    return once("foreign-graph", make)


@pytest.fixture
def foreign(graph: Path, tmp_path: Path) -> Path:
    """A copy of `graph` to change."""
    return Path(shutil.copytree(graph, tmp_path / "foreign"))


def test_another_exporters_classifier_answers_as_in_torch(foreign: Path, teacher_folder: Path, tiny_bert: Path) -> None:
    teacher = ExportedTeacher(foreign, encoder=tiny_bert, max_length=48)
    expected = Teacher(teacher_folder, max_length=48, dtype="float32").logits(TEXTS)
    np.testing.assert_allclose(teacher.outputs({"text": TEXTS})["logits"].numpy(), expected, atol=1e-4)


def test_exported_folder_teaches_from_the_command_line(
    foreign: Path, toy_data: Path, tiny_bert: Path, tmp_path: Path, run: Run
) -> None:
    more = ("--student", "static", "--encoder", tiny_bert, "--augment", "none", "--out", tmp_path / "student")
    code, _, err = run("distill", "--teacher", foreign, "--data", toy_data, *more)
    assert code == 0, err
    trained = Classifier.from_pretrained(tmp_path / "student")
    rows = load_data(toy_data)["validation"]
    agreement = np.mean(trained.predict(rows["text"][:]) == labels_of_teacher(foreign, tiny_bert, rows["text"][:]))
    assert agreement > 0.8


def labels_of_teacher(folder: Path, encoder: Path, texts: list[str]) -> np.ndarray:
    teacher = ExportedTeacher(folder, encoder=encoder)
    return np.array(teacher.label_names)[teacher.outputs({"text": texts})["logits"].argmax(1).numpy()]


def test_fingerprint_follows_the_graph(foreign: Path, tiny_bert: Path) -> None:
    before = ExportedTeacher(foreign, encoder=tiny_bert).fingerprint
    (foreign / "README.md").write_text("read me")
    assert ExportedTeacher(foreign, encoder=tiny_bert).fingerprint == before
    tokenizer = Tokenizer.from_file(str(foreign / "tokenizer.json"))
    tokenizer.add_tokens(["xyzzy"])
    tokenizer.save(str(foreign / "tokenizer.json"))
    assert ExportedTeacher(foreign, encoder=tiny_bert).fingerprint != before


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_graph_without_its_files_is_refused(missing: str, foreign: Path, tiny_bert: Path) -> None:
    (foreign / missing).unlink()
    with pytest.raises(ModelError, match=f"has an ONNX graph, but no {missing}"):
        ExportedTeacher(foreign, encoder=tiny_bert)


def test_graph_with_other_labels_is_refused(foreign: Path, tiny_bert: Path) -> None:
    config = json.loads((foreign / "config.json").read_text())
    names = {"0": "a", "1": "b", "2": "c"}
    config |= {"id2label": names, "label2id": {name: int(number) for number, name in names.items()}}
    (foreign / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"array of \(2, 2\) for 2 texts, expected \(2, 3\)"):
        ExportedTeacher(foreign, encoder=tiny_bert).outputs({"text": TEXTS[:2]})


def test_exported_tagger_is_refused(taggers: dict[str, Path], tiny_bert: Path, tmp_path: Path) -> None:
    eyas.export_model(taggers["cnn"], tmp_path / "tagger")
    with pytest.raises(ModelError, match="exported tagger, which cannot teach"):
        ExportedTeacher(tmp_path / "tagger", encoder=tiny_bert)


def test_pickle_beside_a_classifier_is_no_hindrance(teacher_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(teacher_folder, tmp_path / "films"))
    (folder / "label_encoder.pkl").write_bytes(b"")
    assert not is_exported(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", "{"), ("config.json", "{}"), ("tokenizer.json", "{}"), ("model.onnx", "no graph")],
)
def test_damaged_files_of_an_exported_classifier_are_named(
    name: str, content: str, foreign: Path, tiny_bert: Path
) -> None:
    (foreign / name).write_text(content)
    with pytest.raises(ModelError, match=f"Cannot read .*{name}: "):
        ExportedTeacher(foreign, encoder=tiny_bert)


@pytest.mark.process
def test_reserved_positions_of_a_graph_are_not_read(tiny_bert: Path, tmp_path: Path) -> None:
    """In RoBERTa, the first positions are the padding's."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = RobertaConfig(vocab_size=2000, max_position_embeddings=34, pad_token_id=1, type_vocab_size=1, **sizes)
    model = RobertaForSequenceClassification(config).eval()
    write_onnx(model, ["input_ids", "attention_mask"], tmp_path / "model.onnx")
    config.save_pretrained(tmp_path)
    shutil.copy2(tiny_bert / "tokenizer.json", tmp_path)
    teacher = ExportedTeacher(tmp_path, encoder=tiny_bert, max_length=64)
    assert teacher.outputs({"text": ["a great film " * 60]})["logits"].isfinite().all()


@pytest.mark.parametrize("name", ["model_head.pkl", "classifier.joblib"])
def test_pickled_head_is_refused(name: str, toy_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "setfit"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    (folder / name).write_bytes(b"")
    with pytest.raises(ModelError, match=rf"{name}. It is a pickle.*FunctionTeacher\(model.predict_proba"):
        eyas.distill(folder, toy_data, tmp_path / "student", "static", settings=SHORT)


@pytest.fixture(scope="module")
def judge(once: Once, pair_teacher_folder: Path) -> Path:
    """A classifier of pairs with the three labels of entailment; the third is never the answer."""
    from transformers import AutoModelForSequenceClassification

    def make(folder: Path) -> None:
        shutil.copytree(pair_teacher_folder, folder, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        names = {"0": "contradiction", "1": "entailment", "2": "neutral"}
        config |= {"id2label": names, "label2id": {name: int(number) for number, name in names.items()}}
        (folder / "config.json").write_text(json.dumps(config))
        model = AutoModelForSequenceClassification.from_pretrained(folder, ignore_mismatched_sizes=True)
        trained = AutoModelForSequenceClassification.from_pretrained(pair_teacher_folder)
        with torch.no_grad():
            model.classifier.weight[:2], model.classifier.bias[:2] = trained.classifier.weight, trained.classifier.bias
            model.classifier.weight[2], model.classifier.bias[2] = 0.0, -9.0
        model.save_pretrained(folder)

    return once("judge", make)


def test_zero_shot_has_the_probabilities_of_the_pipeline_of_transformers(judge: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    labels = ["great", "dull", "funny"]
    teacher = ZeroShotTeacher(judge, labels, max_length=64, dtype="float32")
    found = teacher.outputs({"text": TEXTS[:20]})["logits"].softmax(1).numpy()
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(judge), AutoTokenizer.from_pretrained(judge)
    classify = pipeline("zero-shot-classification", model=model, tokenizer=tokenizer)
    for text, row in zip(TEXTS[:20], found, strict=True):
        answer: Any = classify(text, labels)
        expected = dict(zip(answer["labels"], answer["scores"], strict=True))
        np.testing.assert_allclose(row, [expected[label] for label in labels], atol=1e-4)


def test_zero_shot_teaches_from_the_command_line(judge: Path, toy_data: Path, tmp_path: Path, run: Run) -> None:
    asked = "positive=a great film,negative=a dull film"
    more = ("--student", "static", "--augment", "none", "--epochs", 1, "--out", tmp_path / "student")
    code, _, err = run("distill", "--teacher", judge, "--zero-shot", asked, "--data", toy_data, *more)
    assert code == 0, err
    record = json.loads((tmp_path / "student" / "eyas.json").read_text())
    assert record["settings"]["zero_shot"] == {"positive": "a great film", "negative": "a dull film"}


def test_zero_shot_answers_are_cached_in_the_order_of_the_labels(judge: Path, toy_data: Path) -> None:
    rows = load_data(toy_data)["validation"]
    for labels in (["great", "dull", "funny", "odd"], ["dull", "great", "odd", "funny"]):
        teacher = ZeroShotTeacher(judge, labels, max_length=64, dtype="float32")
        cached = teacher.label(rows)
        assert cached.label_names == labels
        expected = teacher.outputs({"text": rows["text"][:]})["logits"]
        torch.testing.assert_close(cached.logits(ids_of(rows)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("labels", [["negative", "positive"], ["great", "dull", "funny", "odd"]])
def test_student_of_zero_shot_has_a_head_of_its_own(labels: list[str], judge: Path) -> None:
    """The judge's has rows of entailment and its opposites, whatever the number of labels."""
    teacher = ZeroShotTeacher(judge, labels, max_length=64, dtype="float32")
    data = load_data((TEXTS, [labels[number % len(labels)] for number in range(len(TEXTS))]))
    student: Any = create_student("bert", teacher, data["train"], labels)[0]
    head, own = student.classifier.weight, teacher.judge.model.classifier.weight
    assert head.shape[0] == len(labels)
    assert not any(torch.equal(row, other) for row in head for other in own)


def test_zero_shot_is_for_the_models_of_entailment_among_the_teachers(
    judge: Path, teacher_folder: Path, exported: dict[tuple[str, bool, bool], Path], toy_data: Path, tmp_path: Path
) -> None:
    data, asked = load_data(toy_data), {"positive": "a great film", "negative": "a dull film"}
    both = open_teachers([str(judge), str(teacher_folder)], data, None, 64, "float32", {"zero_shot": asked})
    assert [type(one) for one in both] == [ZeroShotTeacher, Teacher]
    for other in (exported["cnn", False, True], Teacher(teacher_folder)):
        with pytest.raises(DataError, match=r"No teacher takes zero_shot \(--zero-shot\): a model of entailment does"):
            eyas.distill(other, data, tmp_path / "out", "static", zero_shot=asked, settings=SHORT)


@pytest.mark.parametrize("labels", [["a", "a"], ["a", ""], {"a": "x", "b": " "}])
def test_labels_of_zero_shot_are_checked(labels: Any, judge: Path) -> None:
    with pytest.raises(LabelError):
        ZeroShotTeacher(judge, labels)


def test_zero_shot_needs_a_model_of_entailment(teacher_folder: Path, judge: Path) -> None:
    with pytest.raises(ModelError, match="one of its labels starts with 'entail'; this model's are negative, positive"):
        ZeroShotTeacher(teacher_folder, ["a", "b"])
    with pytest.raises(DataError, match="labels single texts"):
        ZeroShotTeacher(judge, ["a", "b"]).outputs({"text": ["x"], "text_pair": ["y"]})


def test_hypotheses_are_read() -> None:
    assert parse_hypotheses("a, b") == ["a", "b"]
    assert parse_hypotheses("a = It is so.,b=Not so.") == {"a": "It is so.", "b": "Not so."}
    with pytest.raises(DataError, match="expected LABEL,LABEL or LABEL=HYPOTHESIS"):
        parse_hypotheses("a=It is so.,b")
    with pytest.raises(LabelError, match="names the label 'a' more than once"):
        parse_hypotheses("a=It is so.,b=No.,a=Yes.")
