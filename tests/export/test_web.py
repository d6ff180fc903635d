"""Students give the same answers in the browser as in Python. Needs Chromium; running the graph needs onnxruntime-web:
`npm pack onnxruntime-web`, unpack it, and set EYAS_ORT_WEB to its folder package/dist."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import toy_rows
from tagging import sentences

from eyas import Predictor, export_model
from eyas.errors import ExportError
from eyas.export.browser import RUNTIME_FILES, check_page, runtime_files
from eyas.export.web import write_web

pytestmark = pytest.mark.process
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ODD = ["", " ", "a [CLS] b[SEP]c", "ΣΑΣ Σ", "İstanbul", "a" * 130, "e\u0301 x\u200dy", "\u00a0a\u2003b\ufeffc"]
ODD += ["日本語 text 漢字", "\U0001f600 great", "a\x00b\x7fc", "don't stop-me_now!", "straße ŒUVRE ﬁ", "\ud800 lone"]


class Quiet(SimpleHTTPRequestHandler):
    extensions_map: ClassVar[dict[str, str]] = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def browsing(folder: Path) -> Iterator[tuple[Any, list[str]]]:
    """A page on a static server of `folder`, and the URLs it requested."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with playwright.sync_playwright() as p:
            browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page, asked = browser.new_page(), []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
            yield page, asked
            browser.close()
        assert all(url.startswith((f"http://127.0.0.1:{server.server_port}/", "data:")) for url in asked)
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def runtime() -> Path:
    folder = Path(os.environ.get("EYAS_ORT_WEB", ""))
    if not os.environ.get("EYAS_ORT_WEB") or not all((folder / name).is_file() for name in RUNTIME_FILES):
        pytest.skip("no onnxruntime-web here (set EYAS_ORT_WEB to its folder dist)")
    return folder


@pytest.mark.parametrize(("name", "int8"), [("cnn", True), ("bilstm", True), ("cnn-lstm", False), ("static", False)])
def test_browser_answers_as_predictor(
    name: str, int8: bool, runtime: Path, exported: dict[tuple[str, bool, bool], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported[name, False, int8], tmp_path / "films"))
    web = write_web(folder, folder.name, runtime)
    assert check_page(web, folder.name) == ""
    texts = [row["text"] for row in toy_rows(1000)] + ODD
    with browsing(web) as (page, _):
        page.wait_for_function("document.getElementById('about').textContent.startsWith('films')")
        sent = json.dumps(texts)  # with a lone surrogate, which a page's arguments can't have
        found = page.evaluate(
            """async (sent) => {
            const student = await window.localBackend, all = [];
            for (const text of JSON.parse(sent)) all.push(await student.logits(text));
            return all;
        }""",
            sent,
        )
        page.fill("#text", "a great film")
        page.click("#go")
        page.wait_for_selector("#answers .bar")
        shown = page.locator("#answers .bar .name").first.inner_text()
    predictor = Predictor(folder)
    expected = predictor.logits(texts)
    assert (np.argmax(found, 1) == expected.argmax(1)).mean() >= (0.99 if int8 else 1.0)
    np.testing.assert_allclose(found, expected, atol=0.3 if int8 else 1e-3)
    assert shown == predictor(["a great film"])[0]["label"]


def test_page_reports_missing_runtime(exported: dict[tuple[str, bool, bool], Path], tmp_path: Path) -> None:
    web = write_web(Path(shutil.copytree(exported["cnn", False, True], tmp_path / "films")), "films")
    with browsing(web) as (page, _):
        page.wait_for_function("document.getElementById('about').textContent.includes('onnxruntime-web is missing')")
    assert "npm pack onnxruntime-web" in (web / "README.md").read_text()


def test_export_model_writes_web_folder(students: dict[tuple[str, bool], Path], tmp_path: Path) -> None:
    out = tmp_path / "shipped"
    export_model(students["cnn", False], out, int8=True, min_agreement=0.9, web=True)
    size = sum(file.stat().st_size for file in (out / "web").iterdir())
    assert size < 3_000_000
    assert json.loads((out / "web" / "manifest.json").read_text())["name"] == "shipped"
    assert Predictor(out)(["a great film"])  # the exported folder still works


def test_runtime_folder_without_its_files_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ExportError, match=r"no ort.wasm.min.mjs. Expected the folder"),
        runtime_files(tmp_path),
    ):
        pass


