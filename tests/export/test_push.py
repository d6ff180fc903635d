"""Uploads to a local Hub over HTTP, and their model cards."""

import base64
import json
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from eyas.cli import app
from eyas.errors import ExportError
from eyas.export.model_card import FLAGS, _commands, _training, model_card
from eyas.export.push import push_to_hub
from eyas.models.loading import load_classifier

Files = dict[str, bytes]


class Hub(BaseHTTPRequestHandler):
    """The part of the Hub's protocol that an upload needs; keeps files by repository."""

    kept: dict[str, Files]
    made: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        parts = self.path.strip("/").split("/")
        if self.path == "/api/repos/create":
            self.made.append(json.loads(body))
            if self.made[-1].get("organization") == "others":
                self._answer({"error": "You don't have the rights to create a model there."}, 403)
                return
            self._answer({"url": f"{self.base}/ann/films", "name": "ann/films", "id": "1"})
        elif self.path == "/api/validate-yaml":
            self._answer({"warnings": [], "errors": []})
        elif "preupload" in parts:
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self._answer({"files": modes})
        elif "commit" in parts:
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            self.kept["/".join(parts[2:4])] = {file["path"]: base64.b64decode(file["content"]) for file in files}
            self._answer({"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.base}/ann/films/commit/0"})
        else:
            self._answer({"error": self.path}, 404)

    def do_GET(self) -> None:
        found = "others" not in self.path
        self._answer({"id": "ann/films", "sha": "0" * 40, "siblings": []} if found else {}, 200 if found else 404)

    @property
    def base(self) -> str:
        return f"http://{self.headers['host']}"

    def _answer(self, content: Any, status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Hub]]]:
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    kind = type("OwnHub", (Hub,), {"kept": {}, "made": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", kind
    server.shutdown()
    server.server_close()


def front(card: bytes) -> dict[str, Any]:
    return dict(yaml.safe_load(card.decode().split("---")[1]))


def test_push_uploads_exported_folder(
    hub: tuple[str, type[Hub]], exported: dict[tuple[str, bool, bool], Path], tmp_path: Path
) -> None:
    address, kind = hub
    url = push_to_hub(exported["cnn", False, True], "ann/films", license="apache-2.0", private=True, endpoint=address)
    assert url.startswith(address)
    assert kind.made[0].get("visibility", kind.made[0].get("private")) in ("private", True)
    files = kind.kept["ann/films"]
    assert files.keys() >= {"model.onnx", "tokenizer.json", "manifest.json", "README.md"}
    assert not files.keys() & {"eyas.json", "validation_sample.jsonl"}
    assert files["model.onnx"] == (exported["cnn", False, True] / "model.onnx").read_bytes()
    about = front(files["README.md"])
    assert (about["license"], about["pipeline_tag"]) == ("apache-2.0", "text-classification")
    assert "knowledge-distillation" in about["tags"]
    assert 'Predictor(snapshot_download("ann/films", local_dir="films"))' in files["README.md"].decode()
    assert "# ann/films\n" in files["README.md"].decode()


def test_push_uploads_teacher(hub: tuple[str, type[Hub]], teacher_folder: Path, tmp_path: Path) -> None:
    address, kind = hub
    folder = Path(shutil.copytree(teacher_folder, tmp_path / "films"))
    shutil.copytree(teacher_folder, folder / "checkpoint-30")
    push_to_hub(folder, "ann/films", endpoint=address)
    assert not [name for name in kind.kept["ann/films"] if "checkpoint" in name]
    card = kind.kept["ann/films"]["README.md"]
    assert "knowledge-distillation" not in front(card)["tags"]
    assert "teacher" not in card.decode().split("## Training")[0]
    assert re.search(r"one text, the first \d{2,3} tokens", card.decode())


def test_model_card_has_commands_to_reproduce() -> None:
    run: dict[str, Any] = {
        "command": "distill",
        "teacher": "/home/ann/private/teacher",
        "source": "/home/ann/private/films.csv",
        "recipe": "soft-targets",
        "recipe_options": {"temperature": 4.0},
        "student": {"architecture": "cnn", "hidden_size": 100, "dropout": None},
        "transfer": {"augment": ["neighbors:10"]},
        "arguments": {"num_train_epochs": 3.0},
        "seed": 1,
    }
    assert _commands(run, "eyas export --model student --out films", "int8") == (
        "eyas distill --teacher teacher --data films.csv --student cnn --recipe soft-targets "
        "--option temperature=4.0 --augment neighbors:10 --hidden-size 100 --epochs 3.0 --seed 1 --out student\n"
        "eyas export --model student --out films --int8"
    )
    assert _commands({**run, "label_map": {"a": "b"}}, "", "") == ""  # some settings have no flag
    assert (
        "weight_decay: 0" in _training({**run, "arguments": {"weight_decay": 0, "num_train_epochs": 3.0}})["arguments"]
    )
    assert _commands({**run, "student": {"architecture": "cnn", "dropout": 0.0}}, "", "") == ""
    automatic = {**run["arguments"], "bf16": True}
    assert _commands({**run, "arguments": automatic}, "", "") == _commands(run, "", "")
    assert "mixup" not in _commands({**run, "transfer": {"mixup": 0.0}}, "", "")
    assert _training(run)["teacher"] == "teacher"
    assert "/home" not in str(_training(run))


def test_model_card_flags_are_those_of_distill() -> None:
    command = get_command(app).commands["distill"]  # type: ignore[attr-defined]
    assert set(FLAGS.values()) <= {option for parameter in command.params for option in parameter.opts}


def test_model_card_sums_size_of_all_shards(teacher_folder: Path, tmp_path: Path) -> None:
    """The size counts all files."""
    model, tokenizer = load_classifier(teacher_folder)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    shards = list(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    size = sum(file.stat().st_size for file in shards)
    assert f"| size on disk | {size / 1e6:.2f} MB |" in model_card(tmp_path, "films")


def test_push_uploads_student_for_transformers(
    hub: tuple[str, type[Hub]], students: dict[tuple[str, bool], Path], taggers: dict[str, Path]
) -> None:
    address, kind = hub
    push_to_hub(students["bilstm", True], "ann/films", endpoint=address)
    files = kind.kept["ann/films"]
    assert files.keys() >= {"model.safetensors", "config.json", "tokenizer.json", "README.md"}
    assert not files.keys() & {"eyas.json", "validation_sample.jsonl"}  # real texts, paths of this machine
    card = files["README.md"].decode()
    assert front(files["README.md"])["license"] == "unknown"
    assert "# ann/films\n" in card
    assert 'pipeline("text-classification", model="ann/films")' in card
    assert str(students["bilstm", True].parent) not in card
    assert '{"text": "first text", "text_pair": "second text"}' in card
    assert "It assigns a pair of texts one of 2 labels." in card
    (students["bilstm", True] / "notes.txt").write_text("private")
    push_to_hub(students["bilstm", True], "ann/films", endpoint=address)
    (students["bilstm", True] / "notes.txt").unlink()
    assert "notes.txt" not in kind.kept["ann/films"]
    push_to_hub(taggers["static"], "ann/films", endpoint=address)
    assert front(kind.kept["ann/films"]["README.md"])["pipeline_tag"] == "token-classification"


def test_push_explains_refused_uploads(
    hub: tuple[str, type[Hub]], students: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="is not a model: expected an exported folder"):
        push_to_hub(tmp_path, "ann/films", endpoint=hub[0])
    with pytest.raises(ExportError, match="expected USER/NAME"):
        push_to_hub(students["cnn", False], "films", endpoint=hub[0])
    with pytest.raises(ExportError, match="is not a repository name"):
        push_to_hub(students["cnn", False], "ann/../films", endpoint=hub[0])
    with pytest.raises(ExportError, match=r"(?s)The upload to others/films failed: .*hf auth login"):
        push_to_hub(students["cnn", False], "others/films", endpoint=hub[0])
    with pytest.raises(ExportError, match=r"The upload to ann/films failed: .*[Cc]onnect"):
        push_to_hub(students["cnn", False], "ann/films", endpoint="http://127.0.0.1:9")
