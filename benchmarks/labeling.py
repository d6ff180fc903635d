"""`eyas label` beside a bare loop over the teacher, and at millions of texts: memory, interruption, training on them.

    python benchmarks/labeling.py rate   --teacher FOLDER --data DATA [--texts 20000] [--rounds 3]
    python benchmarks/labeling.py memory --teacher FOLDER --data DATA [--texts 1000000 10000000]

`rate` sorts the texts by length and runs tokenizer and model in batches of 64, with autocast to the teacher's
precision: the loop that a user would write. `memory` runs the command, kills it when half of the texts are labeled,
runs it again, and trains `static` on the labels for a twentieth of an epoch.
The texts are runs of words of the training texts with random words at their ends, so that few are near-duplicates.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from common import append_row, machine
from datasets import Dataset

from eyas.data.datasets import load_data, load_unlabeled
from eyas.teachers import Teacher, label_texts
from eyas.teachers.live import autocast

RESULTS = Path(__file__).parent / "results" / "labeling.jsonl"
BATCH = 64
RANDOM_WORDS = 6


def write_texts(data: str, count: int, path: Path) -> Path:
    words = [word for text in load_data(data)["train"]["text"] for word in text.split()]
    chance = random.Random(0)
    with path.open("w") as file:
        for _ in range(count):
            start, length = chance.randrange(len(words) - 16), chance.randrange(2, 10)
            file.write(" ".join(words[start : start + length] + chance.choices(words, k=RANDOM_WORDS)) + "\n")
    return path


@torch.no_grad()
def bare_loop(teacher: Teacher, texts: list[str]) -> torch.Tensor:
    ordered, logits = sorted(texts, key=len), []
    for start in range(0, len(ordered), BATCH):
        batch = ordered[start : start + BATCH]
        inputs = teacher.tokenizer(
            batch, padding=True, truncation=True, max_length=teacher.max_length, return_tensors="pt"
        )
        with autocast(teacher.model.device, teacher.dtype):
            logits.append(teacher.model(**inputs.to(teacher.model.device)).logits.float().cpu())
    return torch.cat(logits)


def rate(teacher: str, rows: Dataset, rounds: int) -> None:
    model, texts = Teacher(teacher), list(rows["text"])
    bare_loop(model, texts[:1000])
    ratios = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            seconds = {}
            for what in ("bare", "eyas")[:: 1 if number % 2 else -1]:
                started = time.perf_counter()
                if what == "bare":
                    bare_loop(model, texts)
                else:
                    label_texts(model, rows, Path(folder) / "labels")
                seconds[what] = time.perf_counter() - started
        ratios.append(seconds["bare"] / seconds["eyas"])
        row = {"part": "rate", "teacher": Path(teacher).name, "texts": len(rows), "round": number}
        row |= {"bare": round(seconds["bare"], 2), "eyas": round(seconds["eyas"], 2), "dtype": model.dtype}
        append_row(RESULTS, {**row, "ratio": round(ratios[-1], 3), "threads": torch.get_num_threads(), **machine()})
    print(
        f"label runs at {np.mean(ratios):.2f} times the rate of the bare loop ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def run(command: list[str], cache: Path, stop_at: int | None = None) -> dict[str, float]:
    """Seconds, the largest memory in MB, and when the first shard was written; stopped after `stop_at` shards."""
    started, peak, unique, first = time.perf_counter(), 0, 0, 0.0
    before = len(list(cache.glob("labels/*/shard-*")))
    process = psutil.Popen(command)
    while process.poll() is None:
        try:
            memory = process.memory_full_info()
        except psutil.Error:
            break
        peak, unique = max(peak, memory.rss), max(unique, memory.uss)
        shards = len(list(cache.glob("labels/*/shard-*")))
        first = first or (time.perf_counter() - started if shards > before else 0.0)
        if stop_at is not None and shards >= stop_at:
            process.kill()
        time.sleep(0.5)
    process.wait()
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "peak_mb": round(peak / 2**20),
        "unique_mb": round(unique / 2**20),
        "first_shard_s": round(first, 1),
    }


def memory(teacher: str, data: str, counts: list[int]) -> None:
    for count in counts:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            texts = write_texts(data, count, folder / "texts.txt")
            given = ["--augment", "none", "--teacher", teacher, "--data", data, "--unlabeled", str(texts)]
            eyas = ["env", f"EYAS_CACHE={folder / 'cache'}", sys.executable, "-m", "eyas"]
            command = [*eyas, "label", *given]
            killed = run(command, folder / "cache", stop_at=count // 4096 // 2)
            finished = run(command, folder / "cache")
            (labels,) = (folder / "cache" / "labels").iterdir()
            labeled = 4096 * len(list(labels.glob("shard-*")))
            student = ["--student", "static", "--epochs", "0.05", "--out", str(folder / "student")]
            trained = run([*eyas, "distill", *given, *student], folder / "cache")
        row = {"part": "memory", "teacher": Path(teacher).name, "texts": count, "labeled": labeled}
        row |= {
            "killed": killed,
            "finished": finished,
            "trained": trained,
            "threads": torch.get_num_threads(),
            **machine(),
        }
        append_row(RESULTS, row)
        print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["rate", "memory"])
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--texts", type=int, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.part == "memory":
        memory(arguments.teacher, arguments.data, arguments.texts or [1_000_000, 10_000_000])
        return
    with tempfile.TemporaryDirectory() as temporary:
        texts = write_texts(arguments.data, *(arguments.texts or [20_000]), Path(temporary) / "texts.txt")
        rate(arguments.teacher, load_unlabeled([texts]), arguments.rounds)


if __name__ == "__main__":
    main()
