"""What the transfer set brings: the same student, the same steps, the same teacher, other texts.

| task | labels | unlabeled text |
|---|---|---|
| sst2@100, sst2@10, sst2@1 | all of SST-2's training phrases, a tenth, a hundredth | sentences of IMDB's reviews |
| smsa | all of SmSA's | Indonesian news and manuals |
| trec, sst5 | all | none |
| kitchen, electronics | 200 reviews, beside 5,100 of the other domains | the rest of the domain, without labels |

Of SST-2, a tenth of the training texts validates (of the others their own validation split), and the
score is that of the test split. A teacher has seen the labels that its task has, no more. Rows already there are kept;
a row is one training. --masked-lm is the model that masked_lm.py makes.

    python benchmarks/transfer_set.py --shared SHARED --work FOLDER [--tasks sst2@10 ...] [--variants none tang:20 ...]
"""

import argparse
import gzip
import itertools
import json
import os
import re
import time
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import append_row, machine, read_rows, write_rows

HERE = Path(__file__).parent
TASKS = ("sst2@100", "sst2@10", "sst2@1", "smsa", "trec", "sst5", "kitchen", "electronics")
DOMAINS = ("books", "dvd", "electronics", "kitchen")
FEW = 200
SENTENCE = re.compile(r"(?<=[.!?])\s+")
# Texts of the unlabeled set: so many times the training texts, but no fewer and no more.
TIMES, FEWEST, MOST = 10, 10_000, 20_000
NONE, UNLABELED, MIXUP, SMOOTHING = "none", "unlabeled", "mixup", "smoothing"
ASKING_A_STUDENT = ("doubts", "disagreement", "learned")  # the one of the same seed that learned from `none`
VARIANTS = (NONE, MIXUP, "tang:20", "neighbors:20", UNLABELED, f"{UNLABELED}+tang:20")


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    write_rows(path, [{"text": row["text"], "label": str(row["label"])} for row in rows])


def _imdb_sentences(shared: Path, target: Path) -> None:
    """Sentences of the unlabeled reviews, of 3 to 40 words."""
    with gzip.open(shared / "data" / "imdb" / "unlabeled.jsonl.gz", "rt") as file:
        reviews = [json.loads(line)["text"].replace("<br />", " ") for line in file]
    sentences = (sentence.split() for review in reviews for sentence in SENTENCE.split(review))
    lines = [" ".join(words) for words in sentences if 3 <= len(words) <= 40]
    np.random.default_rng(0).shuffle(lines)
    target.write_text("\n".join(lines[:400_000]) + "\n")


