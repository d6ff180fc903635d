"""Nothing leaves the machine: no foreign files in the home folder, no connection but to this machine."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import SMALL_EXAM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here (apt-get install strace)"),
]

# Variables that would switch telemetry off by themselves.
SUPPRESSING = ("CI", "TF_BUILD", "JENKINS_URL", "DO_NOT_TRACK", "ORT_", "RAY_USAGE", "HF_HUB_DISABLE")
LOCAL = re.compile(r'127\.0\.0\.\d+|"::1"|sin6?_port=htons\(0\)')


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def _start(command: list[str], home: Path) -> "subprocess.Popen[bytes]":
    """`command` with an empty home folder; its connections are appended to a log beside it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SUPPRESSING)}
    environment = {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "EYAS_CACHE": str(home / "eyas")}
    log = str(home.parent / "connections")
    tracer = ["strace", "--seccomp-bpf", "-f", "-qq", "-e", "trace=connect", "-A", "-o", log]
    return subprocess.Popen([*tracer, sys.executable, *command], env=environment, stdin=subprocess.DEVNULL)


def _foreign(home: Path) -> list[str]:
    lines = (home.parent / "connections").read_text().splitlines()
    return [line for line in lines if "AF_INET" in line and not LOCAL.search(line)]


def _serve(model: Path, home: Path) -> None:
    """Start a server, ask it, and stop it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The server stops itself: a signal from here would reach strace, not the server.
    code = "import sys, threading, signal, os; threading.Timer(12, os.kill, (os.getpid(), signal.SIGTERM)).start(); "
    code += f"sys.argv = ['eyas', 'serve', {str(model)!r}, '--port', '{port}']; from eyas.cli import main; main()"
    server = _start(["-c", code], home)
    body = json.dumps({"inputs": "a film"}).encode()
    address = f"http://127.0.0.1:{port}/predict"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                assert b"label" in answer.read()
            break
        except ConnectionError:
            time.sleep(0.2)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
            time.sleep(0.2)
    else:
        pytest.fail("no answer from the server")
    server.wait(60)


def test_nothing_leaves_the_machine(
    students: dict[tuple[str, bool], Path], teacher_folder: Path, toy_data: Path, home: Path, tmp_path: Path
) -> None:
    shipped, plan = tmp_path / "shipped", tmp_path / "plan.json"
    (tmp_path / "texts.txt").write_text("a great film\n")
    plan.write_text(
        json.dumps({**SMALL_EXAM, "data": str(toy_data), "teacher": str(teacher_folder), "baselines": False})
    )
    for arguments in (
        ["exam", plan, "--out", tmp_path / "exam"],
        ["export", "--model", students["cnn", False], "--out", shipped, "--int8"],
        ["predict", "--model", shipped, tmp_path / "texts.txt"],
    ):
        assert _start(["-m", "eyas", *map(str, arguments)], home).wait(240) == 0
    _serve(shipped, home)
    assert _foreign(home) == []
    written = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    assert [path for path in written if not path.startswith("eyas/")] == []


def test_foreign_connection_is_found(home: Path) -> None:
    """The test above could fail: it finds an attempt to reach a name server."""
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 53))"
    assert _start(["-c", code], home).wait(60) == 0
    assert len(_foreign(home)) == 1


def test_user_can_keep_telemetry() -> None:
    """What the user has set stays."""
    code = "import os, eyas; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['RAY_USAGE_STATS_ENABLED'])"
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    environment.pop("RAY_USAGE_STATS_ENABLED", None)
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["0", "0"]
