"""Multi30k, English to German: a teacher from scratch, students of 2 + 1 layers by each recipe.

    python benchmarks/generation.py --shared SHARED --work WORK [--seeds 1] [--recipes word-kd ...]
        [--teacher-layers 6] [--teacher-epochs 8] [--student-epochs 4] [--toy] [--speed]

Scores are BLEU and chrF on test_2016_flickr, greedy and with 4 beams. "hard-labels" is a student alone, from the
teacher's layers; "hard-labels random" one that starts from nothing. Rows in results/generation.jsonl are not made
again, and interrupted trainings go on. `--speed`, afterwards and with nothing else running, measures the exported
models in turns: greedy, one text at a time on one thread. `--toy` tries it in minutes with small models and some data.

A step of a teacher of 6 + 6 layers (64 pairs) takes about 1.1 seconds of one core (AVX-512), so 8 epochs take about
70 minutes of one core.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from common import append_row, machine, read_rows, write_rows

from eyas import Columns, DistillSettings, FinetuneSettings, StudentSettings, export_model
from eyas.generation import RECIPES, TextGenerator, distill, evaluate, finetune, load_pairs
from eyas.runtime.generation import GenerationPredictor
from eyas.verbosity import set_verbosity_info

RESULTS = Path(__file__).parent / "results" / "generation.jsonl"
COLUMNS = Columns(text="en", label="de")
LENGTH, BEAMS, TIMED, ROUNDS = 64, 4, 100, 5
TEACHER = "marian:hidden_size=256,heads=4,feed_forward=1024,vocab_size=8000,layers="
TOY = "marian:layers=2,hidden_size=32,heads=2,feed_forward=64,vocab_size=500"
TOY_ROWS = {"train": 640, "validation": 64, "test": 32}


def folder_of(work: Path, model: str, seed: int) -> Path:
    return work / (model if model == "teacher" else f"{model.replace(' ', '-')}-{seed}")


def measure_speed(results: Path, rows: list[dict[str, Any]], work: Path, texts: list[str]) -> None:
    """Add texts a second, and how many times the teacher's rate: medians over rounds in which all take turns."""
    keys = [(row["model"], row["seed"]) for row in rows]
    predictors = [GenerationPredictor(work / f"{folder_of(work, *key).name}-shipped") for key in keys]
    times: list[list[float]] = [[] for _ in keys]
    for _ in range(ROUNDS):
        for predictor, own in zip(predictors, times, strict=True):
            started = time.perf_counter()
            predictor.predict(texts)
            own.append(time.perf_counter() - started)
    teacher = times[keys.index(("teacher", 0))]
    for row, own in zip(rows, times, strict=True):
        row["per_second"] = round(len(texts) / statistics.median(own), 1)
        row["times_teacher"] = round(statistics.median(t / o for t, o in zip(teacher, own, strict=True)), 2)
        print(row["model"], row["seed"], row["per_second"], row["times_teacher"])
    others = [row for row in read_rows(results) if row["teacher_layers"] != rows[0]["teacher_layers"]]
    write_rows(results, [*others, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--recipes", nargs="+", default=["hard-labels random", *RECIPES])
    parser.add_argument("--teacher-layers", type=int, default=6)
    parser.add_argument("--teacher-epochs", type=int, default=8)
    parser.add_argument("--student-epochs", type=int, default=4)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--speed", action="store_true")
    arguments = parser.parse_args()
    set_verbosity_info()
    results = arguments.work / "toy.jsonl" if arguments.toy else RESULTS
    data: Any = load_pairs(arguments.shared / "data" / "multi30k", COLUMNS)
    if arguments.toy:
        data = {name: rows.select(range(TOY_ROWS[name])) for name, rows in data.items()}
    mine = [row for row in read_rows(results) if row["teacher_layers"] == arguments.teacher_layers]
    done = {(row["model"], row["seed"], row["epochs"]) for row in mine}
    test = data["test"]
    if arguments.speed:
        measure_speed(results, mine, arguments.work, list(test["source"])[:TIMED])
        return

    def score(model: str, seed: int, folder: Path, epochs: int) -> None:
        row = {"model": model, "seed": seed, "epochs": epochs, "teacher_layers": arguments.teacher_layers}
        for name, beams in (("greedy", 1), ("beam", BEAMS)):
            found = evaluate(TextGenerator.from_pretrained(folder, beams), test)
            row |= {f"{name}_bleu": round(found["bleu"], 2), f"{name}_chrf": round(found["chrf"], 2)}
        shipped = arguments.work / f"{folder.name}-shipped"
        export_model(folder, shipped, min_agreement=0.9)
        row["megabytes"] = round(sum(file.stat().st_size for file in shipped.glob("*.onnx")) / 1e6, 1)
        print(row, flush=True)
        append_row(results, {**row, **machine()})

    teacher = arguments.work / "teacher"
    epochs = 2 if arguments.toy else arguments.teacher_epochs
    settings = FinetuneSettings(arguments={"num_train_epochs": epochs}, max_length=LENGTH)
    finetune(TOY if arguments.toy else f"{TEACHER}{arguments.teacher_layers}", data, teacher, settings)
    if ("teacher", 0, epochs) not in done:
        score("teacher", 0, teacher, epochs)
    epochs = 2 if arguments.toy else arguments.student_epochs
    for seed in range(arguments.seeds):
        for name in arguments.recipes:
            if (name, seed, epochs) in done:
                continue
            recipe, _, init = name.partition(" ")
            student = StudentSettings(layers=2, decoder_layers=1, init=init or None, max_length=LENGTH)
            folder = folder_of(arguments.work, name, seed)
            settings = DistillSettings(student, recipe, arguments={"num_train_epochs": epochs}, seed=seed)
            distill(str(teacher), data, folder, settings)
            score(name, seed, folder, epochs)


if __name__ == "__main__":
    main()
