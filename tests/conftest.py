"""Fixtures: tiny teachers trained once, students with planted weights, and the shared folder of real data."""

import gc
import itertools
import logging
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command import Command, run_command
from filelock import FileLock
from letters import LEARNS, TINY, letter_rows
from toys import NEGATIVE, POSITIVE, field_rows, toy_rows, write_jsonl, write_toy

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from eyas import DistillationTrainer, Loss, StudentSettings, Teacher
    from eyas.exam.plan import Plan
    from eyas.teachers import Encoder

__all__ = ["NEGATIVE", "POSITIVE", "toy_rows", "write_jsonl"]

# Before any library reads them: no hub, no colors in error messages, one place for caches.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["EYAS_GENERAL"] = os.devnull  # toy students start from nothing
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the same on every machine
if "PYTEST_XDIST_WORKER" in os.environ:  # two workers run at the same time
    os.environ["OMP_NUM_THREADS"] = "1"

PLANTED = Path(__file__).parent / "planted"
# Arguments for tests of a run whose score does not matter.
QUICK: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 16,
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "bf16": False,
}
# Arguments with which a tiny student learns its task.
STUDENT_ARGUMENTS = {"num_train_epochs": 15, "per_device_train_batch_size": 16, "learning_rate": 5e-3}
SMALL_EXAM: dict[str, Any] = {
    "students": [{"architecture": "static", "embedding_size": 16}],
    "seeds": [0],
    "arguments": {"num_train_epochs": 6, "per_device_train_batch_size": 16, "learning_rate": 1e-2},
    "cost": {"texts": 10, "rounds": 1},
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that start processes, node or a browser, or run an exam."""
    for item in items:
        if {"start", "browser", "scripts", "exam", "other_exam"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("process")


def pytest_collection_finish() -> None:
    """Exclude imported modules from garbage collection: accelerate collects after every training, 0.3 s each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder shared by all workers of a session."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _own_cache(session_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Do not touch the user's cache. Workers share converted graphs, which take seconds."""
    cache, graphs = tmp_path_factory.mktemp("cache"), session_folder / "graphs"
    graphs.mkdir(exist_ok=True)
    (cache / "graphs").symlink_to(graphs)
    patch = pytest.MonkeyPatch()
    patch.setenv("EYAS_CACHE", str(cache))
    yield
    patch.undo()


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(session_folder: Path) -> Once:
    """`once(name, make)`: a folder that only the first worker to request it makes."""
    root = session_folder / "once"
    root.mkdir(exist_ok=True)

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        found, made = root / name, root / f"{name}.made"
        with FileLock(root / f"{name}.lock"):
            if not made.exists():
                make(found)
                made.touch()
        return found

    return folder


# --- data, and the planted teachers of each ------------------------------------------------------------------


@pytest.fixture(scope="session")
def toys(once: Once) -> dict[str, Path]:
    """Data sets by task: films, pairs, tags, regression (of pairs), multi-label, aspects."""
    return Made(once, "toy", lambda folder, kind: write_toy(kind, folder))


@pytest.fixture(scope="session")
def toy_data(toys: dict[str, Path]) -> Path:
    """A folder with 240 training, 60 validation and 60 test rows."""
    return toys["films"]


@pytest.fixture(scope="session")
def toy_pairs(toys: dict[str, Path]) -> Path:
    """Pairs labeled with the sentiment of the second text, whatever the first says."""
    return toys["pairs"]


@pytest.fixture(scope="session")
def toy_tags(toys: dict[str, Path]) -> Path:
    """Sentences with the names of people and places, as CoNLL files."""
    return toys["tags"]


@pytest.fixture(scope="session")
def tiny_bert() -> Path:
    """A BERT of two layers, hidden size 32, random weights, and a WordPiece tokenizer."""
    return PLANTED / "tiny-bert"


@pytest.fixture(scope="session")
def encoder(tiny_bert: Path) -> "Encoder":
    """`tiny_bert` as a teacher of sentence vectors."""
    from eyas.teachers import Encoder

    return Encoder(tiny_bert, max_length=48, dtype="float32")


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of unlabeled texts, one a line."""
    path = tmp_path_factory.mktemp("lines") / "lines.txt"
    path.write_text("\n".join(dict.fromkeys(row["text"] for row in toy_rows(400))) + "\n\n\n")
    return path


@pytest.fixture(scope="session")
def teacher_folder() -> Path:
    """`tiny_bert` fine-tuned on the toy data: accurate and confident."""
    return PLANTED / "films"


@pytest.fixture(scope="session")
def pair_teacher_folder() -> Path:
    return PLANTED / "pairs"


@pytest.fixture(scope="session")
def tag_teacher_folder() -> Path:
    return PLANTED / "tags"


@pytest.fixture(scope="session")
def masked_lm(once: Once, tiny_bert: Path) -> Path:
    """A masked language model of `tiny_bert`'s shape and vocabulary, untrained."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, set_seed

    def make(folder: Path) -> None:
        set_seed(0)
        BertForMaskedLM(BertConfig.from_pretrained(tiny_bert)).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)

    return once("masked-lm", make)


