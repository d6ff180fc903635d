"""Run the command line in separate processes. Imports little, because the fork server imports the rest."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path


@dataclass
class Command:
    """The command line in its own process, as a user starts it, but with the imports already done."""

    process: BaseProcess
    stdout: Path
    stderr: Path

    def wait(self, timeout: float = 300) -> int:
        self.process.join(timeout)
        assert self.process.exitcode is not None, self.stderr.read_text()
        return self.process.exitcode

    def wait_for(self, text: str, timeout: float = 300) -> None:
        """Wait until `text` appears on stderr."""
        end = time.monotonic() + timeout
        while text not in self.stderr.read_text():
            assert self.process.is_alive(), self.stderr.read_text()
            assert time.monotonic() < end, self.stderr.read_text()
            time.sleep(0.01)


def run_command(arguments: list[str], stdout: str, stderr: str, stdin: str) -> None:
    """The command line with its streams in files."""
    for name, number, flags in ((stdin, 0, os.O_RDONLY), (stdout, 1, os.O_WRONLY), (stderr, 2, os.O_WRONLY)):
        file = os.open(name, flags | os.O_CREAT)
        os.dup2(file, number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, m) for n, m in ((0, "r"), (1, "w"), (2, "w")))
    sys.argv = ["eyas", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    from eyas.cli import main

    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def run_small_shards(arguments: list[str], *streams: str) -> None:
    """The command line with shards so small that a kill lands between two of them."""
    from eyas.teachers import cached

    cached.ROWS_PER_SHARD = 24
    run_command(arguments, *streams)


def run_with_cache(cache: str, arguments: list[str], *streams: str) -> None:
    """The command line with its own cache; the environment of the fork server is that of its start."""
    os.environ["EYAS_CACHE"] = cache
    run_command(arguments, *streams)
