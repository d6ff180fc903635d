"""What a step of each recipe costs, in steps of hard-labels: the same student, teacher and batches, in turns.

The student is two of the teacher's six layers, the teacher runs in every step where a recipe reads its layers (its
logits are on disk, as in `distill`). Writes the rows, and the ratios that `eyas recipes` shows.

    python benchmarks/recipe_cost.py --data DATA --teacher TEACHER
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import machine, write_rows
from transformers import TrainerCallback, set_seed

from eyas import (
    RECIPES,
    CombinedTeacher,
    DistillationArguments,
    DistillationTrainer,
    StudentSettings,
    Teacher,
    load_data,
)
from eyas.models.inside import EACH
from eyas.training.arguments import fast_precision
from eyas.training.recipes import COSTS, Stage, make_stages
from eyas.training.students import create_student
from eyas.training.theseus import Replacing

ROWS, BATCH, STEPS, WARM = 640, 32, 20, 4
OPTIONS = {"meta-kd": {"domain_weight": 0}}  # a teacher of one domain


class StepTimes(TrainerCallback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """A step: the mean of both halves' medians, since what a recipe does can change on the way (theseus)."""
        times = [b - a for a, b in zip(self.ends, self.ends[1:], strict=False)]
        half = len(times) // 2
        return statistics.fmean([statistics.median(times[WARM:half]), statistics.median(times[half:])])


def seconds(stage: Stage, teacher: Teacher, cached: Any, data: Any) -> float:
    """A step of `stage`."""
    set_seed(0)
    settings = StudentSettings("bert", layers=2, max_length=64)
    model, tokenizer = create_student(settings, teacher, data["train"], teacher.label_names)  # times, not scores
    times = StepTimes()
    callbacks: list[Any] = [times]
    if stage.replacing:
        callbacks.append(Replacing(model, teacher.model, stage.replacing))
    with tempfile.TemporaryDirectory() as folder:
        arguments = DistillationArguments(
            folder,
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            eval_strategy="no",
            save_strategy="no",
            load_best_model_at_end=False,
            **fast_precision({}),
        )
        source = None if not stage.needs_teacher else teacher if stage.needs_layers else cached
        if EACH in stage.teacher_fields:
            source = CombinedTeacher([teacher, teacher], members=[cached, cached])
        DistillationTrainer(
            model,
            arguments,
            train_dataset=data["train"],
            processing_class=tokenizer,
            losses=stage.losses,
            teacher=source,
            callbacks=callbacks,
        ).train()
    return times.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", default="benchmarks/results/recipe_cost.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, teacher = load_data(arguments.data), Teacher(arguments.teacher, max_length=64)
    data["train"] = data["train"].select(range(ROWS))
    cached = teacher.label(data["train"])
    seconds(make_stages("hard-labels")[0], teacher, cached, data)  # warms up
    rows: list[dict[str, Any]] = [{"recipe": "hard-labels", "cost": 1.0, **machine()}]  # the unit
    for name in (name for name in RECIPES if name != "hard-labels"):
        ratios = []
        for _ in range(arguments.rounds):
            hard = seconds(make_stages("hard-labels")[0], teacher, cached, data)
            stages = make_stages(name, OPTIONS.get(name))
            ratios.append(statistics.fmean(seconds(stage, teacher, cached, data) for stage in stages) / hard)
        rows.append({"recipe": name, "cost": round(statistics.median(ratios), 2), "ratios": ratios, **machine()})
        print(name, rows[-1]["cost"], flush=True)
    write_rows(arguments.out, rows)
    costs = {row["recipe"]: row["cost"] for row in rows if row["recipe"] in RECIPES}
    Path(COSTS).write_text(json.dumps(costs, indent=1) + "\n")


if __name__ == "__main__":
    main()
