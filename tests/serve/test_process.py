"""The server as a process: deadlines, overload, shutdown, key, and the page in a browser."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openapi import check_answers

from eyas import Predictor

pytestmark = pytest.mark.process


@contextmanager
def serving(*arguments: object, **environment: str) -> Iterator[tuple[int, "subprocess.Popen[bytes]", Path]]:
    """Start a server; yields its port, its process and its log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "eyas", "serve", *map(str, arguments), "--port", str(port)]
    with tempfile.NamedTemporaryFile(prefix="serve-", suffix=".log", delete=False) as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, **environment})
    path = Path(log.name)
    try:
        for _ in range(300):
            try:
                ask(port, "/health")
                break
            except OSError:
                assert process.poll() is None, path.read_text()
                time.sleep(0.1)
        yield port, process, path
    finally:
        process.kill()
        process.wait()
        path.unlink()


def ask(port: int, path: str, content: Any = None, **headers: str) -> tuple[int, Any]:
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    if body is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            text = response.read().decode()
            return response.status, json.loads(text) if "json" in response.headers["content-type"] else text
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


@pytest.fixture(scope="module")
def folder(exported: dict[tuple[str, bool, bool], Path]) -> Path:
    return exported["cnn", False, True]


def test_server_closes_slow_clients_and_serves_others(folder: Path) -> None:
    with serving(folder, "--timeout", 1.0) as (port, _, _):
        rude = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        for place, one in enumerate(rude):
            one.settimeout(10)
            if place % 2:
                one.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n{")
        gone = socket.create_connection(("127.0.0.1", port))
        gone.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n{")
        gone.close()
        started = time.monotonic()
        assert ask(port, "/predict", {"inputs": "a great film"})[0] == 200
        assert time.monotonic() - started < 1.0
        for one in rude:
            with contextlib.suppress(ConnectionResetError):
                while one.recv(1000):
                    pass  # until the server closes
            one.close()
        assert time.monotonic() - started < 5.0
        assert ask(port, "/predict", {"inputs": "a great film"})[0] == 200


def test_server_closes_idle_connections_and_limits_headers(folder: Path) -> None:
    """Bytes between requests keep no connection open, and headers have a limit."""
    with serving(folder, "--timeout", 1.0) as (port, _, _):
        idle = socket.create_connection(("127.0.0.1", port))
        idle.settimeout(10)
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        started = time.monotonic()
        idle.sendall(b"\r\n")
        with contextlib.suppress(ConnectionResetError):
            while idle.recv(1000):
                pass
        assert time.monotonic() - started < 5
        idle.close()
        large = socket.create_connection(("127.0.0.1", port))
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            large.sendall(b"GET /health HTTP/1.1\r\nX: " + b"a" * 1_000_000)
            assert not large.recv(1000).startswith(b"HTTP/1.1 200")
        large.close()
        assert ask(port, "/health")[0] == 200


def test_server_drops_clients_that_do_not_read(folder: Path) -> None:
    """Request the page more often than all buffers can hold, and read too late."""
    with serving(folder, "--timeout", 1.0) as (port, _, _), socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        deaf.settimeout(10)
        deaf.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1500)
        time.sleep(3)
        pages = 0
        with contextlib.suppress(ConnectionResetError):
            while pages < 1500 and (part := deaf.recv(1_000_000)):
                pages += part.count(b"HTTP/1.1 200")
        assert pages < 1500
        assert ask(port, "/health")[0] == 200


def test_server_waits_for_clients_that_read_slowly(folder: Path) -> None:
    """Reading takes longer than the deadline, but no pause does."""
    with serving(folder, "--timeout", 1.0) as (port, _, _), socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.connect(("127.0.0.1", port))
        slow.settimeout(10)
        slow.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 800)
        pages, rest, started = 0, b"", time.monotonic()
        while pages < 800:
            part = slow.recv(60_000)
            assert part, f"cut off after {pages} pages"
            pages += (rest + part).count(b"HTTP/1.1 200")
            rest = part[-11:]  # a line may come in two parts
            time.sleep(0.02)
        assert time.monotonic() - started > 2


