"""onnxruntime-web for an exported page, and a browser that loads the page as a check."""

import contextlib
import html
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from eyas.errors import ExportError

PACKAGE = "onnxruntime-web"
NPM = "npm"
# The files of onnxruntime-web's folder `dist` that the page needs.
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# What the page shows before its model is loaded.
LOADING = "Loading"
SECONDS = 120
# What the page may take to load the model, in milliseconds of its own clock.
PATIENCE = 60_000


@contextmanager
def runtime_files(source: str | Path | None) -> Iterator[Path | None]:
    """The folder `dist` of onnxruntime-web.

    Args:
        source: that folder, or "npm": ask npm, which looks into its cache first. None stays None.

    Raises:
        ExportError: no npm, or npm cannot get the package; the folder lacks files.
    """
    with TemporaryDirectory() as temporary:
        folder = _from_npm(Path(temporary)) if source == NPM else source and Path(source)
        missing = [name for name in RUNTIME_FILES if folder and not (folder / name).is_file()]
        if missing:
            raise ExportError(
                f"{folder} has no {missing[0]}. Expected the folder dist of the npm package {PACKAGE}: pass it as "
                f'web_runtime (--web-runtime), or "{NPM}" to get it through npm.'
            )
        yield folder or None


def check_page(web: Path, name: str) -> str:
    """Open an exported page in headless Chromium.

    Returns:
        Empty if the page shows the model's name; else why it could not be checked: there is no Chromium, or it fails.

    Raises:
        ExportError: the page comes up and shows something else, such as an error.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return f"none of {', '.join(BROWSERS)} is installed"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(web)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        # Its helpers may write to the profile when it has ended.
        with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
            command += [f"--virtual-time-budget={PATIENCE}", "--dump-dom", f"http://127.0.0.1:{server.server_port}/"]
            shown, problem = _run(command)
    finally:
        server.shutdown()
        server.server_close()
    about = re.search(r'id="about"[^>]*>([^<]*)', shown)
    if about is None or about[1].startswith(LOADING):
        return f"{Path(browser).name} did not open it{problem}"
    if not html.unescape(about[1]).startswith(name):
        raise ExportError(
            f"The exported page does not load in {Path(browser).name}; it shows: {html.unescape(about[1])}"
        )
    return ""


def _run(command: list[str]) -> tuple[str, str]:
    """The output of a command, and what went wrong; ends its helpers, too."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, error = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "", f" in {SECONDS} seconds"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    last = error.strip().splitlines()[-1:] or [""]
    return out, f" (exit status {process.returncode}: {last[0]:.200})" if process.returncode else ""


def _from_npm(folder: Path) -> Path:
    if shutil.which(NPM) is None:
        raise ExportError(f'web_runtime (--web-runtime) "{NPM}" needs npm, which is not installed here.')
    command = [NPM, "pack", f"{PACKAGE}@1", "--prefer-offline", "--silent", "--pack-destination", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    packed = next(folder.glob("*.tgz"), None)
    if done.returncode or packed is None:
        raise ExportError(
            f"npm could not get {PACKAGE}, neither from its cache nor from its registry: {done.stderr.strip()}\n"
            f"Fetch it where there is a network (npm pack {PACKAGE}), unpack it, and pass its folder package/dist as "
            "web_runtime (--web-runtime)."
        )
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package" / "dist"


class _Quiet(SimpleHTTPRequestHandler):
    # Not every machine's MIME types know these, and browsers insist on them.
    extensions_map: ClassVar[dict[str, str]] = {  # type: ignore[misc]
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: object) -> None:
        pass
