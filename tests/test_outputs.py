import json
import os
from pathlib import Path

import pytest

from eyas.errors import ModelError, OutputError
from eyas.outputs import OutputFolder, cache_folder, file_identity, lock_folder, strict_json, write_atomically


def test_output_folder_appears_only_when_complete(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path / "out", {"a": 1})
    with output as folder:
        (folder / "result").write_text("x")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "result").read_text() == "x"
    assert OutputFolder(tmp_path / "out", {"a": 1}).is_finished
    assert json.loads((tmp_path / "out" / "eyas.json").read_text())["settings"] == {"a": 1}


def test_interrupted_folder_resumes_only_with_same_settings(tmp_path: Path) -> None:
    def interrupted() -> None:
        with OutputFolder(tmp_path / "out", {"a": 1}) as folder:
            (folder / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with OutputFolder(tmp_path / "out", {"a": 1}) as folder:
        assert (folder / "half").exists()
        (folder / "half").unlink()
    with pytest.raises(OutputError, match=r"other settings \(a: 1 there, 2 now\)"):
        OutputFolder(tmp_path / "out", {"a": 2})
    with OutputFolder(tmp_path / "out", {"a": 2}, overwrite=True) as folder:
        assert not (folder / "half").exists()


@pytest.mark.parametrize("worked", [True, False])
def test_failed_run_without_a_checkpoint_leaves_nothing(worked: bool, tmp_path: Path) -> None:
    """A corrected call would else be refused as another run."""

    def fails() -> None:
        with OutputFolder(tmp_path / "out", {"a": 1}) as folder:
            (folder / "work" / ("checkpoint-5" if worked else "stage")).mkdir(parents=True)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fails()
    assert (tmp_path / "out.partial").exists() == worked


def test_output_folder_refuses_folders_of_the_old_name(tmp_path: Path) -> None:
    from eyas.exam.plan_file import make_plan
    from eyas.exam.run import run_exam

    (tmp_path / "understudy.json").write_text('{"settings": {"command": "exam"}}')
    with pytest.raises(OutputError, match=r"under its old name \(it has understudy.json\)"):
        OutputFolder(tmp_path, {}, overwrite=True)
    with pytest.raises(OutputError, match=r"under its old name \(it has understudy.json\)"):
        run_exam(make_plan(data="reviews/", teacher="teacher/"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["understudy.json"]


@pytest.mark.parametrize("config", [{"model_type": "understudy-cnn"}, {"model_type": "bert", "understudy_task": "x"}])
def test_load_classifier_refuses_models_of_the_old_name(config: dict[str, str], tmp_path: Path) -> None:
    from eyas.models.loading import load_classifier

    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"under its old name \(understudy\).* train the model again"):
        load_classifier(tmp_path)


def test_output_folder_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        OutputFolder(tmp_path / "file", {})
    with pytest.raises(OutputError, match="was not made by eyas"):
        OutputFolder(tmp_path, {}, overwrite=True)


def test_what_does_not_resume_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "out.partial" / "web").mkdir(parents=True)
    (tmp_path / "out.partial" / "eyas.json").write_text('{"settings": {"a": 1}}')
    with OutputFolder(tmp_path / "out", {"a": 1}, resumable=False) as folder:
        assert [file.name for file in folder.iterdir()] == ["eyas.json"]


def test_output_folder_accepts_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with OutputFolder(tmp_path / "out", {}) as folder:
        (folder / "x").touch()
    assert (tmp_path / "out" / "x").exists()


def test_output_folder_refuses_second_process(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", {}), pytest.raises(OutputError, match="another process"):
        OutputFolder(tmp_path / "out", {}).__enter__()


def test_lock_inside_a_folder_holds_for_all_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two users on one disk."""
    monkeypatch.setenv("EYAS_CACHE", str(tmp_path / "mine"))
    lock = lock_folder(tmp_path, inside=True)
    monkeypatch.setenv("EYAS_CACHE", str(tmp_path / "yours"))
    with pytest.raises(OutputError, match="another process"):
        lock_folder(tmp_path, inside=True)
    lock.release()
    assert (tmp_path / ".lock").stat().st_mode & 0o666 == 0o666
    lock_folder(tmp_path, inside=True).release()


def test_lock_of_another_user_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(OutputError, match=r"cannot be locked: you may not write .*\.lock"):
        lock_folder(tmp_path, inside=True)


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_atomically(path, "old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("dangling", [False, True])
def test_output_folder_follows_links(dangling: bool, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target = tmp_path / "disk" / "out"
    if not dangling:
        target.mkdir()
    (tmp_path / "link").symlink_to(target)
    for _ in range(2):
        with OutputFolder(tmp_path / "link", {"a": 1}) as folder:
            (folder / "result").write_text("x")
        assert (tmp_path / "link").is_symlink()
        assert (target / "result").read_text() == "x"
    assert OutputFolder(tmp_path / "link", {"a": 1}).is_finished


def test_file_identity_changes_with_a_file_of_same_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    identities = []
    for text in ("text,label\ngood,yes\n", "text,label\nevil,no!\n"):
        (tmp_path / "new").write_text(text)
        os.utime(tmp_path / "new", ns=(10**18, 10**18))
        (tmp_path / "new").replace(path)
        identities.append(file_identity(path))
    assert identities[0][:3] == identities[1][:3]
    assert identities[0] != identities[1]


def test_as_json_writes_null_for_numbers_that_are_not_finite() -> None:
    value = {"score": float("nan"), "all": [1.5, float("inf"), {"deep": float("-inf")}], "text": "NaN"}
    assert json.loads(strict_json(value), parse_constant=pytest.fail) == {
        "score": None,
        "all": [1.5, None, {"deep": None}],
        "text": "NaN",
    }


def test_cache_folder_error_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EYAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="Set the variable EYAS_CACHE"):
        cache_folder("data")


@pytest.mark.parametrize("name", ["model", "all"])
def test_output_never_replaces_an_input(name: str, tmp_path: Path) -> None:
    """Neither the folder that a command reads, nor one around it; one inside is left alone."""
    model = tmp_path / "all" / "model"
    for folder in (model.parent, model):
        with OutputFolder(folder, {"command": "any"}) as partial:
            (partial / "weights").write_text("1")
    out = model if name == "model" else model.parent
    for given in ({"inputs": [model]}, {"settings": {"teacher": [str(model)]}}):
        with pytest.raises(OutputError, match="an input of this command"):
            OutputFolder(out, **{"settings": {}, "overwrite": True, **given})
    with OutputFolder(model / "shipped", {"model": str(model)}) as partial:
        (partial / "graph").write_text("2")
