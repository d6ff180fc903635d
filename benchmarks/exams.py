"""Exams on real data sets, each with a teacher of its own: one plan here, one table in docs/benchmarks.md.

| plan | what it asks |
|---|---|
| indonlu.yaml | the twelve Indonesian sets of IndoNLU, after Nityasya et al. 2022 |
| taggers.yaml | what a CRF, characters and a teacher bring to taggers, with all labels and with a tenth of them |
| layers.yaml | which recipe over layers, which mapping, which weights, after Dankar et al. 2023 |
| authors.yaml | recipes that follow their authors' code |
| methods.yaml | every recipe at its own defaults, with its controls; one data set and seed at a time |
| grid.yaml | which loss, which mapping and which weights, of predictions and of TinyBERT's layers |
| grid_full.yaml | the same at full size, on a GPU |
| grid_students.yaml | what of it holds for a deeper student and a narrower one |
| grid_pairs.yaml | and for pairs of texts |
| grid_tasks.yaml | and on four sets, as one exam, for a narrower student too |
| attributions.yaml | what the teacher's predictions rest on, taught to a student that is no transformer |
| ensembles.yaml | several kinds of students over one table of word vectors, after Lin et al. 2024 |
| pairs.yaml | paraphrase, entailment and similarity, where small students fail |
| snips.yaml | slots and intents of spoken requests |
| defaults.yaml | what general students bring, with 200, 1,000 and all labels; read off validation |

Fine-tunes the teachers that are neither in FOLDER nor in SHARED, runs the exam, keeps its rows. It goes on where it
stopped. A data set called NAME@10 is NAME with a tenth of its training labels, the other texts are unlabeled;
NAME@n200 is NAME with 200 training texts, without the others; NAME+OTHER is NAME with OTHER's test.

    python benchmarks/exams.py indonlu --shared SHARED --work FOLDER [--jobs 2] [--only smsa nergrit]
"""

import argparse
import json
import re
import shutil
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from common import as_written, machine, write_rows
from common import read_rows as known_rows
from datasets import Dataset

from eyas import FinetuneSettings, load_data
from eyas.data.datasets import task_of
from eyas.demo import encoder_folder
from eyas.evaluation.bootstrap import compare
from eyas.exam.plan_file import read_plan
from eyas.exam.plan_parts import DataPlan
from eyas.exam.results import load_exam, predictions, read_rows
from eyas.exam.run import run_exam
from eyas.report import write_page
from eyas.training.finetune import finetune

HERE = Path(__file__).parent
MEMBERS = ("cnn-e100", "bilstm-e100", "cnn-lstm-e100")
# What makes a row of results, costs or comparisons one of a kind.
ROW = ("dataset", "kind", "model", "precision", "recipe", "other", "embeddings", "seed")
# Plans whose recipes are compared.
GRIDS = ("grid", "grid_full", "grid_students", "grid_pairs", "grid_tasks")
COMPARED = ("layers", "authors", "methods", "attributions", *GRIDS)
# The folder of data sets whose test split has all rows of the other splits, too: scored on validation instead.
DOMAINS = "reviews-by-domain"
APART = "the three kinds trained apart, mean of logits"