# --- students ------------------------------------------------------------------------------------------------


def teach(
    teacher: "Path | Teacher",
    data: "Path | DatasetDict",
    out: Path,
    student: "StudentSettings | str" = "static",
    recipe: str = "",
    arguments: dict[str, Any] | None = None,
    unlabeled: "Dataset | None" = None,
    cache: Path | None = None,
    **settings: Any,
) -> Path:
    """`distill` for tests, with two steps unless `arguments` are given.

    Args:
        recipe: a recipe with its options, as in `tinybert mapping=top`.
        settings: other fields of `DistillSettings`.
    """
    from eyas import DistillSettings, StudentSettings, Teacher, load_data
    from eyas.training.distill import distill
    from eyas.training.recipes import parse_recipe

    name, options = parse_recipe(recipe) if recipe else ("", {})
    student = StudentSettings(student, embedding_size=16) if isinstance(student, str) else student
    chosen = DistillSettings(student, name, options, arguments=QUICK if arguments is None else arguments, **settings)
    teacher = Teacher(teacher, max_length=64, dtype="float32") if isinstance(teacher, Path) else teacher
    return distill(teacher, load_data(data), out, chosen, unlabeled, cache)


def make_trainer(
    model: Any,
    tokenizer: Any,
    train: "Dataset",
    losses: "Sequence[Loss]",
    teacher: Any,
    folder: Path,
    validation: "Dataset | None" = None,
    callbacks: Sequence[Any] = (),
    blend: Any = None,
    **arguments: Any,
) -> "DistillationTrainer":
    """A trainer with two steps unless `arguments` change it."""
    from eyas import DistillationArguments, DistillationTrainer

    return DistillationTrainer(
        model,
        DistillationArguments(output_dir=str(folder), **{**QUICK, **arguments}),
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        losses=losses,
        teacher=teacher,
        callbacks=list(callbacks),
        blend=blend,
    )


def step(model: Any, tokenizer: Any, rows: "Dataset", losses: Any, teacher: Any, folder: Path, **more: Any) -> float:
    """Train a single step and return its loss."""
    trainer = make_trainer(model, tokenizer, rows, losses, teacher, folder, **{"max_steps": 1, **more})
    return float(trainer.train().training_loss)


class Made(dict[Any, Path]):
    """Folders by key, each made on first access with `make(folder, *key)`."""

    def __init__(self, once: Once, name: str, make: Callable[..., object]) -> None:
        super().__init__()
        self.once, self.name, self.make = once, name, make

    def __missing__(self, key: Any) -> Path:
        parts = key if isinstance(key, tuple) else (key,)
        name = "-".join(map(str, (self.name, *parts)))
        self[key] = self.once(name, lambda folder: self.make(folder, *parts))
        return self[key]


