"""Learning rates of a recipe's stages, for a transformer of three of the teacher's layers: validation score.

Each stage has its steps and its rate; batches of 32, bfloat16 where the processor has it, one seed.

    python benchmarks/learning_rates.py --shared SHARED --data trec --teacher TEACHER --recipe tinybert \\
        --steps 400 200 --rates 5e-4 3e-4
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from common import append_row, machine

import eyas
from eyas.training.recipes import make_stages

RESULTS = Path(__file__).parent / "results" / "learning_rates.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", required=True, help="the folder with data/")
    parser.add_argument("--data", required=True, help="a data set there")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--steps", type=int, nargs="+", required=True, help="of each stage")
    parser.add_argument("--rates", type=float, nargs="+", required=True, help="of each stage")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    total, every = sum(arguments.steps), sum(arguments.steps) // 6

    def stages() -> list[eyas.Stage]:
        return [
            replace(stage, length=steps / total, arguments={**stage.arguments, "learning_rate": rate})
            for stage, steps, rate in zip(make_stages(arguments.recipe), arguments.steps, arguments.rates, strict=True)
        ]

    often = {"eval_strategy": "steps", "eval_steps": every, "save_strategy": "steps", "save_steps": every}
    settings = eyas.DistillSettings(
        student=eyas.StudentSettings("bert", layers=3, max_length=64),
        recipe=stages,
        arguments={"max_steps": total, "per_device_train_batch_size": 32, **often},
        transfer=eyas.TransferSettings(augment=()),
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(arguments.shared) / "data" / arguments.data
        student = eyas.distill(arguments.teacher, source, Path(folder) / "student", settings=settings)
        scores = [row for row in student.history if "eval_score" in row]
    last = [round(row["eval_score"], 4) for row in scores if row["stage"] == len(arguments.steps) - 1]
    first = [round(row["eval_score"], 4) for row in scores if row["stage"] == 0]
    known = {"data": arguments.data, "recipe": arguments.recipe, "steps": arguments.steps, "rates": arguments.rates}
    append_row(RESULTS, {**known, "validation": max(last), "after_first_stage": first[-1], **machine()})


if __name__ == "__main__":
    main()