def prepare(task: str, shared: Path, work: Path) -> Path:
    """A folder with train, perhaps validation, test, `teacher/` (training texts of the teacher) and unlabeled.txt."""
    folder = work / "data" / task
    if folder.exists():
        return folder
    making = work / "data" / f".{task}"
    making.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    data = shared / "data"
    if task.startswith("sst2"):
        lines = [line.rsplit("\t", 1) for line in (data / "sst2" / "train.tsv").read_text().splitlines()[1:]]
        rows = [{"text": text.strip(), "label": label} for text, label in lines]
        count = len(rows) * int(task.split("@")[1]) // 100
        _write(making / "train.jsonl", [rows[i] for i in random.permutation(len(rows))[:count]])
        _write(making / "test.jsonl", read_rows(data / "sst2-sentences" / "test.jsonl"))
        _imdb_sentences(shared, making / "unlabeled.txt")
    elif task == "smsa":
        for split in ("train", "validation", "test"):
            _write(making / f"{split}.jsonl", read_rows(data / "indonlu" / "smsa" / f"{split}.jsonl"))
        texts = [line for path in sorted((data / "text-id").glob("*.txt")) for line in path.read_text().splitlines()]
        (making / "unlabeled.txt").write_text("\n".join(texts))
    elif task in ("trec", "sst5"):
        splits = {path.stem: read_rows(path) for path in (data / task).glob("*.jsonl")}
        if "validation" not in splits:
            order = random.permutation(len(splits["train"]))
            splits["validation"] = [splits["train"][i] for i in order[:500]]
            splits["train"] = [splits["train"][i] for i in order[500:]]
        for split, rows in splits.items():
            _write(making / f"{split}.jsonl", rows)
    else:
        domain = {name: data / "reviews-by-domain" / name for name in DOMAINS}
        # The test split of a domain has all rows of its other splits, too.
        own = [*{row["text"]: row for row in read_rows(domain[task] / "test.jsonl")}.values()]
        others = [row for name in DOMAINS if name != task for row in read_rows(domain[name] / "train.jsonl")]
        order = random.permutation(len(own))
        few, validation, test, more = ([own[i] for i in part] for part in np.split(order, [FEW, 500, 1000]))
        parts = {"train": few, "validation": validation, "test": test}
        for split, rows in parts.items():
            _write(making / f"{split}.jsonl", rows)
        (making / "teacher").mkdir(exist_ok=True)
        _write(making / "teacher" / "train.jsonl", [*others, *few])
        _write(making / "teacher" / "validation.jsonl", validation)
        rest = [row["text"] for row in [*more, *others]]
        (making / "unlabeled.txt").write_text("\n".join(" ".join(text.split()) for text in rest))
    making.rename(folder)
    return folder


def _teacher(task: str, folder: Path, shared: Path, work: Path) -> Path:
    if task == "sst2@100":  # trained on all of its labels already
        ours = work / "teachers" / task
        if not ours.exists():
            ours.parent.mkdir(parents=True, exist_ok=True)
            ours.symlink_to(shared / "models" / "minilm-sst2")
        return ours
    from eyas import FinetuneSettings, load_data
    from eyas.demo import encoder_folder
    from eyas.training.finetune import finetune

    teacher, source = work / "teachers" / task, folder / "teacher" if (folder / "teacher").is_dir() else folder
    if teacher.exists():
        return teacher
    return finetune(encoder_folder(), load_data(source), teacher, FinetuneSettings(max_length=128))


@dataclass(frozen=True)
class Texts:
    """What a variant's students are trained on."""

    data: Any
    teacher: Any
    unlabeled: Any
    settings: Any

    @classmethod
    def of(cls, job: dict[str, Any], work: Path) -> "Texts":
        from eyas import Teacher, TransferSettings, load_data, load_unlabeled

        folder = work / "data" / job["task"]
        data, teacher = load_data(folder), Teacher(work / "teachers" / job["task"], max_length=128)
        parts = [part for part in job["variant"].split("+") if part != NONE]
        mixup, smoothing = MIXUP in parts, SMOOTHING in parts
        parts = [part for part in parts if part not in (MIXUP, SMOOTHING)]
        wild = [part for part in parts if part.startswith(UNLABELED)]
        select = [_with_source(p.removeprefix("select="), job, work) for p in parts if p.startswith("select=")]
        augment = [_with_source(part, job, work) for part in parts if part not in wild and "select=" not in part]
        size = None
        if wild:
            times = int(wild[0].partition(":")[2] or 0)
            size = times * len(data["train"]) or min(max(TIMES * len(data["train"]), FEWEST), MOST)
        unlabeled = load_unlabeled([folder / "unlabeled.txt"]) if wild else None
        blends = {"mixup": 0.4 * mixup, "smoothing": str(work / "masked-lm") * smoothing}
        return cls(data, teacher, unlabeled, TransferSettings(size, tuple(augment), tuple(select), **blends))

    def label(self) -> dict[str, Any]:
        """Make and label the texts once; what was there already costs nothing."""
        from eyas.transfer.texts import counts_of, transfer_set

        started = time.perf_counter()
        texts = transfer_set(self.data, self.teacher, self.unlabeled, self.settings)
        self.teacher.label(texts)
        return {"texts": counts_of(texts), "prepare_seconds": round(time.perf_counter() - started, 1)}


