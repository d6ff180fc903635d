"""What a request costs the server of this checkout, that of another one, and FastAPI's shortest: processor time.

Time on the clock would need a quiet machine. All run, and one client sends one text a request, in turns of 50, so that
whatever else the machine does disturbs them alike. Before that each is started in turns: processor time to the first
answer, memory there. And what pydantic and FastAPI add to the server's imports.

    pip install fastapi && python benchmarks/serving_cost.py --model SHIPPED --other CHECKOUT
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
from common import append_row, machine
from serving import Connection, memory, serving

HERE = Path(__file__).parent
TURN = 50
SERVER = "import eyas.cli, eyas.serve.run\n"
TYPES = {
    "nothing": "",
    "pydantic": "import pydantic\nclass A(pydantic.BaseModel):\n  text: str\n",
    "FastAPI": "import fastapi, pydantic\nclass A(pydantic.BaseModel):\n  text: str\nfastapi.FastAPI()\n",
}
COST = "import psutil\nprint(sum(psutil.Process().cpu_times()[:2]), psutil.Process().memory_info().rss / 1e6)"


def processor_seconds(process):
    """Of all its threads; the ticks of `cpu_times` are too coarse for a turn."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


async def send(port, requests):
    connection = Connection(port)
    for _ in range(requests):
        status, _ = await connection.ask()
        assert status == 200
    connection.close()


def measure_imports(rounds):
    """{library: {measure: [of each round]}}"""
    figures = {name: {"import_seconds": [], "import_megabytes": []} for name in TYPES}
    for _ in range(rounds):
        for name, code in TYPES.items():
            command = [sys.executable, "-c", SERVER + code + COST]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            for values, value in zip(figures[name].values(), done.stdout.split(), strict=True):
                values.append(float(value))
    return figures


def measure_servers(starters, starts, turns):
    """{server: {measure: [of each start or turn]}}"""
    figures = {name: {"start_seconds": [], "start_megabytes": [], "request_ms": []} for name in starters}
    for _ in range(starts):
        for name, start in starters.items():
            with start() as (_, process, _):
                figures[name]["start_seconds"].append(processor_seconds(process))
                figures[name]["start_megabytes"].append(memory(process) / 1e6)
    with ExitStack() as stack:
        servers = {name: stack.enter_context(start()) for name, start in starters.items()}
        for turn in range(10 + turns):
            for name, (port, process, _) in servers.items():
                before = processor_seconds(process)
                asyncio.run(send(port, TURN))
                if turn >= 10:  # they are warm
                    figures[name]["request_ms"].append((processor_seconds(process) - before) / TURN * 1000)
    return figures


def report(figures, base, out):
    """A row for each, and what it is over `base`: the median of the differences within a turn."""
    for name, measures in figures.items():
        row = {"name": name}
        for measure, values in measures.items():
            over = statistics.median(a - b for a, b in zip(values, figures[base][measure], strict=True))
            row |= {measure: statistics.median(values), f"least_{measure}": min(values), f"{measure}_over_{base}": over}
        append_row(out, {**row, **machine()})
        print(name, {key: round(value, 4) for key, value in row.items() if key != "name"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="an exported classifier of single texts")
    parser.add_argument("--other", required=True, help="a checkout to compare with")
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--starts", type=int, default=15)
    parser.add_argument("--out", default=str(HERE / "results" / "serving_cost.jsonl"))
    arguments = parser.parse_args()
    psutil.Process().cpu_affinity([1])
    folder, path = Path(arguments.model).resolve(), os.environ.get("PYTHONPATH", "")

    def starter(kind, checkout):
        def start():
            os.environ["PYTHONPATH"] = f"{checkout / 'src'}{os.pathsep}{path}"
            return serving(kind, folder)

        return start

    this, other = HERE.parent, Path(arguments.other).resolve()
    starters = {"other": starter("eyas", other), "this": starter("eyas", this), "FastAPI": starter("FastAPI", this)}
    report(measure_imports(arguments.starts), "nothing", arguments.out)
    report(measure_servers(starters, arguments.starts, arguments.turns), "other", arguments.out)


if __name__ == "__main__":
    main()