@pytest.fixture(scope="session")
def taggers(once: Once, tag_teacher_folder: Path, toy_tags: Path) -> dict[str, Path]:
    """An accurate tagger of each architecture, and `bilstm-crf`, with characters and a CRF."""
    from eyas import StudentSettings, load_data

    def make(folder: Path, name: str) -> None:
        from planting import plant

        more: dict[str, Any] = {"crf": True, "char_embedding_size": 8} if name.endswith("-crf") else {}
        sizes = {"embedding_size": 16, "hidden_size": 48, "max_length": 48}
        student = StudentSettings(name.removesuffix("-crf"), **sizes, **more)
        plant(teach(tag_teacher_folder, toy_tags, folder, student), load_data(toy_tags)["train"])

    return Made(once, "tagger", make)


@pytest.fixture(scope="session")
def students(
    once: Once, teacher_folder: Path, pair_teacher_folder: Path, toy_data: Path, toy_pairs: Path
) -> dict[tuple[str, bool], Path]:
    """An accurate student of each architecture, for single texts (False) and for pairs (True)."""
    from eyas import StudentSettings, load_data

    def make(out: Path, name: str, pair: bool) -> None:
        from planting import plant

        folder, data = (pair_teacher_folder, toy_pairs) if pair else (teacher_folder, toy_data)
        student = StudentSettings(name, embedding_size=16, hidden_size=96, max_length=48)
        plant(teach(folder, data, out, student), load_data(data)["train"])

    return Made(once, "student", make)


@pytest.fixture(scope="session")
def exported(once: Once, students: dict[tuple[str, bool], Path]) -> dict[tuple[str, bool, bool], Path]:
    """Every student exported: (architecture, pair, int8) -> folder."""
    from eyas import export_model

    def make(out: Path, name: str, pair: bool, int8: bool) -> None:
        export_model(students[name, pair], out, int8=int8, min_agreement=0.8 if int8 else None)

    return Made(once, "exported", make)


# --- models that write -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def letter_data(once: Once) -> Path:
    def make(folder: Path) -> None:
        folder.mkdir()
        for seed, (name, count) in enumerate({"train": 300, "validation": 30, "test": 40}.items()):
            write_jsonl(folder / f"{name}.jsonl", letter_rows(count, seed))

    return once("letters", make)


@pytest.fixture(scope="session")
def writer_folder(once: Once, letter_data: Path) -> Path:
    """A Marian teacher that has learned most of the letters."""
    from eyas.generation import finetune
    from eyas.settings import FinetuneSettings

    settings = FinetuneSettings(arguments=LEARNS, max_length=12)
    return once("writer", lambda out: finetune(f"marian:{TINY}", letter_data, out, settings))


# --- exams ---------------------------------------------------------------------------------------------------

EXAM_TASKS, OTHER_TASKS = ("films", "tags"), ("regression", "multi-label", "aspects")


# --- rows of categorical fields ------------------------------------------------------------------------------

FIELDS_LEARNED = {"num_train_epochs": 6, "per_device_train_batch_size": 16, "learning_rate": 2e-2}


@pytest.fixture(scope="session")
def toy_fields(once: Once) -> Path:
    """A folder with 600 training, 100 validation and 100 test rows of `field_rows`."""
    import pandas

    def write(folder: Path) -> None:
        folder.mkdir()
        for name, count, start in (("train", 600, 0), ("validation", 100, 1), ("test", 100, 2)):
            pandas.DataFrame(field_rows(count, start)).to_csv(folder / f"{name}.csv", index=False)

    return once("fields", write)


@pytest.fixture(scope="session")
def cin_folder(once: Once, toy_fields: Path) -> Path:
    """A teacher of `toy_fields`."""
    import eyas

    settings, columns = eyas.FinetuneSettings(FIELDS_LEARNED), eyas.Columns(task="fields")
    return once("cin", lambda folder: eyas.finetune("cin", toy_fields, folder, settings=settings, columns=columns))


@pytest.fixture(scope="session")
def dagfm_folder(once: Once, toy_fields: Path, cin_folder: Path) -> Path:
    """Its student."""
    import eyas

    student = eyas.StudentSettings("dagfm", layers=2)
    settings = eyas.DistillSettings(student, "kd-dagfm", arguments=FIELDS_LEARNED)
    columns = eyas.Columns(task="fields")
    return once(
        "dagfm", lambda folder: eyas.distill(cin_folder, toy_fields, folder, settings=settings, columns=columns)
    )


