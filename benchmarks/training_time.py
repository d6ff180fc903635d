"""Time of labeling and distilling `bilstm`, whole commands in turn: eyas, the same with the teacher live in
every step (in the precision that labeling takes here, and in float32), and TextBrewer (plain, and with its cache in
memory) where its environment is given.

    python benchmarks/training_time.py --data DATA --teacher TEACHER [--textbrewer tb/bin/python]

Every command starts from nothing: an empty cache, an empty output folder. Imports and loading are counted in.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import machine, write_rows

from eyas import load_data


def seconds(command: list[str], folder: Path) -> float:
    for name in ("out", "out.partial", "cache"):
        shutil.rmtree(folder / name, ignore_errors=True)
    environment = {**os.environ, "EYAS_CACHE": str(folder / "cache")}
    started = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--textbrewer", help="the python of an environment with TextBrewer")
    parser.add_argument("--out", default="benchmarks/results/training_time.jsonl")
    arguments = parser.parse_args()
    data = load_data(arguments.data)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "data").mkdir()
        for name in ("train", "validation"):
            part = data[name].select(range(min(arguments.rows, len(data[name]))))
            lines = (json.dumps({"text": row["text"], "label": row["label"]}) for row in part)
            (folder / "data" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        ours = [
            *(sys.executable, "-m", "eyas", "distill", "--quiet", "--teacher", arguments.teacher),
            *("--data", str(folder / "data"), "--out", str(folder / "out"), "--student", "bilstm"),
            *("--epochs", str(arguments.epochs)),
        ]
        live = [*ours, "--live", "--teacher-dtype"]
        commands = {
            "eyas": ours,
            "eyas, teacher live in bfloat16": [*live, "bfloat16"],
            "eyas, teacher live in float32": [*live, "float32"],
        }
        if arguments.textbrewer:
            theirs = [
                *(arguments.textbrewer, str(Path(__file__).with_name("textbrewer_live.py"))),
                *("--teacher", arguments.teacher, "--rows", str(folder / "data" / "train.jsonl")),
                *("--epochs", str(arguments.epochs)),
            ]
            commands |= {"TextBrewer": theirs, "TextBrewer, cached in memory": [*theirs, "--cache"]}
        rows = []
        for number in range(arguments.rounds):
            for name, command in commands.items():
                taken = seconds(command, folder)
                sizes = {"rows": arguments.rows, "epochs": arguments.epochs, "round": number}
                rows.append({"command": name, "seconds": round(taken, 1), **sizes, **machine()})
                print(json.dumps(rows[-1]), flush=True)
                write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
