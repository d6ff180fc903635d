"""Pretrained encoders by name: installed packages, and the cache of the Hub."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eyas
from eyas import FinetuneSettings
from eyas.encoders import encoders, find_encoder
from eyas.errors import ModelError
from eyas.teachers import Encoder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def package(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an installed package that carries `tiny_bert`."""
    folder = tmp_path / "site" / "tiny_encoder" / "model"
    shutil.copytree(tiny_bert, folder)
    about = tmp_path / "site" / "tiny_encoder-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-encoder\nVersion: 1.0\n")
    files = [f"{file.relative_to(tmp_path / 'site')},," for file in folder.iterdir()]
    (about / "RECORD").write_text("\n".join(files))
    monkeypatch.syspath_prepend(tmp_path / "site")
    return "tiny-encoder"


def test_name_of_a_package_is_an_encoder(package: str, tiny_bert: Path) -> None:
    assert Path(find_encoder(package)).is_dir()
    assert Encoder(package, dtype="float32").fingerprint == Encoder(tiny_bert, dtype="float32").fingerprint


def test_other_names_stay(tiny_bert: Path) -> None:
    for name in ("bert-base-uncased", "someone/bert", str(tiny_bert), "numpy", ""):
        assert find_encoder(name) == name


def test_finetune_takes_the_name_of_a_package(package: str, toy_data: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "teacher"
    arguments = ("finetune", "--model", package, "--data", toy_data, "--out", out, "--epochs", 1, "--quiet")
    assert run(*arguments)[0] == 0
    settings = json.loads((out / "eyas.json").read_text())["settings"]
    assert settings["model"] == package
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert run(*arguments)[0] == 0
    assert (out / "model.safetensors").stat().st_mtime_ns == before


def test_finetune_takes_an_encoder_of_unknown_pooling_and_a_trained_model(
    tiny_bert: Path, toy_data: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(tiny_bert, tmp_path / "encoder"))
    (other / "1_Pooling").mkdir()
    (other / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    short = FinetuneSettings(arguments={"max_steps": 2})
    trained = eyas.finetune(other, toy_data, tmp_path / "first", settings=short)
    again = eyas.finetune(trained, toy_data, tmp_path / "second", settings=short)
    assert (again.path / "model.safetensors").exists()


def test_encoders_lists_packages_and_the_hub_cache(
    package: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    repository = tmp_path / "hub" / "models--someone--bert"
    shutil.copytree(tiny_bert, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = {encoder.name: encoder.describe() for encoder in encoders()}
    assert found["someone/bert"]["from"] == "cache of the Hub"
    assert (found[package]["layers"], found[package]["hidden_size"]) == (2, 32)
    shown = run("encoders")[1]
    assert package in shown
    assert "someone/bert" in shown


def test_unknown_encoder_names_the_command_that_lists_them(toy_data: Path) -> None:
    with pytest.raises(ModelError, match="eyas encoders"):
        Encoder("no-such-encoder")


@pytest.mark.parametrize("name", ["three/", "a/b/c"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "--model"),
        ("export", "--out", "x", "--model"),
        ("finetune", "--out", "x", "--model"),
        ("distill", "--out", "x", "--teacher"),
        ("prune-ensemble", "--out", "x", "--model"),
        ("compress", "--method", "int8", "--out", "x", "--model"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_folder_that_is_not_there_is_never_asked_of_the_hub(
    name: str,
    arguments: tuple[str, ...],
    toy_data: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def asked(*args: Any, **options: Any) -> None:
        raise AssertionError("the Hub was asked")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.file_download.hf_hub_download", asked)
    monkeypatch.setattr("transformers.utils.hub.hf_hub_download", asked)
    code, _, err = run(*arguments, name, "--data", toy_data)
    assert code == 2
    assert f"{name}: no such model folder" in err


def test_a_start_that_is_not_there_is_refused_before_labeling(
    teacher_folder: Path, toy_data: Path, tmp_path: Path, run: Run
) -> None:
    options = ("--teacher", teacher_folder, "--data", toy_data, "--student", "cnn", "--init", "zz/")
    code, _, err = run("distill", *options, "--out", tmp_path / "x")
    assert code == 2
    assert "zz/: no such model folder" in err
    assert "labeling" not in err
