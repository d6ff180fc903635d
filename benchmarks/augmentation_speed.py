"""How many new texts a second the methods without a model make, on one core.

python benchmarks/augmentation_speed.py --data DATA --teacher TEACHER
"""

import argparse
import os
import tempfile
import time

import torch
from common import machine, write_rows

from understudy import Teacher, load_data
from understudy.transfer.augmentation import augment

METHODS = ("tang:20", "neighbours:20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--out", default="benchmarks/results/augmentation_speed.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    teacher, train = Teacher(arguments.teacher), load_data(arguments.data)["train"]
    train = train.select(range(arguments.rows))
    rows = []
    for method in METHODS:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["UNDERSTUDY_CACHE"] = cache  # nothing is there already
            started = time.perf_counter()
            count = len(augment(train, method, teacher))
            rate = count / (time.perf_counter() - started)
        rows.append({"method": method, "source_texts": len(train), "texts": count, "per_second": rate, **machine()})
        print(method, f"{rate:,.0f} texts a second", flush=True)
    write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
