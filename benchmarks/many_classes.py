"""Which loss suits many classes: one student, the same steps, scored on validation, which also chose the checkpoint.

python benchmarks/many_classes.py --data SHARED/data/clinc150 --teacher TEACHER [--seeds 0]
"""

import argparse
import tempfile
from pathlib import Path

from common import append_row, machine

from eyas import Classifier, DistillSettings, StudentSettings, Teacher, evaluate, load_data
from eyas.training.distill import distill

OUT = Path(__file__).parent / "results" / "many_classes.jsonl"
RECIPES = (
    ("hard-labels", {}),
    ("logit-mse", {}),
    ("soft-targets", {}),
    ("soft-targets", {"temperature": 1.0, "hard_weight": 0.5}),
    ("dkd", {}),
    ("dist", {}),
    ("adakd", {}),
)
ARGUMENTS = {
    "max_steps": 2000,
    "eval_strategy": "steps",
    "eval_steps": 500,
    "save_strategy": "steps",
    "save_steps": 500,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--student", default="static")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    data, teacher = load_data(arguments.data), Teacher(arguments.teacher)
    for seed in arguments.seeds:
        for recipe, options in RECIPES:
            settings = DistillSettings(
                StudentSettings(arguments.student), recipe, options, arguments=ARGUMENTS, seed=seed
            )
            with tempfile.TemporaryDirectory() as folder:
                out = distill(teacher, data, Path(folder) / "student", settings)
                accuracy = evaluate(Classifier.load(out), data["validation"])["accuracy"]
            about = {"student": arguments.student, "recipe": recipe, "options": options, "seed": seed}
            append_row(OUT, {**about, "accuracy": accuracy, **machine()})
            print(recipe, options, f"{accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
