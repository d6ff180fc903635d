"""A task-agnostic student (SRA): as a sentence encoder, and as a start where labels are few.

The teacher is all-MiniLM-L6-v2, the `[demo]` extra's encoder, which was trained on many tasks but none of these. The
student reads unlabeled text once (`text-en` and SST-2's neighbors IMDB), then:

- STS-B: Spearman of cosines, teacher, student, Model2Vec's static vectors, and sentences a second on one core;
- SST-2 sentences (and TREC) with 50, 200, 1,000 and all labels: from scratch on the labels, distilled from a teacher
  of those labels, SRA and fine-tuned on the labels, SRA and distilled; test accuracy.

Rows already there are kept; a row is one training.

    python benchmarks/sentence_vectors.py --shared SHARED --work FOLDER [--lines 100000]
"""

import argparse
import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import append_row, machine, read_rows, write_rows

HERE = Path(__file__).parent
LABELS = (50, 200, 1000, 0)  # 0 = all
SETS = {"sst2": "sst2-sentences", "trec": "trec"}
START, WAYS = "sra", ("scratch", "kd", "sra", "sra+kd")


def text_lines(shared: Path, work: Path, count: int) -> Path:
    """Half of `text-en`, half of IMDB's sentences, shuffled."""
    target = work / f"lines-{count}.txt"
    if not target.exists():
        import re

        lines = [line for path in sorted((shared / "data" / "text-en").glob("*.txt")) for line in path.open()]
        with gzip.open(shared / "data" / "imdb" / "unlabeled.jsonl.gz", "rt") as file:
            reviews = [json.loads(line)["text"].replace("<br />", " ") for line in file]
        sentences = [s for review in reviews for s in re.split(r"(?<=[.!?])\s+", review) if 3 <= len(s.split()) <= 40]
        random = np.random.default_rng(0)
        parts = [[part[i] for i in random.permutation(len(part))[: count // 2]] for part in (lines, sentences)]
        both = [" ".join(line.split()[:60]) for part in parts for line in part]
        target.write_text("\n".join(both[i] for i in random.permutation(len(both))) + "\n")
    return target


def prepare(name: str, labels: int, seed: int, shared: Path, work: Path) -> Path:
    """A folder with `labels` training rows (0 = all), another draw for each seed; validation and test whole."""
    folder = work / "data" / f"{name}-{labels or 'all'}-{seed if labels else 0}"
    if folder.exists():
        return folder
    source = shared / "data" / SETS[name]
    splits = {path.stem: read_rows(path) for path in source.glob("*.jsonl")}
    train = splits["train"]
    order = np.random.default_rng(seed).permutation(len(train))
    if "validation" not in splits:
        splits["validation"] = [train[i] for i in order[-500:]]
        order = order[:-500]
    splits["train"] = [train[i] for i in order[: labels or None]]
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        write_rows(folder / f"{split}.jsonl", [{"text": row["text"], "label": str(row["label"])} for row in rows])
    return folder


def general(student: str, lines: Path, work: Path, epochs: float) -> tuple[Path, float]:
    """The pretrained student, and how long it took (0 where it was there)."""
    from eyas import DistillSettings, StudentSettings, load_unlabeled
    from eyas.demo import encoder_folder
    from eyas.teachers import Encoder
    from eyas.training.pretrain import pretrain_student

    out = work / "general" / f"{student}-{lines.stem}"
    if out.exists():
        return out, 0.0
    started = time.perf_counter()
    settings = DistillSettings(
        StudentSettings(student, max_length=64), arguments={"num_train_epochs": epochs, "logging_strategy": "no"}
    )
    encoder = Encoder(encoder_folder(), max_length=64)
    pretrain_student(encoder, load_unlabeled([lines]), out, settings)
    return out, time.perf_counter() - started


def few_labels(name: str, student: str, labels: int, way: str, seed: int, steps: int, start: Path, paths: Any) -> float:
    """Test accuracy of one training."""
    from eyas import Classifier, DistillSettings, FinetuneSettings, StudentSettings, Teacher, evaluate, load_data
    from eyas.demo import encoder_folder
    from eyas.training.distill import distill
    from eyas.training.finetune import finetune

    shared, work = paths
    data = load_data(folder := prepare(name, labels, seed, shared, work))
    often = max(steps // 10, 1)
    arguments: dict[str, Any] = {"max_steps": steps, "eval_strategy": "steps", "eval_steps": often}
    arguments |= {"save_strategy": "steps", "save_steps": often, "logging_strategy": "no"}
    out = work / "students" / f"{folder.name}-{student}-{way}-{seed}-{steps}"
    if way == START:
        finetune(start, data, out, FinetuneSettings(arguments=arguments, seed=seed))
    else:
        epochs = {} if len(data["train"]) > 1000 else {"num_train_epochs": 20, "per_device_train_batch_size": 16}
        teacher = work / "teachers" / folder.name
        if not teacher.exists():
            finetune(encoder_folder(), data, teacher, FinetuneSettings(epochs, seed=0))
        settings = StudentSettings(student, init=str(start) if START in way else None, max_length=64)
        recipe = "hard-labels" if way == "scratch" else "logit-mse"
        distill(Teacher(teacher), data, out, DistillSettings(settings, recipe, arguments=arguments, seed=seed))
    return float(evaluate(Classifier.from_pretrained(out), data["test"])["accuracy"])


def encoders(student: Path, max_length: int) -> Iterator[tuple[str, Callable[[list[str]], np.ndarray]]]:
    """(name, texts -> vectors): the teacher in bfloat16, the student on torch and in int8, Model2Vec."""
    from model2vec.distill import distill as static

    from eyas import Classifier, Predictor, export_model
    from eyas.demo import encoder_folder
    from eyas.teachers import Encoder

    yield "all-MiniLM-L6-v2", Encoder(encoder_folder(), max_length=max_length).logits
    yield student.name, Classifier.from_pretrained(student).logits
    shipped = student.with_name(f"{student.name}-int8")
    if not shipped.exists():
        export_model(student, shipped, int8=True, min_agreement=0.5)
    yield f"{student.name} int8", Predictor(shipped).logits
    yield "Model2Vec 256", static(encoder_folder(), pca_dims=256).encode


def similarity(student: Path, shared: Path) -> list[dict[str, Any]]:
    """Spearman on STS-B's test pairs, and sentences a second, the encoders side by side in turns."""
    from scipy.stats import spearmanr

    from eyas.evaluation.metrics import cosines

    rows = read_rows(shared / "data" / "stsb" / "test.jsonl")
    gold = [row["score"] for row in rows]
    texts = [[row[column] for row in rows] for column in ("text1", "text2")]
    found: list[dict[str, Any]] = []
    every = list(encoders(student, 64))
    seconds: dict[str, list[float]] = {name: [] for name, _ in every}
    for name, encode in every:
        first, second = (encode(column) for column in texts)
        score = float(spearmanr(cosines(first, second), gold).statistic)
        found.append({"kind": "similarity", "encoder": name, "spearman": score, "dimensions": first.shape[1]})
    for _ in range(5):
        for name, encode in every:
            started = time.perf_counter()
            encode(texts[0])
            seconds[name].append(time.perf_counter() - started)
    for row in found:
        row["sentences_per_second"] = len(rows) / float(np.median(seconds[row["encoder"]]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", required=True, help="the folder with data/")
    parser.add_argument("--work", required=True)
    parser.add_argument("--student", default="bilstm")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--labels", nargs="+", type=int, default=list(LABELS), help="0 = all")
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=600, help="of each training, 64 texts each")
    parser.add_argument("--out", default=str(HERE / "results" / "sentence_vectors.jsonl"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shared, work = Path(arguments.shared).resolve(), Path(arguments.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    lines = text_lines(shared, work, arguments.lines)
    start, seconds = general(arguments.student, lines, work, arguments.epochs)
    print(f"{start.name}: {seconds:.0f} s", flush=True)
    about = {"student": arguments.student, "lines": arguments.lines, "epochs": arguments.epochs}
    done = read_rows(arguments.out)
    if not any(row.items() >= {"kind": "similarity", **about}.items() for row in done):
        for row in similarity(start, shared):
            append_row(arguments.out, {**row, **about, **machine()})
    for name in arguments.sets:
        for labels in arguments.labels:
            for seed in arguments.seeds:
                for way in arguments.ways:
                    job = {"kind": "labels", "data": name, "labels": labels, "way": way, "seed": seed}
                    job |= {"steps": arguments.steps, **about}
                    if any(row.items() >= job.items() for row in done):
                        continue
                    options = (labels, way, seed, arguments.steps, start, (shared, work))
                    accuracy = few_labels(name, arguments.student, *options)
                    append_row(arguments.out, {**job, "accuracy": accuracy, **machine()})
                    print(name, labels, way, seed, f"{accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