def _student(job: dict[str, Any], work: Path) -> Path:
    return work / "students" / "-".join(re.sub(r"[^\w@.=]+", "_", str(value)) for value in job.values())


def _with_source(part: str, job: dict[str, Any], work: Path) -> str:
    """A method with the folder that it works with."""
    if part.startswith("masked-lm"):
        return f"{part}:{work / 'masked-lm'}"
    first = _student({**job, "variant": NONE}, work)
    return f"{part}:{first}" if part.startswith(ASKING_A_STUDENT) else part


def run(job: dict[str, Any], about: dict[str, Any], work: Path) -> dict[str, Any]:
    """One training, on one thread; returns its row."""
    import torch

    from eyas import Classifier, DistillSettings, StudentSettings, evaluate
    from eyas.training.distill import distill

    torch.set_num_threads(1)
    texts = Texts.of(job, work)
    steps, often = job["steps"], job["steps"] // 10
    arguments = {"max_steps": steps, "eval_strategy": "steps", "eval_steps": often, "save_strategy": "steps"}
    arguments |= {"save_steps": often, "logging_strategy": "no"}
    student = StudentSettings(job["student"], max_length=128)
    settings = DistillSettings(
        student, recipe=job["recipe"], arguments=arguments, seed=job["seed"], transfer=texts.settings
    )
    started = time.perf_counter()
    out = distill(texts.teacher, texts.data, _student(job, work), settings, texts.unlabeled)
    seconds = time.perf_counter() - started
    ours, theirs = Classifier.from_pretrained(out), Classifier.from_pretrained(work / "teachers" / job["task"])
    scores, test = evaluate(ours, texts.data["test"], theirs), texts.data["test"]
    chosen = {name: scores[name] for name in ("accuracy", "macro_f1", "agreement")}
    teacher = evaluate(theirs, test)["accuracy"]
    return {**job, **chosen, "teacher_accuracy": teacher, **about, "train_seconds": round(seconds, 1), **machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", required=True, help="the folder with data/")
    parser.add_argument("--work", required=True)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--students", nargs="+", default=["bilstm"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--recipes", nargs="+", default=["logit-mse"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2000, help="of a student, 64 texts each")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", default=str(HERE / "results" / "transfer_set.jsonl"))
    arguments = parser.parse_args()
    shared, work = Path(arguments.shared).resolve(), Path(arguments.work).resolve()
    for task in arguments.tasks:
        _teacher(task, prepare(task, shared, work), shared, work)
    names = ("task", "student", "recipe", "variant", "seed")
    lists = (arguments.tasks, arguments.students, arguments.recipes, arguments.variants, arguments.seeds)
    jobs = [{**dict(zip(names, values, strict=True)), "steps": arguments.steps} for values in itertools.product(*lists)]
    done = read_rows(arguments.out)
    waiting = [job for job in jobs if not any(row.items() >= job.items() for row in done)]
    with ProcessPoolExecutor(arguments.jobs, get_context("forkserver")) as pool:

        def keep(future: Future[dict[str, Any]]) -> None:
            row = future.result()
            append_row(arguments.out, row)
            print(*(row[name] for name in (*names, "accuracy", "train_seconds")), flush=True)

        begun: list[Future[dict[str, Any]]] = []
        for (task, _, _, variant), group in itertools.groupby(waiting, lambda j: tuple(j[n] for n in names[:4])):
            several = list(group)
            if any(name in variant for name in ASKING_A_STUDENT):
                wait(begun)
            about = Texts.of(several[0], work).label()  # here, with all threads, while the workers train
            print(f"{task} {variant}: {about}", flush=True)
            for job in several:
                begun.append(pool.submit(run, job, about, work))
                begun[-1].add_done_callback(keep)


if __name__ == "__main__":
    main()
