"""Baselines, bootstrap, cost."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import scipy.stats
from conftest import PLANTED, toy_rows

from eyas import Teacher, load_data
from eyas.data.datasets import data_fingerprint, ids_of, labels_of
from eyas.data.tokenization import word_tokenizer
from eyas.evaluation.bootstrap import Comparison, compare
from eyas.exam.baselines import Baseline, fit_baseline, load_baseline
from eyas.exam.cost import measure_costs
from eyas.exam.entries import load_entry, prepare
from eyas.exam.linear import examine_teacher
from eyas.exam.plan_parts import DataPlan
from eyas.tasks import Task
from eyas.teachers import align

ROWS = toy_rows(200)
TEXTS = [row["text"] for row in ROWS]
LABELS = np.array([int(row["label"] == "positive") for row in ROWS])


TASK = Task("classification", ("negative", "positive"))


def _counts(texts: list[str] = TEXTS) -> Baseline:
    return fit_baseline(TASK, texts, LABELS, None, None)


def _static() -> Baseline:
    words = sorted({word for text in TEXTS for word in text.split()})
    tokenizer = word_tokenizer(words, lowercase=True)
    table = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 32)).astype(np.float32)
    return fit_baseline(TASK, TEXTS, LABELS, table, tokenizer)


def _compare(right_a: np.ndarray, right_b: np.ndarray) -> Comparison:
    """Compare accuracies, given which texts are correct."""
    a, b = ([np.stack([right, np.ones_like(right)], 1)] for right in (right_a, right_b))
    return compare(a, b, "accuracy")


@pytest.mark.parametrize("kind", ["tf-idf", "static"])
def test_baseline_learns_and_round_trips_through_files(kind: str, tmp_path: Path) -> None:
    model = _counts() if kind == "tf-idf" else _static()
    logits = model.logits(TEXTS)
    assert (logits.argmax(1) == LABELS).mean() > 0.8
    model.save(tmp_path / "model")
    loaded = load_baseline(tmp_path / "model")
    assert loaded.label_names == ["negative", "positive"]
    np.testing.assert_allclose(loaded.logits(TEXTS), logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        loaded.logits(["a great film", "", "🙂"])[0], model.logits(["a great film"])[0], rtol=1e-5
    )


def test_baseline_never_predicts_unseen_label() -> None:
    labels = np.where(LABELS == 1, 2, LABELS)
    model = fit_baseline(Task("classification", ("negative", "mixed", "positive")), TEXTS, labels, None, None)
    assert set(model.logits(TEXTS).argmax(1)) == {0, 2}


def test_baseline_reads_both_texts_of_a_pair() -> None:
    model = _counts([f"x | {text}" for text in TEXTS])
    assert (model.logits(["x"] * len(TEXTS), TEXTS).argmax(1) == LABELS).mean() > 0.8


def test_bootstrap_detects_difference() -> None:
    random = np.random.default_rng(1)
    easy = random.random(800)
    a, b = (easy < 0.85).astype(float), (easy < 0.80).astype(float)
    found = _compare(a, b)
    assert found.low > 0
    assert found.low < found.difference < found.high
    assert found.p < 0.01
    same = _compare(random.permutation(a), a)
    assert same.low < 0 < same.high
    assert _compare(a, a).difference == 0


def test_bootstrap_interval_is_that_of_scipy() -> None:
    random = np.random.default_rng(2)
    both = random.random(800)
    own = np.where(random.random(800) < 0.3, random.random(800), both)
    a, b = (both < 0.85).astype(float), (own < 0.8).astype(float)
    found = _compare(a, b)
    expected = scipy.stats.bootstrap(
        (a, b), lambda x, y: np.mean(x - y), vectorized=False, paired=True, method="percentile", rng=0
    ).confidence_interval
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=width / 10)
    assert found.high == pytest.approx(expected.high, abs=width / 10)


@pytest.mark.process
def test_measure_costs_compares_models_side_by_side(tmp_path: Path) -> None:
    _counts().save(tmp_path / "tfidf")
    _static().save(tmp_path / "static")
    folders = {name: tmp_path / name for name in ("tfidf", "static")}
    costs = measure_costs(folders, "tfidf", [(text,) for text in TEXTS[:20]], rounds=2)
    assert costs["tfidf"]["times_faster"] == 1
    static = costs["static"]
    ratio = costs["tfidf"]["latency_ms"] / static["latency_ms"]  # type: ignore[operator]
    assert static["times_faster"] == pytest.approx(ratio, rel=0.75)  # the median of rounds, on a busy machine
    assert static["sentences_per_second"] > 1  # type: ignore[operator]
    assert 10e6 < static["peak_rss_bytes"] < 400e6  # type: ignore[operator]  # no torch


def _validated(right: float, words: str) -> str:
    """What is said of a teacher that is `right` so often, on texts whose labels show in `words` or not at all."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    said = labels if words == "telling" else random.integers(0, 2, 400)
    texts = [f"{random.integers(1000)} was {('awful', 'lovely')[one]} that day" for one in said]
    splits = {"train": slice(0, 200), "validation": slice(200, 400)}
    data = load_data({n: {"text": texts[p], "label": [TASK.labels[x] for x in labels[p]]} for n, p in splits.items()})
    gold = labels_of(data["validation"])
    found = np.where(random.random(200) < right, gold, 1 - gold)
    logits = np.eye(2, dtype=np.float32)[found]
    rows = {example: row for row, example in enumerate(ids_of(data["validation"]))}

    class Said:
        """A teacher that gives these answers."""

        def label(self, dataset: Any, cache: Any) -> "Said":
            return self

        def logits_of(self, dataset: Any) -> np.ndarray:
            return logits[[rows[example] for example in ids_of(dataset)]]

    examined = examine_teacher(cast(Any, Said()), data)
    assert examined is not None
    return examined.doubt