@pytest.fixture(scope="session")
def shipped_fields(once: Once, dagfm_folder: Path) -> Path:
    """The exported student."""
    from eyas.export import export_model

    return once("shipped-fields", lambda folder: export_model(dagfm_folder, folder))


@pytest.fixture(scope="session")
def plan(teacher_folder: Path, toy_data: Path) -> "Plan":
    """The films of `exam`: a teacher in two precisions, two baselines, a student and its twin."""
    from eyas.exam.plan_file import make_plan

    data = {"source": str(toy_data), "name": "films", "augment": "none"}
    return make_plan(data=data, teacher=str(teacher_folder), **SMALL_EXAM)


def plan_of(toys: dict[str, Path], kinds: Sequence[str]) -> "Plan":
    """A plan with one data set per kind, each with its own teacher."""
    from eyas.exam.plan_file import make_plan

    data = [
        {"source": str(toys[kind]), "name": kind, "teacher": str(PLANTED / kind), "augment": "none"} for kind in kinds
    ]
    return make_plan(data=data, **SMALL_EXAM)


@pytest.fixture(scope="session")
def exam(once: Once, toys: dict[str, Path]) -> Path:
    """An uninterrupted exam on films and tags. Tests that change it use a copy."""
    from eyas.exam.run import run_exam

    return once("exam", lambda folder: run_exam(plan_of(toys, EXAM_TASKS), folder, jobs=0))


@pytest.fixture(scope="session")
def other_exam(once: Once, toys: dict[str, Path]) -> Path:
    """The same for the other tasks, without controls."""
    from eyas.exam.run import run_exam

    plan = plan_of(toys, OTHER_TASKS).model_copy(update={"twins": False})
    return once("other-exam", lambda folder: run_exam(plan, folder, jobs=0))


@pytest.fixture(scope="session")
def results(once: Once) -> Path:
    """The results of an exam that was run once, without its models; see planted/make.py."""
    return once("results", lambda folder: shutil.copytree(PLANTED / "exam", folder))


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The libraries draw their progress bars, as in a process that has not switched them off."""
    from datasets.utils import disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as of_transformers

    monkeypatch.delenv("HF_DATASETS_DISABLE_PROGRESS_BARS")
    monkeypatch.setattr(sys.modules["datasets.utils.tqdm"], "HF_DATASETS_DISABLE_PROGRESS_BARS", None)
    monkeypatch.setattr(of_transformers, "_tqdm_active", True)
    enable_progress_bars()
    yield
    disable_progress_bars()


# --- commands, processes, browsers ---------------------------------------------------------------------------


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """The command line in this process -> (exit code, stdout, stderr)."""
    from eyas.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["eyas", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    logger, on_term = logging.getLogger("eyas"), signal.getsignal(signal.SIGTERM)
    handlers, propagate, level = logger.handlers, logger.propagate, logger.level
    yield call
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
    signal.signal(signal.SIGTERM, on_term)


@pytest.fixture(scope="session")
def server() -> ForkServerContext:
    """Starts processes with torch and transformers already imported: one second each instead of ten."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["eyas.exam.trial_run", "command"])
    return context


@pytest.fixture
def start(server: ForkServerContext, tmp_path: Path) -> Callable[..., Command]:
    """`start("distill", "--teacher", ...)`: a running command."""
    numbers = itertools.count()

    def start(*arguments: object, target: Callable[..., None] = run_command, stdin: bytes = b"") -> Command:
        number = next(numbers)
        files = [tmp_path / f"{name}-{number}.log" for name in ("stdout", "stderr", "stdin")]
        files[2].write_bytes(stdin)
        files[1].touch()
        process = server.Process(target=target, args=([str(a) for a in arguments], *map(str, files)))
        process.start()
        return Command(process, files[0], files[1])

    return start


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models, `$EYAS_SHARED` or ../shared."""
    folder = Path(os.environ.get("EYAS_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data and models at {folder} (set EYAS_SHARED)")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()
