"""What the exam's machinery adds to its trials: the time in which a worker had none, from the files of a finished exam.

python benchmarks/exam_overhead.py EXAM --jobs 2 [--since FILE]
"""

import argparse
import json
from pathlib import Path

from common import machine, write_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exam")
    parser.add_argument("--jobs", type=int, default=1, help="trials that ran at a time")
    parser.add_argument("--since", help="only trials that began after this file was written: one run of several")
    parser.add_argument("--out", default="benchmarks/results/exam_overhead.jsonl")
    arguments = parser.parse_args()
    since = Path(arguments.since).stat().st_mtime if arguments.since else 0.0
    spans = []
    for path in Path(arguments.exam).glob("trials/*/result.json"):
        end = path.stat().st_mtime
        start = end - json.loads(path.with_name("timing.json").read_text())["trial_seconds"]
        if start > since:
            spans.append((start, end))
    ends: list[float] = []
    idle = 0.0
    for start, end in sorted(spans):
        if len(ends) == arguments.jobs:  # the worker that has waited longest takes the trial
            free = min(ends)
            ends.remove(free)
            idle += max(start - free, 0.0)
        ends.append(end)
    busy = sum(end - start for start, end in spans)
    row = {"trials": len(spans), "trial_seconds": round(busy, 1), "idle_seconds": round(idle, 2), **machine()}
    print(json.dumps(row))
    write_rows(arguments.out, [row])


if __name__ == "__main__":
    main()