def test_data_that_no_linear_model_fits_leaves_the_teacher_alone() -> None:
    labels = ["negative", "positive"]  # no run of characters is in both texts
    data = load_data({split: {"text": ["a", "b"], "label": labels} for split in ("train", "validation")})
    assert examine_teacher(cast(Any, None), data) is None


def test_teacher_is_examined_beside_the_encoder_that_it_was_made_from(toy_data: Path) -> None:
    class Lengths:
        """An encoder whose vectors tell nothing but the length."""

        def logits(self, texts: list[str]) -> np.ndarray:
            return np.array([[len(text)] for text in texts], np.float32)

    data = load_data(toy_data)
    teacher = align(Teacher(PLANTED / "films", dtype="float32"), data)
    found = examine_teacher(teacher, data, cast(Any, Lengths()))
    assert found is not None
    assert found.texts == 60
    assert found.scores["a linear model on the encoder's own vectors"] < 0.8
    assert "the teacher 100.0, a linear model on words and characters" in str(found)


def test_teacher_is_doubted_unless_it_is_certainly_better_than_a_linear_model() -> None:
    said = _validated(0.9, "telling")
    assert "linear model on words and characters (100.0)" in said
    assert "(100.0): the difference is -" in said
    assert _validated(0.9, "silent") == ""
    assert _validated(1.0, "telling") == ""  # nothing is better
    assert "not certainly better" in _validated(0.5, "silent")


def test_training_labels_are_damaged_and_no_others(toy_data: Path, teacher_folder: Path) -> None:
    whole = DataPlan(source=str(toy_data), teacher=str(teacher_folder), augment=())
    noisy = replace(whole, label_noise="confusion:0.25", label_fraction=0.5)
    before, after = (load_entry(entry).data for entry in (whole, noisy))
    for split in before:
        if split != "train":
            assert (labels_of(before[split]) == labels_of(after[split])).all()
    known = labels_of(after["train"]) >= 0
    assert known.sum() == len(known) / 2
    assert (labels_of(before["train"])[known] != labels_of(after["train"])[known]).mean() == 0.25
    assert before["train"]["text"][:] == after["train"]["text"][:]
    assert prepare(whole).fingerprint != prepare(noisy).fingerprint


def test_teacher_of_clean_labels_is_told(
    toy_data: Path, teacher_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its answers to the training texts tell their true labels."""
    for place, rows in (("clean", load_data(toy_data)), ("other", load_data(toy_data)["validation"])):
        teacher = Path(shutil.copytree(teacher_folder, tmp_path / place))
        learned = rows["train"] if isinstance(rows, dict) else rows
        about = {"command": "finetune", "data": [data_fingerprint(learned), ""]}
        (teacher / "eyas.json").write_text(json.dumps({"settings": about}))
        caplog.clear()
        load_entry(DataPlan(source=str(toy_data), teacher=(str(teacher),), label_noise=0.2, augment=()))
        assert ("learned from the labels as they were before the damage" in caplog.text) == (place == "clean")