def _data(name: str, shared: Path, work: Path) -> None:
    """A data set, under the name that plans have for it."""
    folder = work / "data" / name
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    base, kind, more = re.fullmatch(r"([^@+]+)([@+]?)(.*)", name).groups()
    source = _shared(base, shared)
    if not kind and source.is_dir() and source.parent.name != DOMAINS:
        folder.symlink_to(source.resolve())
        return
    data = load_data(source)
    if source.parent.name == DOMAINS:
        del data["test"]
    if kind == "+":
        data["test"] = load_data(_shared(more, shared))["test"]
    elif kind == "@":
        train = data.pop("train")
        order = np.random.default_rng(0).permutation(len(train))
        count = int(more[1:]) if more[0] == "n" else len(train) * int(more) // 100
        data |= {"train": train.select(order[:count])}
        data |= {} if more[0] == "n" else {"unlabeled": train.select(order[count:])}
    folder.mkdir()
    for part, rows in data.items():
        (folder / f"{part}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in _lines(rows)))


def _shared(name: str, shared: Path) -> Path:
    folders = [shared / "data" / group / name for group in ("", "indonlu", DOMAINS)]
    folder = next(path for path in folders if path.is_dir())
    return folder / "all.jsonl" if (folder / "all.jsonl").exists() else folder


def _lines(rows: Dataset) -> list[dict]:
    names = task_of(rows).labels
    if "tokens" in rows.column_names:
        return [{"tokens": row["tokens"], "tags": [names[tag] for tag in row["label"]]} for row in rows]
    return [{"text": row["text"], "label": names[row["label"]]} for row in rows]


def compared(folder: Path) -> list[dict]:
    """Every ensemble against its best member and against the teacher: paired bootstrap over the test texts."""
    table = load_exam(folder)
    table = table[(table["status"] == "done") & (table["without"] == "")]
    rows = []
    for dataset, own in table.groupby("dataset", sort=False):
        sums = {
            key: [np.stack(predictions(folder, one)["sums"]) for one in group["key"]]
            for key, group in own.groupby(["model", "recipe", "precision"], sort=False)
        }
        members = {
            key: np.mean([part[:, 0].mean() for part in parts]) for key, parts in sums.items() if key[0] in MEMBERS
        }
        teacher, best = ("teacher", "", "fp32"), max(members, key=members.get)
        sums[APART, "logit-mse", ""] = _apart(folder, own)
        for key in (key for key in sums if key[0].startswith("ensemble") or key[0] == APART):
            for other in (best, teacher):
                found = asdict(compare(sums[key], sums[other], own["metric"].iloc[0]))
                names = {"model": key[0], "recipe": key[1], "other": other[0]}
                score = np.mean([part[:, 0].mean() for part in sums[key]])
                rows.append({"dataset": dataset, **names, "score": score, **found})
    return rows


def gains(folder: Path, seeds: Sequence[int] | None = None) -> list[dict]:
    """Every recipe against the teacher's logits, the labels alone and, where it has options, itself without: paired
    bootstrap over the test texts."""
    table = load_exam(folder)
    table = table[(table["kind"] == "student") & (table["status"] == "done") & (table["without"] == "")]
    table = table[table["seed"].isin(seeds or table["seed"])]
    rows = []
    for (dataset, model), own in table.groupby(["dataset", "model"], sort=False):
        sums = {
            recipe: [np.stack(predictions(folder, key)["sums"]) for key in group.sort_values("seed")["key"]]
            for recipe, group in own.groupby("recipe", sort=False)
        }
        for recipe in sums:
            for other in sorted({"logit-mse", "hard-labels", recipe.split()[0]} & sums.keys() - {recipe}):
                found = asdict(compare(sums[recipe], sums[other], own["metric"].iloc[0]))
                names = {"dataset": dataset, "model": model, "recipe": recipe, "other": other}
                rows.append({**names, **({"seed": seeds[0]} if seeds and len(seeds) == 1 else {}), **found})
    return rows


def teach(part: DataPlan, work: Path, encoder: str | Path, steps: int, rate: float) -> None:
    """The teacher of a data set, on one thread."""
    torch.set_num_threads(1)
    many = {"max_steps": steps, "per_device_train_batch_size": 16, "learning_rate": rate}
    between = max(steps // 6, 1)
    often = {"eval_strategy": "steps", "eval_steps": between, "save_strategy": "steps", "save_steps": between}
    settings = FinetuneSettings(arguments={**many, **often}, max_length=128, patience=6)
    finetune(encoder, load_data(work / part.source, columns=part.columns), work / part.teacher[0], settings)


def _apart(folder: Path, rows: pd.DataFrame) -> list[np.ndarray]:
    """For each seed, whether the mean of the logits of the members that were trained alone is right: [texts, 2]."""
    found = []
    for _, group in rows[rows["model"].isin(MEMBERS)].groupby("seed"):
        each = [predictions(folder, key) for key in group["key"]]
        right = sum(np.stack(one["logits"]) for one in each).argmax(1) == each[0]["label"]
        found.append(np.stack([right, np.ones(len(right))], 1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", help="a plan beside this script, without .yaml")
    parser.add_argument("--shared", required=True, help="the folder with data/")
    parser.add_argument("--work", required=True)
    parser.add_argument("--encoder", help="a pretrained encoder; by default the demo's, which is English")
    parser.add_argument("--steps", type=int, default=300, help="of a teacher, 16 texts each, on one thread")
    parser.add_argument("--rate", type=float, default=2e-4, help="learning rate of a teacher")
    parser.add_argument("--jobs", type=int, default=2, help="teachers, and then trials, at a time")
    parser.add_argument("--only", nargs="*", help="names of data sets")
    parser.add_argument("--students", nargs="*", help="names of students")
    parser.add_argument("--seeds", type=int, nargs="*", help="the plan's by default; rows of one seed are kept apart")
    arguments = parser.parse_args()
    shared, work = Path(arguments.shared).resolve(), Path(arguments.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    plan_file = work / f"{arguments.plan}.yaml"
    shutil.copy2(HERE / plan_file.name, plan_file)
    missing = []
    for entry in yaml.safe_load(plan_file.read_text())["data"]:
        part = DataPlan(**entry)
        if part.name in (arguments.only or (part.name,)):
            _data(Path(part.source).parts[1], shared, work)
            teacher = work / part.teacher[0]
            if (shared / part.teacher[0]).is_dir() and not teacher.exists():
                teacher.parent.mkdir(exist_ok=True)
                teacher.symlink_to(shared / part.teacher[0])
            if not teacher.exists():
                missing.append(part)
    if missing:
        encoder = arguments.encoder or encoder_folder()
        with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
            deque(
                pool.map(
                    teach, missing, repeat(work), repeat(encoder), repeat(arguments.steps), repeat(arguments.rate)
                ),
                0,
            )
    plan = as_written(read_plan(plan_file))  # now that data and teachers are there
    chosen = tuple(entry for entry in plan.data if entry.name in (arguments.only or {entry.name}))
    students = tuple(one for one in plan.students if one.name in (arguments.students or {one.name}))
    seeds = tuple(plan.seeds if arguments.seeds is None else arguments.seeds)
    plan = plan.model_copy(update={"data": chosen, "students": students, "seeds": seeds})
    folder = run_exam(plan, work / f"{arguments.plan}-exam", arguments.jobs)
    results = HERE / "results" / arguments.plan
    here = machine()
    before = {row["key"]: {name: row[name] for name in here} for row in known_rows(f"{results}.jsonl")}
    keep(f"{results}.jsonl", [{**row, **before.get(row["key"], here)} for row in read_rows(folder / "results.jsonl")])
    keep(f"{results}_costs.jsonl", read_rows(folder / "costs.jsonl"))
    if arguments.plan in COMPARED:
        keep(f"{results}_compared.jsonl", gains(folder, arguments.seeds))
    if arguments.plan == "ensembles":
        keep(f"{results}_compared.jsonl", compared(folder))
    write_page(folder)


def keep(path: str, rows: list[dict]) -> None:
    """Write rows to `path`, in place of those of the same models; those of other data sets and seeds stay."""
    rows = [row for row in rows if not row.get("without")]
    now = {tuple(str(row.get(name)) for name in ROW): row for row in [*known_rows(path), *rows]}
    write_rows(path, list(now.values()))


if __name__ == "__main__":
    main()
