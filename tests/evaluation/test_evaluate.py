from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, concatenate_datasets
from sklearn.metrics import f1_score
from tagging import write_conll

from eyas import Classifier, Predictor, evaluate, load_data
from eyas.data.datasets import labels_of, task_of
from eyas.data.targets import with_labels_of
from eyas.errors import DataError, LabelError
from eyas.evaluation.metrics import agreement, classification_metrics, expected_calibration_error
from eyas.tasks import Task


def test_classification_metrics_match_manual_values() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.5], [9.0, 0.0]])
    labels = np.array([0, 1, 1, 1, -1])
    scores = classification_metrics(logits, labels)
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx(f1_score([0, 1, 1, 1], [0, 1, 0, 1], average="macro"))
    assert scores["matthews"] == pytest.approx((1 * 2 - 1 * 0) / np.sqrt((1 + 1) * (1 + 0) * (2 + 1) * (2 + 0)))


def test_calibration_error_matches_manual_value() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    labels = np.array([0] * 9 + [1] + [0] * 3 + [1] * 7)
    assert expected_calibration_error(probabilities, labels) == pytest.approx((0.0 * 10 + 0.3 * 10) / 20)


def test_classification_metrics_refuse_unlabeled_rows() -> None:
    with pytest.raises(DataError, match="no row has a label"):
        classification_metrics(np.zeros((2, 2)), np.array([-1, -100]))


def test_agreement_ignores_unlabeled_words_only() -> None:
    ours, theirs = np.array([[1, 0], [0, 1.0]]), np.array([[2, 0], [2, 0.0]])
    assert agreement(Task("classification", ("a", "b")), ours, theirs, np.array([0, -1])) == 0.5
    assert agreement(Task("tagging", ("O", "B")), ours, theirs, np.array([0, -1])) == 1.0  # a question's word


def test_evaluate_reports_retention_and_agreement(
    students: dict[tuple[str, bool], Path],
    exported: dict[tuple[str, bool, bool], Path],
    teacher_folder: Path,
    toy_data: Path,
) -> None:
    test, teacher = load_data(toy_data)["test"], Classifier.from_pretrained(teacher_folder)
    own = evaluate(teacher, test, teacher)
    assert own["retention"] == own["agreement"] == 1.0
    torch_scores = evaluate(Classifier.from_pretrained(students["bilstm", False]), test, teacher)
    onnx_scores = evaluate(Predictor(exported["bilstm", False, False]), test, teacher)
    for name in ("interval", "retention_interval"):
        assert torch_scores.pop(name) == pytest.approx(onnx_scores.pop(name), abs=1e-4)
    assert torch_scores == pytest.approx(onnx_scores, abs=1e-4)
    assert torch_scores["retention"] == torch_scores["accuracy"] / torch_scores["teacher_accuracy"]


def test_evaluate_needs_label_map_for_other_names(
    students: dict[tuple[str, bool], Path], toy_pairs: Path, toy_data: Path
) -> None:
    student = Classifier.from_pretrained(students["cnn", False])
    data = load_data(toy_data)["test"]
    labels = {"label": labels_of(data)}
    column = Dataset.from_dict(labels, features=Features({"label": ClassLabel(names=["bad", "good"])}))
    renamed = concatenate_datasets([data.remove_columns("label"), column], axis=1)
    with pytest.raises(LabelError, match="do not match"):
        evaluate(student, renamed)
    mapped = evaluate(student, renamed, label_map={"negative": "bad", "positive": "good"})
    assert mapped["accuracy"] > 0.8


def test_evaluate_accepts_data_without_a_label_of_the_model(taggers: dict[str, Path], tmp_path: Path) -> None:
    classifier = Classifier.from_pretrained(taggers["bilstm"])
    for name in ("train", "test"):
        rows = [[("anna", "B-PER"), ("went", "O"), ("to", "O"), ("rome", "O"), (str(n), "O")] for n in range(20)]
        write_conll(tmp_path / f"{name}.conll", rows)
    test = load_data(tmp_path)["test"]
    assert classifier.tag(["anna", "went", "to", "rome", "7"])["tags"] == ["B-PER", "O", "O", "B-LOC", "O"]
    found = evaluate(classifier, test)
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["span_f1"] == pytest.approx(2 / 3)


def test_with_labels_of_adds_missing_aspect_value() -> None:
    features = Features({"text": Value("string"), "label": List(ClassLabel(names=["a=x", "a=y", "b=z"]), length=2)})
    data = Dataset.from_dict({"text": ["t", "u"], "label": [[0, 2], [1, 2]]}, features=features)
    wider = with_labels_of(data, ["a=x", "a=y", "b=w", "b=z"])
    assert task_of(wider).labels == ("a=x", "a=y", "b=z", "b=w")
    assert labels_of(wider).tolist() == [[0, 2], [1, 2]]
    assert task_of(with_labels_of(data, ["a=x", "a=y", "b=z", "c=v"])).labels == task_of(data).labels


def test_evaluate_refuses_label_unknown_to_the_model(taggers: dict[str, Path], tmp_path: Path) -> None:
    for name in ("train", "test"):
        write_conll(tmp_path / f"{name}.conll", [[("anna", "B-PER"), (str(n), "B-GPE")] for n in range(20)])
    with pytest.raises(LabelError, match=r"Only the data has B-GPE; only the model has O, B-LOC"):
        evaluate(Classifier.from_pretrained(taggers["bilstm"]), load_data(tmp_path)["test"])


def test_one_label_that_may_be_absent_has_a_probability(teacher_folder: Path) -> None:
    """As transformers' pipeline: a sigmoid, not a regression."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    model = AutoModelForSequenceClassification.from_pretrained(
        teacher_folder,
        num_labels=1,
        problem_type="multi_label_classification",
        id2label={0: "toxic"},
        label2id={"toxic": 0},
        ignore_mismatched_sizes=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(teacher_folder)
    del model.config.eyas_task
    classifier = Classifier(model, tokenizer)
    expected = pipeline("text-classification", model=model, tokenizer=tokenizer)("a great film")[0]["score"]
    assert classifier.task.kind == "multi-label"
    assert float(classifier.predict_proba(["a great film"])[0, 0]) == pytest.approx(expected, abs=1e-6)
