"""Multi30k, English to German: a teacher from scratch, students of 2 + 1 layers by each recipe.

    python benchmarks/generation.py --shared SHARED --work WORK [--seeds 1] [--recipes word-kd ...]
        [--teacher-layers 6] [--teacher-epochs 8] [--student-epochs 4] [--toy]

Scores are BLEU and chrF on test_2016_flickr, greedy and with 4 beams; `per_second` are texts a second of the exported
model, greedy, one text at a time on one thread. "hard-labels" is a student alone, from the teacher's layers;
"hard-labels random" one that starts from nothing. Rows in results/generation.jsonl are not made again, and interrupted
trainings go on. `--toy` tries it in minutes with small models and some of the data.

A step of a teacher of 3 + 3 layers (64 pairs) takes about 0.55 seconds of one core (AVX-512), so 12 epochs take about
50 minutes of one core; one of 6 + 6 layers takes twice as long.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from common import append_row, machine, read_rows

from eyas import Columns, DistillSettings, FinetuneSettings, StudentSettings, export_model
from eyas.generation import RECIPES, TextGenerator, distill, evaluate, finetune, load_pairs
from eyas.runtime.generation import GenerationPredictor
from eyas.verbosity import set_verbosity_info

RESULTS = Path(__file__).parent / "results" / "generation.jsonl"
COLUMNS = Columns(text="en", label="de")
LENGTH, BEAMS, TIMED = 64, 4, 200
TEACHER = "marian:hidden_size=256,heads=4,feed_forward=1024,vocab_size=8000,layers="
TOY = "marian:layers=2,hidden_size=32,heads=2,feed_forward=64,vocab_size=500"
TOY_ROWS = {"train": 640, "validation": 64, "test": 32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--recipes", nargs="+", default=["hard-labels random", *RECIPES])
    parser.add_argument("--teacher-layers", type=int, default=3)
    parser.add_argument("--teacher-epochs", type=int, default=12)
    parser.add_argument("--student-epochs", type=int, default=12)
    parser.add_argument("--toy", action="store_true")
    arguments = parser.parse_args()
    set_verbosity_info()
    results = arguments.work / "toy.jsonl" if arguments.toy else RESULTS
    data: Any = load_pairs(arguments.shared / "data" / "multi30k", COLUMNS)
    if arguments.toy:
        data = {name: rows.select(range(TOY_ROWS[name])) for name, rows in data.items()}
    mine = [row for row in read_rows(results) if row["teacher_layers"] == arguments.teacher_layers]
    done = {(row["model"], row["seed"], row["epochs"]) for row in mine}
    test = data["test"]

    def score(model: str, seed: int, folder: Path, seconds: float, epochs: int) -> None:
        row = {
            "model": model,
            "seed": seed,
            "epochs": epochs,
            "teacher_layers": arguments.teacher_layers,
            "training_seconds": round(seconds),
        }
        for name, beams in (("greedy", 1), ("beam", BEAMS)):
            found = evaluate(TextGenerator.from_pretrained(folder, beams), test)
            row |= {f"{name}_bleu": round(found["bleu"], 2), f"{name}_chrf": round(found["chrf"], 2)}
        shipped = arguments.work / f"{folder.name}-shipped"
        export_model(folder, shipped, min_agreement=0.9)
        predictor, texts = GenerationPredictor(shipped), list(test["source"])[:TIMED]
        started = time.perf_counter()
        predictor.predict(texts)
        row["per_second"] = round(len(texts) / (time.perf_counter() - started), 1)
        row["megabytes"] = round(sum(file.stat().st_size for file in shipped.glob("*.onnx")) / 1e6, 1)
        print(row, flush=True)
        append_row(results, {**row, **machine()})

    started, teacher = time.time(), arguments.work / "teacher"
    epochs = 2 if arguments.toy else arguments.teacher_epochs
    settings = FinetuneSettings(arguments={"num_train_epochs": epochs}, max_length=LENGTH)
    finetune(TOY if arguments.toy else f"{TEACHER}{arguments.teacher_layers}", data, teacher, settings)
    if ("teacher", 0, epochs) not in done:
        score("teacher", 0, teacher, time.time() - started, epochs)
    epochs = 2 if arguments.toy else arguments.student_epochs
    for seed in range(arguments.seeds):
        for name in arguments.recipes:
            if (name, seed, epochs) in done:
                continue
            recipe, _, init = name.partition(" ")
            student = StudentSettings(layers=2, decoder_layers=1, init=init or None, max_length=LENGTH)
            started, folder = time.time(), arguments.work / f"{name.replace(' ', '-')}-{seed}"
            settings = DistillSettings(student, recipe, arguments={"num_train_epochs": epochs}, seed=seed)
            distill(str(teacher), data, folder, settings)
            score(name, seed, folder, time.time() - started, epochs)


if __name__ == "__main__":
    main()
