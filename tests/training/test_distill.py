"""`distill` and `finetune` as a whole: labels, transfer sets, output folders, interruption."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Command, run_small_shards
from conftest import QUICK, teach
from safetensors.torch import load_file
from torch.testing import assert_close
from toys import toy_rows, write_jsonl
from transformers import AutoConfig, AutoModelForSequenceClassification

import eyas
from eyas import DistillSettings, StudentSettings, Teacher, load_data
from eyas.errors import LabelError, ModelError, OutputError
from eyas.training.distill import distill
from eyas.training.folders import read_history

SMALL = StudentSettings("static", embedding_size=8, hidden_size=8, max_length=48)


@pytest.fixture
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=64, dtype="float32")


def test_student_folder_has_expected_files(students: dict[tuple[str, bool], Path]) -> None:
    names = {path.name for path in students["cnn", False].iterdir()}
    assert names == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "eyas.json",
        "validation_sample.jsonl", "training_history.jsonl",
    }  # fmt: skip
    assert AutoConfig.from_pretrained(students["cnn", False]).id2label == {0: "negative", 1: "positive"}


def test_distill_names_integer_labels_after_the_teacher(teacher: Teacher, tmp_path: Path) -> None:
    rows = [{**row, "label": int(row["label"] == "positive")} for row in toy_rows(200)]
    data = load_data(write_jsonl(tmp_path / "all.jsonl", rows))
    out = teach(teacher, data, tmp_path / "out", SMALL)
    config = AutoConfig.from_pretrained(out)
    assert config.id2label == {0: "negative", 1: "positive"}
    assert config.data_labels == ["0", "1"]


def test_distill_detects_permuted_labels(
    teacher: Teacher, teacher_folder: Path, tmp_path: Path, toy_data: Path
) -> None:
    """A teacher with LABEL_0 = positive, detected by its predictions, teaches like the original."""
    folder = tmp_path / "permuted"
    shutil.copytree(teacher_folder, folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.classifier.weight.data = model.classifier.weight.data.flip(0)
    model.classifier.bias.data = model.classifier.bias.data.flip(0)
    model.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    model.save_pretrained(folder)
    expected = load_file(teach(teacher, toy_data, tmp_path / "original", SMALL) / "model.safetensors")
    found = load_file(teach(folder, toy_data, tmp_path / "other", SMALL) / "model.safetensors")
    for name, weight in expected.items():
        assert_close(found[name], weight)


def test_distill_refuses_labels_that_do_not_match(teacher: Teacher, tmp_path: Path) -> None:
    rows = [{**row, "label": "good" if row["label"] == "positive" else "bad"} for row in toy_rows(100)]
    data = load_data(write_jsonl(tmp_path / "all.jsonl", rows))
    with pytest.raises(LabelError, match=r"(?s)0=bad, 1=good.*0=negative, 1=positive.*--label-map"):
        teach(teacher, data, tmp_path / "out", SMALL)
    assert not (tmp_path / "out.partial").exists()  # so a corrected call is not refused
    out = teach(teacher, data, tmp_path / "out", SMALL, label_map={"negative": "bad", "positive": "good"})
    assert AutoConfig.from_pretrained(out).id2label == {0: "bad", 1: "good"}


def test_distill_makes_word_level_student_from_vector_file(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    words = ["great", "awful", "film", "a", "the", "boring", "lovely"]
    lines = [" ".join([word, *(f"{len(word) * i % 7}" for i in range(8))]) for word in words]
    (tmp_path / "v.txt").write_text("\n".join(lines))
    student = StudentSettings("cnn", embeddings=str(tmp_path / "v.txt"), hidden_size=8, vocab_size=8)
    config = AutoConfig.from_pretrained(teach(teacher, toy_data, tmp_path / "out", student))
    assert (config.vocab_size, config.embedding_size) == (8, 8)


def test_other_vectors_of_the_same_name_make_another_run(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "v.txt"
    vectors.write_text("great 1 0\nawful 0 1\nfilm 1 1\n")
    student = StudentSettings("cnn", embeddings=str(vectors), hidden_size=8)
    settings = DistillSettings(student, arguments=QUICK)
    eyas.distill(teacher_folder, toy_data, tmp_path / "out", settings=settings)
    eyas.distill(teacher_folder, toy_data, tmp_path / "out", settings=settings)
    vectors.write_text("great 2 0\nawful 0 2\nfilm 2 2\n")
    with pytest.raises(OutputError, match="vectors"):
        eyas.distill(teacher_folder, toy_data, tmp_path / "out", settings=settings)


def test_start_model_says_the_architecture(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    """Its defaults are those of a transformer, whose layers are copied: not the learning rate of a new LSTM."""
    start = AutoModelForSequenceClassification.from_pretrained(teacher_folder)
    settings = DistillSettings(
        arguments={"max_steps": 4, "warmup_steps": 0, "logging_strategy": "steps", "logging_steps": 1}
    )
    folder = eyas.distill(
        teacher_folder, toy_data, tmp_path / "out", (start, Teacher(teacher_folder).tokenizer), settings=settings
    ).path
    rates = [row["learning_rate"] for row in read_history(folder) if "learning_rate" in row]
    assert max(rates) == pytest.approx(1e-4)


def test_distill_skips_finished_run(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    settings = DistillSettings(SMALL, arguments=QUICK)
    out = distill(teacher, load_data(toy_data), tmp_path / "out", settings)
    before = (out / "model.safetensors").stat().st_mtime_ns
    distill(teacher, load_data(toy_data), tmp_path / "out", settings)
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(OutputError, match=r"seed: 0 .*1"):
        distill(teacher, load_data(toy_data), out, DistillSettings(SMALL, arguments=QUICK, seed=1))
    distill(teacher, load_data(toy_data), out, DistillSettings(SMALL, arguments=QUICK, seed=1), overwrite=True)
    assert json.loads((out / "eyas.json").read_text())["settings"]["seed"] == 1


def test_distill_leaves_other_folders_alone(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"eyas\.json"):
            distill(teacher, load_data(toy_data), tmp_path, DistillSettings(SMALL), overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_distill_refuses_folder_of_another_teacher(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    out = teach(teacher, toy_data, tmp_path / "out", SMALL)
    teacher.model.classifier.bias.data += 1
    other = Teacher(teacher.model, teacher.tokenizer, max_length=64)
    with pytest.raises(OutputError, match="teacher_fingerprint"):
        teach(other, toy_data, out, SMALL)


def test_distill_refuses_unlabeled_validation_split(teacher: Teacher, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", toy_rows(40))
    write_jsonl(tmp_path / "validation.jsonl", [{"text": "x", "label": -1}])
    with pytest.raises(LabelError, match="validation"):
        teach(teacher, tmp_path, tmp_path / "out")


def test_distill_refuses_unknown_recipe_and_student(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'magic'.*hard-labels"):
        teach(teacher, toy_data, tmp_path / "out", recipe="magic")
    with pytest.raises(ModelError, match=r"'rnn'.*static, cnn"):
        teach(teacher, toy_data, tmp_path / "out", "rnn")


# --- interruption, in real processes -----------------------------------------------------------------------


def _arguments(teacher: Path, data: Path, folder: Path, epochs: int) -> list[object]:
    return [
        *("distill", "--teacher", teacher, "--data", data, "--out", folder / "out", "--cache", folder / "cache"),
        *("--student", "bilstm", "--hidden-size", 16, "--max-length", 64, "--batch-size", 8, "--epochs", epochs),
        *("--augment", "none"),
    ]


def test_killed_distill_resumes_with_same_bits(
    teacher_folder: Path, toy_data: Path, tmp_path: Path, start: Callable[..., Command]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(*_arguments(teacher_folder, toy_data, whole, 20), target=run_small_shards).wait() == 0
    chance = random.Random(0)
    for moment in ("words x", "epoch 1:", "epoch 3:"):  # once during labeling, twice during training
        command = start(*_arguments(teacher_folder, toy_data, broken, 20), target=run_small_shards)
        command.wait_for(moment)
        time.sleep(chance.uniform(0.0, 0.2))
        command.process.kill()
        assert command.wait() == -signal.SIGKILL
    last = start(*_arguments(teacher_folder, toy_data, broken, 20), target=run_small_shards)
    assert last.wait() == 0, last.stderr.read_text()
    assert "Resuming from checkpoint-" in last.stderr.read_text()
    expected, found = (load_file(folder / "out" / "model.safetensors") for folder in (whole, broken))
    assert all(expected[name].equal(found[name]) for name in expected)
    assert not list(broken.glob("*.partial"))


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounting a small disk needs root on Linux")
def test_distill_recovers_from_full_disk(
    teacher_folder: Path, toy_data: Path, tmp_path: Path, start: Callable[..., Command]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        arguments = [*_arguments(teacher_folder, toy_data, tmp_path, 2), "--out", disk / "out"]
        command = start(*arguments)
        assert command.wait() == 2
        message = command.stderr.read_text()
        assert "No space left" in message
        assert "Traceback" not in message
        assert not (disk / "out").exists()
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        command = start(*arguments)
        assert command.wait() == 0, command.stderr.read_text()
        assert (disk / "out" / "model.safetensors").is_file()
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_distill_explains_how_to_resume(
    teacher_folder: Path,
    toy_data: Path,
    tmp_path: Path,
    start: Callable[..., Command],
    number: signal.Signals,
    code: int,
) -> None:
    command = start(*_arguments(teacher_folder, toy_data, tmp_path, 2000))
    command.wait_for("epoch 2:")
    assert command.process.pid is not None
    os.kill(command.process.pid, number)
    assert command.wait() == code
    message = command.stderr.read_text()
    assert "run the same command again" in message
    assert "Traceback" not in message
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial").is_dir()


def test_distill_refuses_folder_in_use(
    teacher_folder: Path, toy_data: Path, tmp_path: Path, start: Callable[..., Command]
) -> None:
    first = start(*_arguments(teacher_folder, toy_data, tmp_path, 2000))
    first.wait_for("epoch 1:")
    second = start(*_arguments(teacher_folder, toy_data, tmp_path, 2000))
    assert second.wait() == 2
    assert "another process" in second.stderr.read_text()
    assert first.process.is_alive()
    first.process.kill()
    first.wait()
