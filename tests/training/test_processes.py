"""Several processes, started by torch's launcher, train one student."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import teach
from transformers import AutoModelForSequenceClassification

from eyas import processes
from eyas.data.datasets import load_data
from eyas.errors import DataError, OutputError
from eyas.outputs import OutputFolder
from eyas.settings import FinetuneSettings
from eyas.teachers import Teacher, cached, label_texts
from eyas.training.arguments import shared_batches
from eyas.training.finetune import finetune
from eyas.training.folders import read_history

LENGTH = ["--epochs", "6", "--batch-size", "16", "--learning-rate", "0.005", "--seed", "1"]
PLAIN = ["--augment", "none"]
# A student narrower than its teacher: the losses learn projections.
NARROW = [*("--recipe", "tinybert", "--layers", "1", "--hidden-size", "16"), *("--heads", "2", "--feed-forward", "32")]


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the launcher sets it for the second of two processes."""
    for name, value in {"MASTER_ADDR": "localhost", "WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)


def torchrun(log: Path, *arguments: object) -> subprocess.Popen[bytes]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "eyas", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as stderr:
        return subprocess.Popen(command, stderr=stderr, env=environment, start_new_session=True)


@pytest.mark.process
@pytest.mark.parametrize("student", ["cnn", pytest.param("bert", marks=pytest.mark.slow)])
def test_two_processes_train_as_one_and_resume(
    student: str, teacher_folder: Path, toy_data: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    recipe = NARROW if student == "bert" else ["--init", "none"]
    given = ["--teacher", teacher_folder, "--data", toy_data, "--student", student, *recipe, *LENGTH, *PLAIN]
    log = tmp_path / "log"
    together = torchrun(log, "distill", *given, "--out", tmp_path / "together")
    partial, stopped = tmp_path / "together.partial", tmp_path / "stopped"
    while not (found := sorted(partial.glob("work/stage-*/checkpoint-*"))):
        assert together.poll() is None, log.read_text()
        time.sleep(0.02)
    for part in (partial / "eyas.json", found[0]):  # what a kill would leave now
        place = stopped / part.relative_to(partial)
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if part.is_dir() else shutil.copy)(part, place)
    assert together.wait(240) == 0, log.read_text()
    said = log.read_text()
    assert said.count("The student is in") == 1
    assert "find_unused_parameters" not in said

    code, _, err = run("distill", *given, "--out", tmp_path / "alone")
    assert code == 0, err
    one, two = (read_history(tmp_path / name) for name in ("alone", "together"))
    assert [(row["step"], row.get("learning_rate")) for row in one] == [
        (row["step"], row.get("learning_rate")) for row in two
    ]
    losses = [[row["loss"] for row in history if "loss" in row] for history in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=0.25, abs=0.1)  # dropout differs
    for row in two:
        terms = [value for name, value in row.items() if name.startswith("loss/")]
        assert not terms or sum(terms) == pytest.approx(row["loss"], rel=1e-3)

    (tmp_path / "together").rename(tmp_path / "whole")
    stopped.rename(partial)
    again = torchrun(log, "distill", *given, "--out", tmp_path / "together")
    assert again.wait(240) == 0, log.read_text()
    assert "Resuming from checkpoint-" in log.read_text()
    resumed, expected = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path / name).state_dict()
        for name in ("together", "whole")
    )
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_finetune_ends_with_one_teacher(tiny_bert: Path, toy_data: Path, tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "teacher"
    given = ["--model", tiny_bert, "--data", toy_data, "--epochs", "1", "--batch-size", "16"]
    assert torchrun(log, "finetune", *given, "--out", out).wait(240) == 0, log.read_text()
    assert log.read_text().count("The teacher is in") == 1
    assert not (tmp_path / "teacher.partial").exists()


def test_batches_are_shared_evenly(together: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(DataError, match=r"batch of 64 .* by 3 processes.*--batch-size"):
        shared_batches({})
    assert shared_batches({"per_device_train_batch_size": 48})["per_device_eval_batch_size"] == 258


def test_batches_are_checked_before_work_starts(
    together: None, teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="batch of 15 "):
        teach(teacher_folder, toy_data, tmp_path / "out", arguments={"per_device_train_batch_size": 15})
    with pytest.raises(DataError, match="batch of 15 "):
        finetune("none", load_data(toy_data), tmp_path / "out", FinetuneSettings({"per_device_train_batch_size": 15}))


def test_run_of_other_processes_is_another_run(together: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its optimizer and random numbers are others."""
    assert processes.recorded() == {"processes": 2}
    monkeypatch.delenv("MASTER_ADDR")  # a scheduler may set the others for any process
    assert processes.recorded() == {}
    assert processes.is_first()


def test_process_that_waits_says_for_what(together: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eyas.outputs.WAIT", 0.2)
    with pytest.raises(OutputError, match=r"out\.partial: it is not there"), OutputFolder(tmp_path / "out", {"a": 1}):
        pass
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "eyas.json").write_text('{"settings": {"a": 2}}')
    with pytest.raises(OutputError, match="a: 2 there, 1 now"), OutputFolder(tmp_path / "out", {"a": 1}):
        pass


def test_processes_label_each_shard_once(
    together: None, teacher_folder: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "ROWS_PER_SHARD", 32)
    teacher, texts = Teacher(teacher_folder), load_data(toy_data)["train"]
    whole = label_texts(teacher, texts, tmp_path / "whole").folder
    shards = sorted(path.name for path in whole.glob("shard-*"))
    labeled = []
    monkeypatch.setattr(cached, "write_atomically", lambda path, content: labeled.append(path.name))
    shutil.copytree(whole, tmp_path / "half", ignore=shutil.ignore_patterns("shard-*"))
    label_here = cached._labeled

    def label_and_meet(*arguments: object) -> bytes:
        for name in shards[: len(labeled) + 1]:  # meanwhile the first process labels from the other end
            shutil.copy(whole / name, tmp_path / "half" / name)
        return label_here(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cached, "_labeled", label_and_meet)
    with pytest.raises(Exception, match="interrupted"):  # nothing was written here
        label_texts(teacher, texts, tmp_path / "half")
    assert labeled == shards[len(shards) // 2 :]


def test_first_process_makes_the_folder(together: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others work in it, and go on when the result is there."""
    events: list[str] = []

    def second() -> None:
        with OutputFolder(tmp_path / "out", {"a": 1}) as folder:
            events.append(folder.name)
        events.append("out" if (tmp_path / "out" / "eyas.json").is_file() else "too early")

    first = OutputFolder(tmp_path / "out", {"a": 1})
    monkeypatch.setattr(
        "eyas.outputs.processes.is_first", lambda: threading.current_thread() is threading.main_thread()
    )
    other = threading.Thread(target=second)
    with first:
        other.start()
        while not events:
            time.sleep(0.01)
        time.sleep(0.3)
        assert events == ["out.partial"]
    other.join(5)
    assert events == ["out.partial", "out"]


def test_other_commands_refuse_several_processes(together: None, run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, said = run("export", "--model", "x", "--out", "y")
    assert code == 2
    assert "export runs in one process, but torchrun started 2" in said
