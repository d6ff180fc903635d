"""Peak memory of labeling and distilling a file of many short texts, as whole commands.

    python benchmarks/memory.py --text FILE --teacher TEACHER --rows 2000000

Texts are pieces of 3 to 12 words of FILE with a number, so that all differ. The teacher's size hardly matters to the
peak; `--tiny-teacher` takes a random BERT of two layers and hidden size 128 with TEACHER's tokenizer, 30 times faster.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import machine, write_rows
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--tiny-teacher", action="store_true")
    parser.add_argument("--out", default="benchmarks/results/memory.jsonl")
    arguments = parser.parse_args()
    words = Path(arguments.text).read_text(errors="replace").split()
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        starts = random.integers(0, len(words) - 12, arguments.rows)
        sizes = random.integers(3, 13, arguments.rows)
        with open(folder / "more.txt", "w") as file:
            for number, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
                file.write(f"{' '.join(words[start : start + size])} {number}\n")
        (folder / "data").mkdir()
        for name, count in (("train", 2000), ("validation", 200)):
            rows = (
                {"text": f"{words[i]} {words[i + 1]} {name}", "label": ["negative", "positive"][i % 2]}
                for i in range(count)
            )
            (folder / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        teacher = arguments.teacher
        if arguments.tiny_teacher:
            teacher = str(folder / "teacher")
            config = BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)
            config.id2label, config.label2id = {0: "negative", 1: "positive"}, {"negative": 0, "positive": 1}
            BertForSequenceClassification(config).save_pretrained(teacher)
            AutoTokenizer.from_pretrained(arguments.teacher).save_pretrained(teacher)
        command = [
            *(sys.executable, "-m", "eyas", "distill", "--teacher", teacher, "--data", str(folder / "data")),
            *("--unlabeled", str(folder / "more.txt"), "--student", "cnn", "--embedding-size", "64"),
            *("--vocab-size", "10000", "--batch-size", "512", "--epochs", "1", "--out", str(folder / "out")),
        ]
        started = time.perf_counter()
        subprocess.run(command, check=True, env={**os.environ, "EYAS_CACHE": str(folder / "cache")})
        row = {
            "rows": arguments.rows,
            "teacher": "random BERT, 2 layers, hidden 128" if arguments.tiny_teacher else arguments.teacher,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
            "file_bytes": (folder / "more.txt").stat().st_size,
            "seconds": round(time.perf_counter() - started),
            **machine(),
        }
    print(json.dumps(row))
    write_rows(arguments.out, [row])


if __name__ == "__main__":
    main()
