"""Learning rates of students that start from the general ones, everything else by default: best validation score.

    python benchmarks/start_rates.py --data DATA --teacher TEACHER --students cnn bilstm --rates 2e-3 1e-3 5e-4 \\
        [--labels 400] [--seeds 0] [--option freeze_embeddings]

Rows that are there already are not run again. The score on the test split is noted, and chooses nothing.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import append_row, machine, read_rows

import eyas

RESULTS = Path(__file__).parent / "results" / "start_rates.jsonl"
KEY = ("data", "labels", "student", "init", "frozen", "rate", "seed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--name", help="of the data set in the rows; by default its folder's")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--labels", type=int, help="training texts, drawn with a seed; by default all")
    parser.add_argument("--students", nargs="+", default=["cnn", "bilstm"])
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 1e-3, 5e-4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--init", default="general", choices=("general", "none"))
    parser.add_argument("--frozen", action="store_true", help="freeze the word vectors")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = eyas.load_data(arguments.data)
    if arguments.labels:
        order = np.random.default_rng(0).permutation(len(data["train"]))[: arguments.labels]
        data = eyas.TaskData({**data, "train": data["train"].select(order)})
    done = {tuple(row[name] for name in KEY) for row in read_rows(RESULTS)}
    name = arguments.name or Path(arguments.data).name
    for seed in arguments.seeds:
        for student in arguments.students:
            for rate in arguments.rates:
                key = (name, len(data["train"]), student, arguments.init, arguments.frozen, rate, seed)
                if key in done:
                    continue
                settings = eyas.DistillSettings(
                    student=eyas.StudentSettings(student, init=arguments.init, freeze_embeddings=arguments.frozen),
                    arguments={"learning_rate": rate},
                    seed=seed,
                )
                with tempfile.TemporaryDirectory() as folder:
                    trained = eyas.distill(arguments.teacher, data, Path(folder) / "student", settings=settings)
                    scores = [(row["eval_score"], row["epoch"]) for row in trained.history if "eval_score" in row]
                    split = "test" if "test" in data else "validation"
                    test = trained.evaluate(data, split=split)[data.task.metric]
                best, epoch = max(scores)
                found = {"validation": round(best, 4), "epoch": epoch, "epochs": scores[-1][1], split: round(test, 4)}
                append_row(RESULTS, {**dict(zip(KEY, key, strict=True)), **found, **machine()})
                print(key, found, flush=True)


if __name__ == "__main__":
    main()
