"""Real tiny models and data, made once a session; the shared folder of real ones where there is one."""

import itertools
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command import run_command
from filelock import FileLock
from tagging import sentences, write_conll

if TYPE_CHECKING:
    from eyas.exam.plan import Plan

# Before any library reads them: no hub, no colours in error messages, one place for caches.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the same on every machine
if "PYTEST_XDIST_WORKER" in os.environ:  # two run side by side
    os.environ["OMP_NUM_THREADS"] = "1"

POSITIVE = ["great", "lovely", "superb", "charming", "moving", "witty"]
NEGATIVE = ["awful", "boring", "dreadful", "clumsy", "tedious", "flat"]
TEACHER_ARGUMENTS = {
    "num_train_epochs": 10,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-3,
    "bf16": False,
}
STUDENT_ARGUMENTS = {"num_train_epochs": 15, "per_device_train_batch_size": 16, "learning_rate": 5e-3}
EXAM_STUDENTS = [
    {"architecture": "static", "embedding_size": 16},
    {"architecture": "cnn", "embedding_size": 16, "hidden_size": 96},
]
SMALL_EXAM: dict[str, Any] = {
    "students": EXAM_STUDENTS,
    "seeds": [0],
    "arguments": {"num_train_epochs": 6, "per_device_train_batch_size": 16, "learning_rate": 5e-3},
    "cost": {"texts": 10, "rounds": 1},
}
FRAMES = [
    "a {} film",
    "the plot is {} and the cast is {}",
    "i found it {}",
    "{} from start to finish , with a {} ending",
    "not a minute of it is anything but {}",
]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from or left in the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("EYAS_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`once(name, make)`: a folder that is made by the first worker who asks for it, and by no other."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"
    root.mkdir(exist_ok=True)

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        found, made = root / name, root / f"{name}.made"
        with FileLock(root / f"{name}.lock"):
            if not made.exists():
                make(found)
                made.touch()
        return found

    return folder


def toy_rows(count: int, start: int = 0) -> list[dict[str, str]]:
    """Sentences whose sentiment a small model can learn; the same for the same arguments."""
    rows = []
    for number in range(start, start + count):
        label, words = ("positive", POSITIVE) if number % 2 else ("negative", NEGATIVE)
        frame = FRAMES[number // 2 % len(FRAMES)]
        first, second = words[number // 3 % len(words)], words[number // 7 % len(words)]
        rows.append({"text": f"{frame.format(first, second)} {number}", "label": label})
    return rows


def write_jsonl(path: Path, rows: list[dict[str, object]] | list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def toy_data(once: Once) -> Path:
    """A folder with 240 training, 60 validation and 60 test rows."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for name, count, start in (("train", 240, 0), ("validation", 60, 1000), ("test", 60, 2000)):
            write_jsonl(folder / f"{name}.jsonl", toy_rows(count, start))

    return once("toy", make)


@pytest.fixture(scope="session")
def toy_pairs(once: Once) -> Path:
    """Pairs whose label is the sentiment of the second text, whatever the first says."""
    names = {"positive": "liked", "negative": "disliked"}

    def make(folder: Path) -> None:
        folder.mkdir()
        for name, count, start in (("train", 240, 0), ("validation", 60, 1000)):
            seconds = toy_rows(count, start)
            firsts = [seconds[number * 7 % count] for number in range(count)]
            rows = zip(firsts, seconds, strict=True)
            pairs = [{"text1": a["text"], "text2": b["text"], "label": names[b["label"]]} for a, b in rows]
            write_jsonl(folder / f"{name}.jsonl", pairs)

    return once("pairs", make)


@pytest.fixture(scope="session")
def toy_tags(once: Once) -> Path:
    """Sentences with the names of people and places, as CoNLL files."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for name, count, start in (("train", 160, 0), ("validation", 40, 1000), ("test", 40, 2000)):
            write_conll(folder / f"{name}.conll", sentences(count, start))

    return once("tags", make)


@pytest.fixture(scope="session")
def tiny_bert(once: Once) -> Path:
    """A BERT of two layers, hidden size 32, random weights, and a WordPiece tokenizer."""
    return once("tiny-bert", _tiny_bert)


def _tiny_bert(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

    words = sorted({word for row in toy_rows(400) for word in row["text"].split()} - set(map(str, range(400))))
    characters = sorted(set("".join(words)) | set("0123456789"))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters), *words]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    set_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def teacher_folder(once: Once, tiny_bert: Path, toy_data: Path) -> Path:
    """`tiny_bert` fine-tuned on the toy data."""
    return once("teacher", lambda out: _teacher(out, tiny_bert, toy_data))


@pytest.fixture(scope="session")
def pair_teacher_folder(once: Once, tiny_bert: Path, toy_pairs: Path) -> Path:
    return once("pair-teacher", lambda out: _teacher(out, tiny_bert, toy_pairs))


def _teacher(out: Path, encoder: Path, data: Path, epochs: int = 10) -> Path:
    from eyas import FinetuneSettings, load_data
    from eyas.training.finetune import finetune

    settings = FinetuneSettings(arguments={**TEACHER_ARGUMENTS, "num_train_epochs": epochs}, max_length=64)
    return finetune(encoder, load_data(data), out, settings)


@pytest.fixture(scope="session")
def tag_teacher_folder(once: Once, tiny_bert: Path, toy_tags: Path) -> Path:
    return once("tag-teacher", lambda out: _teacher(out, tiny_bert, toy_tags, epochs=20))


@pytest.fixture(scope="session")
def masked_lm(once: Once, tiny_bert: Path) -> Path:
    """A masked language model of `tiny_bert`'s shape and vocabulary, trained on nothing."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, set_seed

    def make(folder: Path) -> None:
        set_seed(0)
        BertForMaskedLM(BertConfig.from_pretrained(tiny_bert)).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)

    return once("masked-lm", make)


class Made(dict[Any, Path]):
    """Folders by key, each made when it is first asked for, by `make(folder, *key)`."""

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
    """Each architecture distilled to tag, and `bilstm-crf`, with characters and a CRF."""
    from eyas import DistillSettings, StudentSettings, Teacher, load_data
    from eyas.training.distill import distill

    sizes = {"embedding_size": 16, "hidden_size": 48, "max_length": 48}
    arguments = {**STUDENT_ARGUMENTS, "num_train_epochs": 30}

    def make(folder: Path, name: str) -> None:
        more = {"crf": True, "char_embedding_size": 8} if name.endswith("-crf") else {}
        student = StudentSettings(name.removesuffix("-crf"), **sizes, **more)
        settings = DistillSettings(student, "logit-mse", arguments=arguments)
        distill(Teacher(tag_teacher_folder, max_length=64), load_data(toy_tags), folder, settings)

    return Made(once, "tagger", make)


@pytest.fixture(scope="session")
def students(
    once: Once,
    teacher_folder: Path,
    pair_teacher_folder: Path,
    toy_data: Path,
    toy_pairs: Path,
) -> dict[tuple[str, bool], Path]:
    """Each architecture distilled for single texts (False) and for pairs (True)."""
    from eyas import DistillSettings, StudentSettings, Teacher, load_data
    from eyas.training.distill import distill

    def make(out: Path, name: str, pair: bool) -> None:
        folder, data = (pair_teacher_folder, toy_pairs) if pair else (teacher_folder, toy_data)
        student = StudentSettings(name, embedding_size=16, hidden_size=96, max_length=48)
        settings = DistillSettings(student, arguments=STUDENT_ARGUMENTS)
        distill(Teacher(folder, max_length=64), load_data(data), out, settings)

    return Made(once, "student", make)


@pytest.fixture(scope="session")
def exported(once: Once, students: dict[tuple[str, bool], Path]) -> dict[tuple[str, bool, bool], Path]:
    """Every student exported: (architecture, pair, int8) -> folder."""
    from eyas import export_model

    def make(out: Path, name: str, pair: bool, int8: bool) -> None:
        export_model(students[name, pair], out, int8=int8, min_agreement=0.9 if int8 else None)

    return Made(once, "exported", make)


@pytest.fixture(scope="session")
def plan(teacher_folder: Path, toy_data: Path) -> "Plan":
    """Teacher in two precisions, two baselines, two students with a twin each: eight trials."""
    from eyas.exam.plan_file import make_plan

    return make_plan(data=str(toy_data), teacher=str(teacher_folder), **SMALL_EXAM)


@pytest.fixture(scope="session")
def exam(once: Once, plan: "Plan") -> Path:
    """`plan`, run without a disturbance."""
    from eyas.exam.run import run_exam

    return once("exam", lambda folder: run_exam(plan, folder))


@dataclass
class Command:
    """The command line in a process of its own, as a user starts it (but with the imports done already)."""

    process: BaseProcess
    stdout: Path
    stderr: Path

    def wait(self, timeout: float = 120) -> int:
        self.process.join(timeout)
        assert self.process.exitcode is not None, self.stderr.read_text()
        return self.process.exitcode

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Until `text` stands in its stderr."""
        end = time.monotonic() + timeout
        while text not in self.stderr.read_text():
            assert self.process.is_alive(), self.stderr.read_text()
            assert time.monotonic() < end, self.stderr.read_text()
            time.sleep(0.01)


@pytest.fixture(scope="session")
def server() -> ForkServerContext:
    """Starts processes that have torch and transformers imported: a second each instead of ten."""
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


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process -> (exit code, stdout, stderr)."""

    from eyas.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["eyas", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


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
