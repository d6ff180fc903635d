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
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes; one a core at most.")] = 1,
    most_texts: Annotated[int, typer.Option(min=1, help="Texts of one request.")] = 256,
    most_bytes: Annotated[int, typer.Option(min=100, help="Bytes of a request's body.")] = 1_000_000,
    most_waiting: Annotated[int, typer.Option(min=1, help="Requests at once in a worker; more get 503.")] = 64,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for a request and for its answer.")] = 10.0,
) -> None:
    """Serve exported models: a page at /, POST /predict, the Open Inference Protocol at /v2, /metrics, /health.

    A key for clients is taken from the environment variable EYAS_API_KEY.
    """
    try:
        from eyas.serve.limits import Limits
        from eyas.serve.run import ServeSettings
        from eyas.serve.run import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in SERVE_PACKAGES:
            raise
        raise MissingExtraError(f"The server needs {error.name}. {install_hint('serve')}") from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the server's own end: nothing is to go on
    limits = Limits(
        body_bytes=most_bytes,
        texts=most_texts,
        waiting=most_waiting,
        read_seconds=timeout,
        answer_seconds=timeout,
    )
    typer.echo(f"Serving {', '.join(folder.name for folder in folders)} on http://{host}:{port}", err=True)
    run(ServeSettings(tuple(map(str, folders)), host, port, workers, limits))
