"""Start the server: one process, or several that share a port."""

import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette

from eyas.errors import EyasError
from eyas.serve.app import create_app
from eyas.serve.deadline import DeadlineProtocol
from eyas.serve.limits import Limits
from eyas.serve.metrics import MULTIPROCESS
from eyas.serve.models import Models

# Environment variables that pass the settings and the API key to the workers.
SETTINGS, API_KEY = "EYAS_SERVE", "EYAS_API_KEY"
KEEP_ALIVE_SECONDS, GRACE_SECONDS = 15, 20


@dataclass(frozen=True)
class ServeSettings:
    """Settings of the server.

    Args:
        folders: exported models.
        host: address to listen on; 127.0.0.1 accepts only this machine.
        port: port to listen on.
        workers: number of processes.
        limits: limits on requests.
        origins: origins of web pages that may call the server from a browser.
    """

    folders: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    origins: tuple[str, ...] = ()


def serve(settings: ServeSettings, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in progress are still answered.

    The API key, if any, is read from the environment variable EYAS_API_KEY.

    Args:
        ready: called when everything is checked, before the server starts.

    Raises:
        ExportError: a folder cannot be served.
        EyasError: the key is empty, or the server cannot listen there.
    """
    if not os.environ.get(API_KEY, "set"):
        raise EyasError(f"{API_KEY} is empty. Set it to a key, or unset it to serve without one.")
    _check_origins(settings.origins)
    Models(settings.folders)  # fails before a worker starts
    _check_address(settings.host, settings.port)
    ready()
    os.environ[SETTINGS] = json.dumps(asdict(settings))
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "http": DeadlineProtocol,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": GRACE_SECONDS,
        "access_log": False,
        "server_header": False,
        "log_config": None,
        "ws": "none",
    }
    target = "eyas.serve.run:app_of_environment"
    if settings.workers == 1:
        uvicorn.run(target, factory=True, **options)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ[MULTIPROCESS] = folder
        uvicorn.run(target, factory=True, **options)


def _check_origins(origins: Sequence[str]) -> None:
    """Raises EyasError for an origin that no browser sends."""
    for origin in set(origins) - {"*", "null"}:  # null: a page from a file
        parts = urlsplit(origin)
        usual_port = parts.netloc.endswith({"http": ":80", "https": ":443"}.get(parts.scheme, " "))
        if "*" in origin or usual_port or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise EyasError(
                f"{origin!r} is not the origin of a web page. Expected --allow-origin https://example.org, without a "
                "path, a slash at the end or the usual port; * allows every page."
            )


def _check_address(host: str, port: int) -> None:
    """Raises EyasError if the server cannot listen on `host` and `port`."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            trial.bind(address)
    except OSError as error:
        raise EyasError(
            f"Cannot listen on port {port} of {host}: {error.strerror}. Choose another --port, or another --host."
        ) from None


def app_of_environment() -> Starlette:
    """The application of a worker."""
    settings = json.loads(os.environ[SETTINGS])
    limits = Limits(**settings["limits"])
    DeadlineProtocol.read_seconds = limits.read_seconds
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # not in the log format
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    folders = [Path(folder) for folder in settings["folders"]]
    return create_app(folders, limits, os.environ.get(API_KEY), settings["origins"])


__all__: Sequence[str] = ["ServeSettings", "serve"]