def test_server_rejects_excess_requests_and_answers_others(folder: Path) -> None:
    text = "a great film " * 300
    with serving(folder, "--max-waiting", 2) as (port, _, _):
        expected = ask(port, "/predict", {"inputs": text})[1]
        found: list[tuple[int, Any]] = []

        def client() -> None:
            found.extend(ask(port, "/predict", {"inputs": [text] * 50}) for _ in range(10))

        clients = [threading.Thread(target=client) for _ in range(12)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        statuses = {status for status, _ in found}
        assert statuses == {200, 503}
        assert all(answer == expected * 50 for status, answer in found if status == 200)
        assert ask(port, "/predict", {"inputs": text}) == (200, expected)


def test_server_answers_request_in_progress_on_sigterm(folder: Path) -> None:
    with serving(folder, "--max-bytes", 10_000_000) as (port, process, _):
        answers: list[tuple[int, Any]] = []
        texts = ["a great film " * 250] * 250
        client = threading.Thread(target=lambda: answers.append(ask(port, "/predict", {"inputs": texts})))
        client.start()
        time.sleep(0.15)
        process.send_signal(signal.SIGTERM)
        client.join()
        assert process.wait(20) in (0, 143, -signal.SIGTERM)
        assert [status for status, _ in answers] == [200]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1)


def test_server_reads_key_from_environment_and_never_logs_it(folder: Path) -> None:
    with serving(folder, EYAS_API_KEY="geheim") as (port, process, path):
        assert ask(port, "/predict", {"inputs": "sehr vertraulich"})[0] == 401
        assert ask(port, "/predict", {"inputs": "sehr vertraulich"}, Authorization="Bearer geheim")[0] == 200
        assert ask(port, "/health")[0] == 200
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        log = path.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"/predict", "/health"} <= {line["route"] for line in lines}
    assert "geheim" not in log
    assert "vertraulich" not in log


def test_workers_share_port_and_counts(folder: Path) -> None:
    with serving(folder, "--workers", 2) as (port, _, _):
        for _ in range(20):
            assert ask(port, "/predict", {"inputs": "a great film"})[0] == 200
        _, text = ask(port, "/metrics")
        counted = [line for line in text.splitlines() if line.startswith("eyas_texts_total")]
        assert sum(float(line.rsplit(" ", 1)[1]) for line in counted) == 20


def test_serve_refuses_invalid_folder_before_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eyas", "serve", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "is not an exported model" in ended.stderr
    assert "Serving" not in ended.stderr


def test_server_imports_no_torch(folder: Path) -> None:
    code = f"""
import sys
from starlette.testclient import TestClient
from eyas.serve.app import create_app
with TestClient(create_app([{str(folder)!r}])) as client:
    assert client.post("/predict", json={{"inputs": "a great film"}}).status_code == 200
assert not {{"torch", "transformers", "pandas", "datasets"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_page_works_in_a_browser(folder: Path, taggers: dict[str, Path], tmp_path: Path) -> None:
    """Typing, the keyboard, spans in color, errors, light and dark, a phone's width; no requests elsewhere."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    from eyas import export_model

    export_model(taggers["static"], tmp_path / "tags", min_agreement=0.5)
    with serving(folder, tmp_path / "tags") as (port, _, _), playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_function("document.getElementById('model').options.length === 2")
        assert not page.is_visible("#key-row")
        page.keyboard.type("a great film\nawful <b>bold</b>")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#answers .bar")
        assert page.locator("#answers p.text").all_inner_texts() == ["a great film", "awful <b>bold</b>"]
        _, (expected,) = ask(port, "/predict", {"inputs": "a great film"})
        assert page.locator("#answers .bar .name").first.inner_text() == expected[0]["label"]
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.emulate_media(color_scheme="light")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
        page.select_option("#model", label="tags")
        page.fill("#text", "\U0001f600 anna lives in berlin")
        page.click("#go")
        page.wait_for_selector("#answers mark")
        _, spans = ask(port, "/predict", {"inputs": "\U0001f600 anna lives in berlin", "model": "tags"})
        shown = page.locator("#answers mark").all_inner_texts()
        assert len(shown) == len(spans) > 0
        for text, span in zip(shown, spans, strict=True):
            assert text.startswith(f"{span['word']}{span['entity_group']}")
        page.fill("#text", "")
        page.click("#go")
        assert "Type a text first" in page.inner_text("#error")
        browser.close()
    assert problems == []
    assert all(url.startswith((f"http://127.0.0.1:{port}/", "data:")) for url in asked)


