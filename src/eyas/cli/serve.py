"""serve: exported models behind HTTP."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from eyas.errors import MissingExtraError, install_hint

SERVE_PACKAGES = frozenset(["httptools", "msgspec", "prometheus_client", "starlette", "uvicorn"])


def serve(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Exported models, or folders of versions 1, 2 ...", show_default=False),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes, at most one per core.")] = 1,
    max_texts: Annotated[int, typer.Option(min=1, help="Maximum texts per request.")] = 256,
    max_bytes: Annotated[int, typer.Option(min=100, help="Maximum bytes of a request's body.")] = 1_000_000,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Maximum concurrent requests per worker; others get 503.")
    ] = 64,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Origin of web pages that may call the server, such as https://example.org; * for all. Repeatable.",
            show_default="none",
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to receive a request, and to answer it.")] = 10.0,
) -> None:
    """Serve exported models: a page at /, POST /predict, the Open Inference Protocol at /v2, /metrics, /health.

    Clients need the key in the environment variable EYAS_API_KEY, if it is set.
    """
    try:
        from eyas.serve.limits import Limits
        from eyas.serve.run import ServeSettings
        from eyas.serve.run import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in SERVE_PACKAGES:
            raise
        raise MissingExtraError(f"The server needs {error.name}. {install_hint('serve')}") from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the normal exit: there is nothing to resume
    limits = Limits(
        body_bytes=max_bytes,
        texts=max_texts,
        waiting=max_waiting,
        read_seconds=timeout,
        answer_seconds=timeout,
    )
    names = ", ".join(folder.resolve().name for folder in folders)
    address = f"[{host}]" if ":" in host else host
    settings = ServeSettings(tuple(map(str, folders)), host, port, workers, limits, tuple(allow_origin or ()))
    run(settings, lambda: typer.echo(f"Serving {names} on http://{address}:{port}", err=True))