def npm_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a script named npm first in PATH; its last argument is the folder to pack into."""
    folder.mkdir()
    script = folder / "npm"
    script.write_text(f"#!{sys.executable}\nimport sys, tarfile\nfrom pathlib import Path\n{does}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_npm_gets_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dist = tmp_path / "package" / "dist"
    dist.mkdir(parents=True)
    for name in RUNTIME_FILES:
        (dist / name).write_text(f"// {name}")
    packed = f"tarfile.open(Path(sys.argv[-1], 'ort.tgz'), 'w:gz').add({str(dist.parent)!r}, 'package')"
    npm_that(packed, tmp_path / "bin", monkeypatch)
    with runtime_files("npm") as found:
        assert found
        assert sorted(file.name for file in found.iterdir()) == sorted(RUNTIME_FILES)
    assert not found.exists()


def test_npm_without_network_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm_that("sys.exit('ENOTCACHED: no cached response')", tmp_path / "bin", monkeypatch)
    with pytest.raises(ExportError, match=r"(?s)could not get onnxruntime-web.*ENOTCACHED.*package/dist"):
        runtime_files("npm").__enter__()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match="needs npm, which is not installed"):
        runtime_files("npm").__enter__()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)")
def test_page_that_does_not_load_is_no_export(students: dict[tuple[str, bool], Path], tmp_path: Path) -> None:
    broken = tmp_path / "dist"
    broken.mkdir()
    for name in RUNTIME_FILES:
        (broken / name).write_text("throw new Error('half a download');")
    with pytest.raises(ExportError, match=r"does not load in .*onnxruntime-web is missing"):
        export_model(students["cnn", False], tmp_path / "out", min_agreement=0.9, web=True, web_runtime=broken)
    assert not (tmp_path / "out").exists()


def test_page_is_not_checked_without_a_browser_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_page(tmp_path, "films") == "none of chromium, chromium-browser, google-chrome is installed"
    browser = tmp_path / "chromium"
    browser.write_text("#!/bin/sh\necho no display >&2\nexit 3\n")
    browser.chmod(0o755)
    assert check_page(tmp_path, "films") == "chromium did not open it (exit status 3: no display)"


@pytest.mark.parametrize("name", ["static", "bilstm-crf"])
def test_browser_tags_as_predictor(name: str, runtime: Path, taggers: dict[str, Path], tmp_path: Path) -> None:
    """Raw texts, sentences split into words, and a sentence of several windows."""
    export_model(taggers[name], tmp_path / "names", min_agreement=0.5)
    web = write_web(tmp_path / "names", "names", runtime)
    words = [[word for word, _ in sentence] for sentence in sentences(200)]
    texts: list[Any] = [" ".join(sentence) for sentence in words] + ODD
    texts += [*words[:50], ["st.", "ives"] * 60, ["\u200d", "anna"]]
    with browsing(web) as (page, _):
        page.wait_for_function("document.getElementById('about').textContent.startsWith('names')")
        found = page.evaluate(
            """async (sent) => {
            const student = await window.localBackend, all = [];
            for (const text of JSON.parse(sent)) all.push(await student.tag(text));
            return all;
        }""",
            json.dumps(texts),
        )
        page.fill("#text", "anna lives in new york")
        page.click("#go")
        page.wait_for_selector("#answers mark")
        assert "new york" in page.locator("#answers mark").last.inner_text()
    predictor = Predictor(tmp_path / "names")
    for text, answer in zip(texts, found, strict=True):
        expected = predictor.tag(text)
        assert answer["tokens"] == expected["tokens"], text
        assert answer["tags"] == expected["tags"], text
        np.testing.assert_allclose(answer["scores"], expected["scores"], atol=1e-3)
        places = [(span["entity_group"], span["start"], span["end"], span["word"]) for span in answer["spans"]]
        assert places == [(s["entity_group"], s["start"], s["end"], s["word"]) for s in expected["spans"]]


RUN = """
import { env, pipeline } from "@huggingface/transformers";
env.localModelPath = process.argv[2];
env.allowRemoteModels = false;
const classify = await pipeline("text-classification", "web", { dtype: process.argv[3] });
console.log(JSON.stringify(await classify(JSON.parse(process.argv[4]))));
"""


@pytest.mark.parametrize(("int8", "graph", "dtype"), [(True, "model_quantized", "q8"), (False, "model", "fp32")])
def test_web_folder_of_transformer_suits_transformers_js(
    int8: bool, graph: str, dtype: str, teacher_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shipped"
    export_model(teacher_folder, out, int8=int8, min_agreement=0.9, web=True)
    web = out / "web"
    assert json.loads((web / "config.json").read_text())["model_type"] == "bert"
    assert (web / "tokenizer_config.json").is_file()
    assert (web / "onnx" / f"{graph}.onnx").read_bytes() == (out / "model.onnx").read_bytes()
    assert json.loads((web / "manifest.json").read_text())["graph"] == f"onnx/{graph}.onnx"
    assert f'dtype: "{dtype}"' in (web / "README.md").read_text()
    modules = Path(os.environ.get("EYAS_TRANSFORMERS_JS", ""))
    if not (modules / "node_modules" / "@huggingface" / "transformers").is_dir():
        pytest.skip("no transformers.js here (set EYAS_TRANSFORMERS_JS to a folder where npm installed it)")
    (tmp_path / "run.mjs").write_text(RUN)
    (tmp_path / "node_modules").symlink_to(modules / "node_modules")
    texts = [row["text"] for row in toy_rows(50)]
    command = ["node", str(tmp_path / "run.mjs"), f"{out}/", dtype, json.dumps(texts)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    expected = Predictor(out)(texts)
    assert [row["label"] for row in found] == [row["label"] for row in expected]
    np.testing.assert_allclose([row["score"] for row in found], [row["score"] for row in expected], atol=0.05)