@pytest.fixture(scope="module")
def tagger(taggers: dict[str, Path], once: Any) -> Path:
    from eyas import export_model

    return Path(once("tags", lambda folder: export_model(taggers["cnn"], folder)))


def test_inference_client_of_hugging_face_works(folder: Path, tagger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As against an inference endpoint: its address, or the path /predict."""
    from huggingface_hub import InferenceClient

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serving(folder) as (port, _, _):
        for path in ("", "/predict"):
            client = InferenceClient(model=f"http://127.0.0.1:{port}{path}", token="none")
            expected = Predictor(folder)(["a great film"])[0]
            found = client.text_classification("a great film", top_k=2)
            assert [len(found), found[0].label] == [2, expected["label"]]
            assert found[0].score == pytest.approx(expected["score"], abs=1e-6)
            assert len(client.text_classification("a great film", top_k=1)) == 1
            raw = client.text_classification("a great film", function_to_apply="none")
            logits = Predictor(folder).logits(["a great film"])[0]
            assert sorted(one.score for one in raw) == pytest.approx(sorted(logits.tolist()), abs=1e-5)
    with serving(tagger) as (port, _, _):
        client = InferenceClient(model=f"http://127.0.0.1:{port}/predict", token="none")
        text = "anna went to new york . 4"
        answer = Predictor(tagger)([text])[0]
        for strategy in (None, "simple", "first", "average", "max"):
            groups = client.token_classification(text, aggregation_strategy=strategy)
            assert [[g.entity_group, g.word, g.start, g.end] for g in groups] == [
                [span[name] for name in ("entity_group", "word", "start", "end")] for span in answer["spans"]
            ]
        words = client.token_classification(text, aggregation_strategy="none", ignore_labels=[], stride=4)
        assert [word.entity for word in words] == answer["tags"]
        assert [text[word.start : word.end] for word in words] == answer["tokens"]
        tagged = client.token_classification(text, aggregation_strategy="none")
        assert [word.entity for word in tagged] == [tag for tag in answer["tags"] if tag != "O"]
        person = client.token_classification(text, ignore_labels=["LOC"])
        assert {group.entity_group for group in person} == {"PER", "O"}


@pytest.mark.parametrize("name", ["films", "tags"])
def test_server_holds_to_its_openapi_document(name: str, folder: Path, tagger: Path) -> None:
    import schemathesis

    with serving(folder if name == "films" else tagger) as (port, process, _):
        check_answers(schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json"), examples=10)
        assert process.poll() is None


def test_pages_of_other_origins_may_call_only_if_allowed(folder: Path) -> None:
    def preflight(port: int, origin: str) -> tuple[int, str | None]:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        headers["Access-Control-Request-Headers"] = "content-type, authorization"
        request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", headers=headers, method="OPTIONS")
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.headers["access-control-allow-origin"]
        except urllib.error.HTTPError as error:
            return error.code, error.headers["access-control-allow-origin"]

    with serving(folder) as (port, _, _):
        assert preflight(port, "https://shop.example") == (405, None)
    with serving(folder, "--allow-origin", "https://shop.example") as (port, _, _):
        assert preflight(port, "https://shop.example") == (200, "https://shop.example")
        assert preflight(port, "https://other.example") == (400, None)
