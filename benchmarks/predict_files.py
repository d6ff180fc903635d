"""`eyas predict` of a file of short texts: texts a second, of the whole command and beyond its start, and peak memory.

    python benchmarks/predict_files.py SHIPPED ... [--texts 1000000] [--workers 1 2]

The texts are the first words of `--source`, a file of JSON lines with `text`, drawn with a seed. A second file of a
tenth of the texts tells the start of the command from its rate.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import append_row, machine

RESULTS = Path(__file__).parent / "results" / "predict_files.jsonl"
WORDS = 12
# The command in a process whose children's largest peak is printed at the end.
MEASURED = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], 'wb'), check=True); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


def run(model: str, texts: Path, workers: int, out: Path) -> tuple[float, float]:
    """Seconds, and the peak of the largest process in MB."""
    command = [
        sys.executable,
        "-m",
        "eyas",
        "predict",
        "--quiet",
        "--model",
        model,
        str(texts),
        "--workers",
        str(workers),
    ]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(out), *command], check=True, capture_output=True, text=True
    )
    return time.perf_counter() - started, int(done.stdout) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--source", required=True)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    lines = [json.loads(line)["text"] for line in Path(arguments.source).read_text().splitlines()]
    short = [" ".join(line.split()[:WORDS]) for line in lines]
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as temporary:
        files = {}
        for count in (arguments.texts // 10, arguments.texts):
            files[count] = Path(temporary) / f"{count}.txt"
            files[count].write_text("".join(f"{text}\n" for text in draw.choices(short, k=count)))
        few, many = files
        for model in arguments.models:
            for workers in arguments.workers:
                start, small = run(model, files[few], workers, Path(temporary) / "out")
                whole, peak = run(model, files[many], workers, Path(temporary) / "out")
                manifest = json.loads((Path(model) / "manifest.json").read_text())
                row = {
                    "model": Path(model).name,
                    "precision": manifest["precision"],
                    "workers": workers,
                    "texts": many,
                    "seconds": round(whole, 1),
                    "per_second": round(many / whole),
                    "rate": round((many - few) / (whole - start)),
                    "peak_mb": round(peak, 1),
                    "peak_of_a_tenth_mb": round(small, 1),
                    **machine(),
                }
                append_row(RESULTS, row)
                print({name: row[name] for name in ("model", "workers", "per_second", "rate", "peak_mb")}, flush=True)


if __name__ == "__main__":
    main()
