"""What distillation is for beyond size (after Sarfraz et al. 2020): does a teacher help against damaged labels?

Training labels are wrong, or of unequal classes, and the teacher learned from the same ones: a fine-tuned encoder, or
a model of the student's own size (self-distillation: its twin on the labels alone). That twin, with other seeds, is the
control. All students have as many steps. Scores, calibration errors and agreement are those of exported students on
the clean test texts. Clean validation texts choose the checkpoint. An interrupted run resumes.

    python benchmarks/beyond_size.py --shared SHARED --work FOLDER [--only trec] [--teachers self] [--seeds 0]
        [--levels clean "noise 40 %"] [--steps 1500]
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import as_written, machine, write_rows
from common import read_rows as known_rows

from eyas import DistillSettings, FinetuneSettings, StudentSettings, Teacher, load_data
from eyas.data.damage import Damage, damaged
from eyas.data.task_data import TaskData
from eyas.demo import encoder_folder
from eyas.exam.plan_file import make_plan
from eyas.exam.results import read_rows
from eyas.exam.run import run_exam
from eyas.settings import NO_START, TransferSettings
from eyas.training.distill import distill
from eyas.training.finetune import finetune

ROWS = Path(__file__).parent / "results" / "beyond_size.jsonl"
SETS = ("trec", "sst2-sentences", "clinc150")
LEVELS: dict[str, dict[str, Any]] = {
    "clean": {},
    **{f"noise {share} %": {"label_noise": share / 100} for share in (10, 20, 40)},
    **{f"imbalance {ratio}": {"imbalance": ratio} for ratio in (10, 50)},
}
# Those that read logits: others run the encoder in each step, or do not fit a teacher of the student's kind.
RECIPES = (
    *("logit-mse", "soft-targets", "soft-targets hard_weight=0.5", "soft-targets loss=huber"),
    *("annealing", "continuation", "adakd", "dkd", "dist"),
)
# Arguments of the encoder's training where the default, here three epochs, is short for the number of classes.
LONGER = {"clinc150": {"num_train_epochs": 10}}
OWN = ("set", "level", "teacher")
# The seed of the model that teaches itself; students have others.
OTHER_SEED = 100


def _teacher(kind: str, source: Path, level: str, student: str, work: Path) -> Path:
    """The model that learned from the damaged labels."""
    data = load_data(source)
    if LEVELS[level]:
        data = TaskData({**data, "train": damaged(data["train"], Damage(**LEVELS[level]), _no_logits)})
    folder = work / "teachers" / f"{source.name} {level}".replace(" ", "-")
    encoder = finetune(encoder_folder(), data, folder, FinetuneSettings(LONGER.get(source.name, {})))
    if kind == "encoder":
        return encoder
    alone = DistillSettings(
        StudentSettings(student, init=NO_START), "hard-labels", transfer=TransferSettings(augment=()), seed=OTHER_SEED
    )
    return distill(Teacher(encoder), data, folder.with_name(f"{folder.name}-{student}"), alone)


def _no_logits(_: Any) -> np.ndarray:
    raise AssertionError("only noise by confusion asks the teacher")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", required=True, help="the folder with data/")
    parser.add_argument("--work", required=True)
    parser.add_argument("--only", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--levels", nargs="*", choices=LEVELS, default=LEVELS)
    parser.add_argument("--teachers", nargs="*", choices=("self", "encoder"), default=("self", "encoder"))
    parser.add_argument("--recipes", nargs="*", default=RECIPES)
    parser.add_argument("--student", default="cnn")
    parser.add_argument("--steps", type=int, default=1500, help="of every student, of 64 texts each")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    between = arguments.steps // 10
    often = {"eval_strategy": "steps", "eval_steps": between, "save_strategy": "steps", "save_steps": between}
    work, shared = Path(arguments.work).resolve(), Path(arguments.shared).resolve()
    for name in arguments.only:
        for level in arguments.levels:
            for kind in arguments.teachers:
                source = shared / "data" / name
                teacher = _teacher(kind, source, level, arguments.student, work)
                # Labels alone are the same with either teacher.
                recipes = [*arguments.recipes, *(["hard-labels"] if kind == arguments.teachers[0] else [])]
                plan = make_plan(
                    data={"source": str(source), "name": name, "augment": "none", **LEVELS[level]},
                    teacher=str(teacher),
                    students=[arguments.student],
                    recipes=recipes,
                    seeds=arguments.seeds,
                    arguments={"max_steps": arguments.steps, **often},
                    precision="fp32",
                    twins=False,
                    baselines=False,
                    cost={"texts": 10, "rounds": 1},
                )
                folder = run_exam(as_written(plan), work / f"{name} {level} {kind}".replace(" ", "-"), arguments.jobs)
                own = {"set": name, "level": level, "teacher": kind}
                made = [row for row in read_rows(folder / "results.jsonl") if not row.get("without")]
                others = [row for row in known_rows(ROWS) if {key: row[key] for key in OWN} != own]
                write_rows(ROWS, [*others, *({**row, **own, **machine()} for row in made)])


if __name__ == "__main__":
    main()
