"""The command line: one function per command, heavy imports inside."""

import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from eyas import processes
from eyas._version import __version__
from eyas.cli import ensemble, exam, lists, serve, train, transfer, use
from eyas.errors import EyasError, install_hint

app = typer.Typer(
    name="eyas",
    help="Distill a fine-tuned BERT into a tiny, fast student, measure it, and ship it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
COMMANDS: list[Callable[..., None]] = [
    *(train.finetune, train.pretrain_student, transfer.augment, transfer.label, train.distill),
    *(train.compress, lists.encoders, lists.recipes),
    *(ensemble.join, ensemble.prune_ensemble, ensemble.cascade),
    *(exam.exam, exam.report, exam.best),
    *(use.evaluate, use.predict, use.export, use.push, serve.serve, exam.demo),
]
for command in COMMANDS:
    app.command()(command)

# Commands that several processes run together.
SHARED = ("finetune", "pretrain-student", "label", "distill")
# Commands that go on where they stopped.
RESUMABLE = (*SHARED, "compress", "exam", "demo")

TRAIN_PACKAGES = frozenset(
    [
        *("accelerate", "altair", "datasets", "filelock", "jinja2", "onnx", "onnxscript", "pandas", "pyarrow"),
        *("pydantic", "safetensors", "scipy", "sklearn", "torch", "transformers", "vl_convert", "yaml"),
    ]
)


def _version(show: bool) -> None:
    if show:
        print(f"eyas {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    name = str(context.invoked_subcommand)
    if processes.count() > 1 and name not in SHARED:
        raise EyasError(
            f"{name} runs in one process, but torchrun started {processes.count()} of them. Run it without torchrun; "
            f"{', '.join(SHARED)} share their work."
        )


def _resume() -> str:
    """What is left of a command that was stopped."""
    if len(sys.argv) > 1 and sys.argv[1] in RESUMABLE:
        return "Finished work is kept; run the same command again to resume."
    return "This command does not resume: run it again from the start."


def _terminate(*_: Any) -> NoReturn:
    print(f"Terminated. {_resume()}", file=sys.stderr)
    sys.exit(143)


def main() -> None:
    """Run the command line: exit code 2 and one paragraph for bad input, 130 for Ctrl-C, 143 for SIGTERM."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(standalone_mode=True)
    except EyasError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in TRAIN_PACKAGES:
            raise
        _fail(f"This command needs {error.name}. {install_hint('train')}")
    except OSError as error:
        if error.errno is None:
            raise
        _fail(f"{error.strerror}{f': {error.filename}' if error.filename else ''}. {_resume()}")
    except SystemExit as error:
        if error.code == 130:  # typer's exit code for Ctrl-C
            print(f"\nInterrupted. {_resume()}", file=sys.stderr)
        raise


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
