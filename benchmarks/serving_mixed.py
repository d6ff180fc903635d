"""A server under 100,000 requests of every kind: what it answers, and what stays in its memory.

Server on one core, clients on the other, loopback, both protocols. About two thirds are right, the
others malformed JSON, wrong types, too many texts, too large a body, invalid UTF-8, wrong paths and methods; and
clients that send slowly, leave in the middle of a request, or leave before the answer. Every answer is held against
what it must be; memory is read after a first tenth and at the end.

    python benchmarks/serving_mixed.py --model SHIPPED [--requests 100000]
"""

import argparse
import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import psutil
from common import machine, write_rows
from serving import memory, serving

from eyas.serve import Predictor

HERE = Path(__file__).parent
TEXTS = ["a slow but moving story", "awful", "", "🙂 œuvre \u0000 żółć", "word " * 2000, "not bad, not good either"]
CLIENTS = 32
# Status codes that each kind may have; a deliberate 503 is right for all.
EXPECTED = {
    "one": 200,
    "batch": 200,
    "tensors": 200,
    "malformed": 400,
    "not text": 400,
    "wrong types": 422,
    "too many": 413,
    "huge": 413,
    "no such path": 404,
    "wrong method": 405,
    "no such model": 404,
    "other type": 415,
}
WEIGHTS = {"one": 40, "batch": 8, "tensors": 10, "huge": 1, "too many": 1}


def request(kind: str, name: str, text: str, batch: list[str]) -> bytes:
    """The bytes of a request of that kind."""
    path, method, content_type = "/predict", "POST", "application/json"
    body = json.dumps({"inputs": text}).encode()
    if kind == "batch":
        body = json.dumps({"inputs": batch}).encode()
    elif kind == "tensors":
        path = f"/v2/models/{name}/infer"
        tensor = {"name": "text", "datatype": "BYTES", "shape": [len(batch)], "data": batch}
        body = json.dumps({"inputs": [tensor]}).encode()
    elif kind == "malformed":
        body = body[:-1]
    elif kind == "not text":
        body = b'{"inputs": "\xff\xfe"}'
    elif kind == "wrong types":
        body = json.dumps({"inputs": [1, {"text": 2}, None]}).encode()
    elif kind == "too many":
        body = json.dumps({"inputs": ["a"] * 2000}).encode()
    elif kind == "huge":
        body = json.dumps({"inputs": "a" * 3_000_000}).encode()
    elif kind == "no such path":
        path = "/predict/../../etc/passwd"
    elif kind == "wrong method":
        method = "DELETE"
    elif kind == "no such model":
        path = "/v2/models/..%2f..%2fetc/infer"
    elif kind == "other type":
        content_type = "text/plain"
    head = [f"{method} {path} HTTP/1.1", "Host: a", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode() + body


class Client:
    """A client that keeps its connection while it can, and notes what went wrong."""

    def __init__(self, port: int, name: str, predictor: Predictor, seed: int) -> None:
        self.port, self.name, self.random = port, name, random.Random(seed)
        self.right = {text: predictor([text])[0]["label"] for text in TEXTS}
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.reader: asyncio.StreamReader | None = None

    async def connect(self) -> None:
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    def leave(self) -> None:
        if self.reader is not None:
            self.writer.close()
            self.reader = None

    async def ask(self) -> None:
        kind = self.random.choices([*EXPECTED], [WEIGHTS.get(kind, 4) for kind in EXPECTED])[0]
        manner = self.random.choices(["plain", "slow", "half", "gone"], [94, 2, 2, 2])[0]
        text, batch = self.random.choice(TEXTS), self.random.choices(TEXTS, k=3)
        data = request(kind, self.name, text, batch)
        self.counts[kind] += 1
        try:
            await self.connect()
            if manner in ("half", "gone"):
                self.counts[f"{manner}: left"] += 1
                self.writer.write(data[: len(data) // 2] if manner == "half" else data)
                await self.writer.drain()
                self.leave()
                return
            for start in range(0, len(data), len(data) // 4 + 1):
                self.writer.write(data[start : start + len(data) // 4 + 1])
                await asyncio.sleep(0.05 if manner == "slow" else 0)
            status, body, closing = await self.answer()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.leave()
            self.counts["cut off"] += 1
            if EXPECTED[kind] == 200:
                self.wrong.append(f"{kind}: cut off")
            return
        if closing:
            self.leave()
        self.counts[str(status)] += 1
        if status != 503 and status != EXPECTED[kind]:
            self.wrong.append(f"{kind}: {status}")
        elif status == 200 and self.labels(kind, body) != [self.right[one] for one in self.asked(kind, text, batch)]:
            self.wrong.append(f"{kind}: another answer")

    async def answer(self) -> tuple[int, bytes, bool]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head[9:12]), await self.reader.readexactly(length), b"connection: close" in head

    @staticmethod
    def asked(kind: str, text: str, batch: list[str]) -> list[str]:
        return [text] if kind == "one" else batch

    @staticmethod
    def labels(kind: str, body: bytes) -> list[str]:
        content = json.loads(body)
        if kind == "tensors":
            return next(output["data"] for output in content["outputs"] if output["name"] == "label")
        return [content[0]["label"]] if kind == "one" else [row[0]["label"] for row in content]


async def load(clients: list[Client], requests: int) -> None:
    async def work(client: Client) -> None:
        for _ in range(requests // len(clients)):
            await client.ask()
        client.leave()

    await asyncio.gather(*map(work, clients))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="an exported classifier of single texts")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--out", default=str(HERE / "results" / "serving_mixed.jsonl"))
    arguments = parser.parse_args()
    psutil.Process().cpu_affinity([1])
    folder = Path(arguments.model).resolve()
    predictor = Predictor(folder)
    with serving("eyas", folder) as (port, process, _):
        clients = [Client(port, folder.name, predictor, seed) for seed in range(CLIENTS)]
        asyncio.run(load(clients, arguments.requests // 10))
        before = memory(process)
        for client in clients:
            client.counts.clear()
        asyncio.run(load(clients, arguments.requests))
        after = memory(process)
    counts = sum((client.counts for client in clients), Counter())
    wrong = Counter(one for client in clients for one in client.wrong)
    row = {"requests": arguments.requests, "counts": counts, "wrong": wrong, "rss_before": before, "rss_after": after}
    print(json.dumps(row, indent=1))
    write_rows(arguments.out, [{**row, **machine()}])


if __name__ == "__main__":
    main()
