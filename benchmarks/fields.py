"""MovieLens-100k as rows of fields: a cin teacher, its dagfm students, and dagfm on the labels alone.

A rating of 4 or 5 is a click. The first 80 % of the ratings by time are train, the next 10 % validation, the last test.

python benchmarks/fields.py --data SHARED/data/movielens-100k [--seeds 0 1 2]
"""

import argparse
import csv
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import append_row, machine

import eyas
from eyas.settings import Columns, DistillSettings, FinetuneSettings, StudentSettings

OUT = Path(__file__).parent / "results" / "fields.jsonl"
FIELDS = ("user", "item", "age", "gender", "occupation", "region", "year", "genres")
SPLITS = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}
COLUMNS = Columns(task="fields", label="click")
ARGUMENTS: dict[str, Any] = {"per_device_train_batch_size": 512, "learning_rate": 5e-3, "use_cpu": True}
# Epochs of the teacher, which learns too much from more, and of each student.
TEACHER_EPOCHS, EPOCHS = 3, 6


def joined(source: Path) -> list[dict[str, str]]:
    """The ratings with the fields of their users and films, by time."""
    users = {row[0]: row[1:] for row in csv.reader((source / "u.user").open(), delimiter="|")}
    films = {row[0]: row for row in csv.reader((source / "u.item").open(encoding="latin-1"), delimiter="|")}
    ratings = sorted(csv.reader((source / "u.data").open(), delimiter="\t"), key=lambda row: (int(row[3]), row[:2]))
    rows = []
    for user, item, rating, _ in ratings:
        age, gender, occupation, code = users[user]
        film = films[item]
        genres = "".join(film[5:])
        values = (user, item, age, gender, occupation, code[:2], film[2][-4:], genres, str(int(int(rating) >= 4)))
        rows.append(dict(zip((*FIELDS, "click"), values, strict=True)))
    return rows


def write_splits(rows: list[dict[str, str]], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, (start, end) in SPLITS.items():
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, (*FIELDS, "click"))
            writer.writeheader()
            writer.writerows(rows[round(start * len(rows)) : round(end * len(rows))])
    return folder


def multiply_adds(config: Any) -> int:
    """Multiply-adds for one row, without the look-up of its vectors."""
    fields, size = len(config.fields), config.embedding_size
    if config.model_type == "eyas-cin":
        maps, widths = [fields, *config.feature_maps], [fields * size, *config.hidden_sizes]
        interactions = sum(before * fields * size * (after + 1) for before, after in pairwise(maps))
        deep = sum(before * after for before, after in pairwise(widths))
        return interactions + deep + 2 * (sum(maps) + widths[-1])
    edges = fields * fields * size * (2 if config.interaction == "outer" else 1)  # half of them times zero
    return fields * fields * size + config.layers * (edges + fields * size) + 2 * fields * (config.layers + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write_splits(joined(given.data), Path(folder) / "data")
        for seed in given.seeds:
            run(data, Path(folder) / str(seed), seed)


def run(data: Path, folder: Path, seed: int) -> None:
    """The rows of one seed."""
    tuned, longer = (
        FinetuneSettings(arguments={**ARGUMENTS, "num_train_epochs": epochs}, seed=seed)
        for epochs in (TEACHER_EPOCHS, EPOCHS)
    )
    teacher = eyas.finetune("cin", data, folder / "teacher", settings=tuned, columns=COLUMNS)
    models = {("cin", "labels"): teacher}
    models["dagfm", "labels"] = eyas.finetune("dagfm", data, folder / "alone", settings=longer, columns=COLUMNS)
    for student in ("dagfm", "dagfm-outer"):
        settings = DistillSettings(StudentSettings(student), "kd-dagfm", arguments=longer.arguments, seed=seed)
        models[student, "kd-dagfm"] = eyas.distill(
            teacher.path, data, folder / student, settings=settings, columns=COLUMNS
        )
    whole = multiply_adds(teacher.model.config)
    for (name, recipe), model in models.items():
        scores = model.evaluate(eyas.load_data(data, COLUMNS), split="test")
        count = multiply_adds(model.model.config)
        about = {"data": "movielens-100k", "model": name, "recipe": recipe, "seed": seed}
        measured = {key: scores[key] for key in ("auc", "log_loss")}
        append_row(OUT, {**about, **measured, "multiply_adds": count, "share": count / whole, **machine()})
        print(name, recipe, measured, f"{count:,} multiply-adds, {count / whole:.1%} of the teacher's", flush=True)


if __name__ == "__main__":
    main()
