"""The server under load, beside the shortest server that FastAPI allows, with the same exported model.

Server on one core, load on the other, loopback, in turns. Saturated rate with 32 connections; latency at half of it,
sent at fixed times, so that a late answer counts from when it was due; at twice of it, what is turned away, whether
the answers stay right, memory, and how soon it has recovered. Start to first answer, and memory at rest.

    python benchmarks/serving.py --model SHIPPED [--seconds 5]
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from common import append_row, machine

HERE = Path(__file__).parent
TEXT = "the film is a slow but moving story about two people who lose each other and never stop looking for a way home"
PLAIN = """
from fastapi import FastAPI
from pydantic import BaseModel
from eyas.serve import Predictor
app, predictor = FastAPI(), Predictor({folder!r})
class Question(BaseModel):
    inputs: str
@app.post("/predict")
async def predict(question: Question):
    return predictor([question.inputs])[0]
@app.get("/health")
async def health():
    return {{}}
"""


@contextmanager
def serving(kind, folder):
    """(port, process, seconds from start to first answer)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "eyas", "serve", str(folder), "--port", str(port)]
    with tempfile.TemporaryDirectory() as place:
        if kind == "FastAPI":
            Path(place, "plain.py").write_text(PLAIN.format(folder=str(folder)))
            options = ["--port", str(port), "--no-access-log", "--log-level", "warning", "--app-dir", place]
            command = [sys.executable, "-m", "uvicorn", "plain:app", "--http", "httptools", *options]
        started = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
        psutil.Process(process.pid).cpu_affinity([0])
        body = json.dumps({"inputs": TEXT}).encode()
        while True:
            try:
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"}
                )
                urllib.request.urlopen(request, timeout=5).read()
                break
            except OSError:
                time.sleep(0.005)
        try:
            yield port, process, time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def request_of(port):
    body = json.dumps({"inputs": TEXT}).encode()
    head = ["POST /predict HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json"]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


class Connection:
    """One keep-alive connection that sends the same request."""

    def __init__(self, port):
        self.port, self.request, self.reader = port, request_of(port), None

    async def ask(self):
        """(status, body)."""
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(self.request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
        body = await self.reader.readexactly(length)
        if b"connection: close" in lines:
            self.writer.close()
            self.reader = None
        return int(head[9:12]), body

    def close(self):
        if self.reader is not None:
            self.writer.close()


async def saturated(port, seconds, connections=32):
    """Requests answered a second."""
    end = time.perf_counter() + seconds

    async def client():
        connection, count = Connection(port), 0
        while time.perf_counter() < end:
            status, _ = await connection.ask()
            count += status == 200
        connection.close()
        return count

    return sum(await asyncio.gather(*(client() for _ in range(connections)))) / seconds


async def at_rate(port, rate, seconds, connections):
    """[(seconds from when it was due, status, body)] at a fixed rate."""
    free = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(Connection(port))
    found, tasks = [], []
    start = time.perf_counter()

    async def one(due):
        connection = await free.get()
        status, body = await connection.ask()
        found.append((time.perf_counter() - due, status, body))
        free.put_nowait(connection)

    for number in range(int(rate * seconds)):
        due = start + number / rate
        if due > time.perf_counter():
            await asyncio.sleep(due - time.perf_counter())
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait().close()
    return found


def memory(process):
    return psutil.Process(process.pid).memory_info().rss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="an exported classifier of single texts")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default=str(HERE / "results" / "serving.jsonl"))
    arguments = parser.parse_args()
    psutil.Process().cpu_affinity([1])
    folder = Path(arguments.model).resolve()
    rates = {"eyas": [], "FastAPI": []}
    starts = {name: [] for name in rates}
    for _ in range(arguments.rounds):
        for name in rates:
            with serving(name, folder) as (port, _, seconds):
                starts[name].append(seconds)
                asyncio.run(saturated(port, 1))
                rates[name].append(asyncio.run(saturated(port, arguments.seconds)))
    for name, values in rates.items():
        about = {"server": name, "rate": statistics.median(values), "rates": values}
        append_row(arguments.out, {**about, "start_seconds": statistics.median(starts[name]), **machine()})
    most = statistics.median(rates["eyas"])
    with serving("eyas", folder) as (port, process, _):
        rest = memory(process)
        _, right = asyncio.run(Connection(port).ask())
        halves = [asyncio.run(at_rate(port, most / 2, arguments.seconds, 64)) for _ in range(arguments.rounds)]
        times = [np.array([seconds for seconds, _, _ in half]) * 1000 for half in halves]
        p50, p99 = ([float(np.percentile(part, percent)) for part in times] for percent in (50, 99))
        row = {"server": "eyas", "load": "half", "p50_ms": p50, "p99_ms": p99}
        row["refused"] = sum(status != 200 for half in halves for _, status, _ in half)
        append_row(arguments.out, {**row, "rest_bytes": rest, **machine()})
        before = memory(process)
        double = asyncio.run(at_rate(port, most * 2, arguments.seconds, 400))
        ended = time.perf_counter()
        while asyncio.run(at_rate(port, 20, 0.2, 4))[-1][0] > 0.005:
            pass
        row = {"server": "eyas", "load": "double", "sent": len(double)}
        row["refused"] = sum(status == 503 for _, status, _ in double)
        row["other"] = sum(status not in (200, 503) for _, status, _ in double)
        row["wrong"] = sum(status == 200 and body != right for _, status, body in double)
        row |= {"rss_before": before, "rss_after": memory(process), "recovered_seconds": time.perf_counter() - ended}
        append_row(arguments.out, {**row, **machine()})


if __name__ == "__main__":
    main()
