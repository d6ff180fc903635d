"""The labels among unlabeled texts: a CNN, 1,200 steps of 64 texts, of which ten in eleven are made by neighbors:10.

| labels | what a labeled text weighs |
|---|---|
| mean of the labeled | eleven times as much as beside labeled texts alone, as `HardLabelLoss` has it |
| mean of the batch | as much as beside labeled texts alone |
| none | nothing: the teacher alone |

    python benchmarks/hard_labels.py --shared SHARED --data trec --teacher TEACHER [--recipe soft-targets --weight 0.1]
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from common import append_row, machine, read_rows
from torch import Tensor

import eyas
from eyas.losses import DISTLoss, HardLabelLoss, Loss, SoftTargetLoss

RESULTS = Path(__file__).parent / "results" / "hard_labels.jsonl"


class BatchMean(HardLabelLoss):
    """The sum over the labeled texts, divided by all texts of the batch."""

    def forward(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Mapping[str, Any], progress: float = 0.0
    ) -> Tensor:
        return super().forward(student, teacher, batch, progress) * (batch["labels"] >= 0).float().mean()


LABELS = {"mean of the labeled": HardLabelLoss, "mean of the batch": BatchMean, "none": None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", required=True, help="the folder with data/")
    parser.add_argument("--data", required=True, help="a data set there")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--recipe", choices=("dist", "soft-targets"), default="dist")
    parser.add_argument("--weight", type=float, default=1.0, help="of the labels")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    source = Path(arguments.shared) / "data" / arguments.data
    known = read_rows(RESULTS)
    for seed in arguments.seeds:
        for labels, kind in LABELS.items():
            weight = arguments.weight if kind else 0.0
            case = {
                "data": arguments.data,
                "recipe": arguments.recipe,
                "labels": labels,
                "weight": weight,
                "seed": seed,
            }
            if any(case.items() <= row.items() for row in known):
                continue

            def stages(kind: Any = kind, weight: float = weight) -> list[eyas.Stage]:
                taught: Loss = DISTLoss(1.0, weight=2.0) if arguments.recipe == "dist" else SoftTargetLoss()
                return [eyas.Stage([taught, *([kind(weight=weight)] if kind else [])])]

            every = {"eval_strategy": "steps", "eval_steps": 200, "save_strategy": "steps", "save_steps": 200}
            settings = eyas.DistillSettings(recipe=stages, seed=seed, arguments={"max_steps": arguments.steps, **every})
            with tempfile.TemporaryDirectory() as folder:
                student = eyas.distill(arguments.teacher, source, Path(folder) / "s", "cnn", settings=settings)
                scores = student.evaluate(source)
            found = {name: round(float(scores[name]), 4) for name in ("accuracy", "calibration_error")}
            append_row(RESULTS, {**case, **found, "steps": arguments.steps, **machine()})


if __name__ == "__main__":
    main()
