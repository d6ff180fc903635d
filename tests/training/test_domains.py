"""Teachers of several domains and their students: training, folders, commands, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PLANTED, QUICK, Once
from datasets import Dataset
from safetensors.torch import load_file
from toys import toy_rows, write_jsonl
from transformers import AutoModelForSequenceClassification, TrainerCallback

import eyas
from eyas import DistillSettings, FinetuneSettings, StudentSettings, load_data
from eyas.data.datasets import ids_of
from eyas.errors import DataError, EyasError, LabelError, ModelError
from eyas.exam.entries import load_entry
from eyas.exam.plan_file import make_plan, read_plan
from eyas.exam.plan_parts import DataPlan
from eyas.exam.results import load_exam
from eyas.exam.run import run_exam
from eyas.models.domains import DomainHead
from eyas.settings import TransferSettings
from eyas.teachers import MetaTeacher
from eyas.teachers.domains import DomainTexts, write_domains
from eyas.training.domains import join_domains

Run = Callable[..., tuple[int, str, str]]
SPLITS = {"train": (40, 0), "validation": (20, 1000), "test": (20, 2000)}


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reviews of films and of books."""
    root = tmp_path_factory.mktemp("domains")
    for number, name in enumerate(("films", "books")):
        (root / name).mkdir()
        for split, (count, start) in SPLITS.items():
            rows = [
                {**row, "text": row["text"].replace("film", name[:-1])}
                for row in toy_rows(count, start + 5000 * number)
            ]
            write_jsonl(root / name / f"{split}.jsonl", rows)
    return {"films": root / "films", "books": root / "books"}


def finetuned(domains: Any, out: Path, callbacks: Any = (), **arguments: Any) -> eyas.TrainedModel:
    settings = FinetuneSettings({**QUICK, **arguments}, max_length=48)
    return eyas.finetune(PLANTED / "tiny-bert", out=out, domains=domains, settings=settings, callbacks=callbacks)


@pytest.fixture(scope="module")
def folder(once: Once, domains: dict[str, Path]) -> Path:
    """A meta-teacher after two steps."""
    return once("meta-teacher", lambda out: finetuned(domains, out))


def settings_of(architecture: str = "bert", **sizes: Any) -> DistillSettings:
    layers = {"layers": 1, **sizes} if architecture == "bert" else {}
    student = StudentSettings(architecture, max_length=48, **layers)
    return DistillSettings(student, transfer=TransferSettings(augment=()), arguments=QUICK)


def test_meta_teacher_is_an_ordinary_classifier(folder: Path, domains: dict[str, Path]) -> None:
    _, info = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    teacher = MetaTeacher(folder)
    assert teacher.domain_names == ["films", "books"]
    assert teacher.head.classifier.weight.shape == (2, 32)
    ids = {name: ids_of(load_data(data)["train"]) for name, data in domains.items()}
    assert len(teacher.texts.ids) == 80
    for number, own in enumerate(ids.values()):
        found = teacher.texts.outputs({"example_id": torch.from_numpy(own)})
        assert found["domains"].tolist() == [number] * 40
        assert (found["prototype_scores"] > 0.5).all()  # the encoder's vectors of such texts are much alike


@pytest.mark.parametrize("hidden_size", [None, 16])
def test_terms_of_both_stages_are_logged(
    hidden_size: int | None, folder: Path, domains: dict[str, Path], tmp_path: Path
) -> None:
    """Also of a student that is narrower than the teacher."""
    settings = settings_of(hidden_size=hidden_size)
    student = eyas.distill(folder, domains["books"], tmp_path / "out", recipe="meta-kd", settings=settings)
    terms = [sorted(name for name in row if name.startswith("loss/")) for row in student.history]
    assert terms == [
        ["loss/AttentionLoss", "loss/DomainStateLoss", "loss/HiddenStateLoss"],
        ["loss/SoftCrossEntropyLoss"],
    ]


class _InterruptedError(Exception):
    pass


class _StopAtStep(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 7:
            raise _InterruptedError


def test_interrupted_training_resumes_with_the_same_bits(domains: dict[str, Path], tmp_path: Path) -> None:
    """Also the domain head and the shuffled domains."""
    more: Any = {"max_steps": -1, "num_train_epochs": 2, "save_strategy": "epoch"}
    whole = finetuned(domains, tmp_path / "whole", **more)
    with pytest.raises(_InterruptedError):
        finetuned(domains, tmp_path / "halves", [_StopAtStep()], **more)
    assert list((tmp_path / "halves.partial").glob("work/checkpoint-5"))
    halves = finetuned(domains, tmp_path / "halves", **more)
    for name in ("model.safetensors", "domains.safetensors"):
        first, second = load_file(whole.path / name), load_file(halves.path / name)
        assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_unknown_texts_are_of_the_domain_of_most(folder: Path, domains: dict[str, Path]) -> None:
    """Domains 0, 0, 1 with scores 0.2, 0.4, 0.9; of the asked texts, 7 is unknown."""
    texts = DomainTexts(np.array([5, 3, 4]), np.array([1, 0, 0]), np.array([0.9, 0.2, 0.4]))
    asked = {"example_id": torch.tensor([7, 4])}
    found = texts.outputs(asked)
    assert found["domains"].tolist() == [-1, 0]
    assert found["prototype_scores"].tolist() == pytest.approx([0.5, 0.4])
    texts.suppose(Dataset.from_dict({"example_id": [3, 4, 5, 9]}))
    found = texts.outputs(asked)
    assert found["domains"].tolist() == [0, 0]
    assert found["prototype_scores"].tolist() == pytest.approx([0.3, 0.4])
    books = load_data(domains["books"])
    assert MetaTeacher(folder, texts=books["train"]).texts.usual == 1
    assert MetaTeacher(folder, texts=books["test"]).texts.usual == -1


def test_domain_states_do_not_depend_on_padding(folder: Path, tmp_path: Path) -> None:
    """A head of the identity gives the mean of the tokens after the first, plus the vector of the domain."""
    head = DomainHead(2, 32)
    for parameter, value in zip(
        (head.embedding.weight, head.dense.weight, head.dense.bias),
        (torch.tensor([[1.0], [3.0]]).expand(2, 32), torch.eye(32), torch.zeros(32)),
        strict=True,
    ):
        parameter.data.copy_(value)
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file) if file.name != "domains.safetensors" else None
    write_domains(tmp_path, ["a", "b"], head, DomainTexts(np.array([1, 2]), np.array([0, 1]), np.array([0.5, 0.5])))
    teacher = MetaTeacher(tmp_path, dtype="float32")
    texts, ids = ["a film", "i found it great and lovely and moving", "a film"], torch.tensor([2, 1, 8])
    fields = ("domain_states", "hidden_states")
    both = teacher.outputs({"text": texts, "example_id": ids}, fields)
    alone = teacher.outputs({"text": texts[:1], "example_id": ids[:1]}, fields)
    tokens = alone["hidden_states"][-1][0, 1:]
    torch.testing.assert_close(alone["domain_states"][0], tokens.mean(0) + 3)
    torch.testing.assert_close(both["domain_states"][0], alone["domain_states"][0])
    torch.testing.assert_close(both["domain_states"][2], tokens.mean(0) + 2)  # of no domain: the mean of both vectors
    with pytest.raises(ModelError, match=r"has no domains\.safetensors"):
        MetaTeacher(PLANTED / "films")


@pytest.mark.process
def test_commands_make_a_meta_teacher_and_its_student(domains: dict[str, Path], tmp_path: Path, run: Run) -> None:
    named = [part for name, data in domains.items() for part in ("--domain", f"{name}={data}")]
    quick = ("--epochs", 0.25, "--batch-size", 32, "--max-length", 48)
    model = PLANTED / "tiny-bert"
    code, _, err = run("finetune", "--model", model, *named, *quick, "--out", tmp_path / "meta")
    assert code == 0, err
    assert "The teacher of books is in" in err
    assert "--recipe meta-kd" in err.splitlines()[-1]
    student = ("--recipe", "meta-kd", "--student", "bert", "--layers", 1, "--augment", "none")
    data = ("--data", domains["books"])
    code, _, err = run("distill", "--teacher", tmp_path / "meta", *data, *student, *quick, "--out", tmp_path / "out")
    assert code == 0, err
    assert "Stage 1 of 2" in err


@pytest.mark.process
def test_one_command_makes_both(domains: dict[str, Path], tmp_path: Path, run: Run, monkeypatch: Any) -> None:
    monkeypatch.setattr("eyas.training.finetune.STEPS", 2)
    monkeypatch.setattr("eyas.training.finetune.FEWEST_EPOCHS", 1)
    named = [part for name, data in domains.items() for part in ("--domain", f"{name}={data}")]
    student = ("--recipe", "meta-kd", "--student", "bert", "--layers", 1, "--augment", "none", "--epochs", 0.25)
    data = ("--data", domains["books"], "--teacher", PLANTED / "tiny-bert", "--max-length", 48)
    models = [tmp_path / name / "model.safetensors" for name in ("out-teacher", "out")]
    made = []
    for _ in range(2):  # the second finds both
        code, _, err = run("distill", *named, *data, *student, "--quiet", "--out", tmp_path / "out")
        assert code == 0, err
        made.append([model.stat().st_mtime_ns for model in models])
    assert made[0] == made[1]
    assert MetaTeacher(tmp_path / "out-teacher").domain_names == ["films", "books"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--domain", "a=films", "--domain", "a=books"), "--domain names 'a' twice"),
        (("--domain", "a=films", "--domain", "books"), "--domain is 'books', but several domains are given as"),
        (("--domain", "a=films", "--domain", "b="), "--domain is 'b='"),
        (("--domain", "a=films"), "Expected several domains (--domain), got a. For one, use data (--data)"),
        (("--domain", "a=films", "--domain", "b=x", "--data", "c"), "Expected either data (--data) or domains"),
        ((), "Expected either data (--data) or domains"),
    ],
)
def test_finetune_refuses_domains(arguments: tuple[str, ...], expected: str, tmp_path: Path, run: Run) -> None:
    code, _, err = run("finetune", "--model", PLANTED / "tiny-bert", *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert expected in " ".join(err.split())


def _rows(count: int = 40, **labels: Any) -> dict[str, list[Any]]:
    rows = toy_rows(count)
    return {"text": [row["text"] for row in rows], "label": [labels.get(row["label"], row["label"]) for row in rows]}


def _split(train: int, **labels: Any) -> dict[str, Any]:
    return {"train": _rows(train, **labels), "validation": _rows(10, **labels)}


@pytest.mark.parametrize(
    ("other", "kind", "expected"),
    [
        (_rows(positive="good", negative="bad"), LabelError, r"domain b has the labels \['bad', 'good'\], a has"),
        (_rows(1), DataError, "The domain b: "),
        (_split(2) | {"train": {"text": ["a", "a"], "label": ["negative", "positive"]}}, DataError, "1 training text"),
        (_rows(positive=None, negative=None), LabelError, "The domain b: .*no labels"),
        (_split(20) | {"validation": {"text": ["a"], "label": [None]}}, LabelError, "The domain b: .*no labels"),
        (
            {"text": list("abcdefghijkl"), "score": [0.5] * 12},
            DataError,
            "domain b has regression .*one label per text",
        ),
    ],
)
def test_domains_are_checked(other: Any, kind: type[EyasError], expected: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=expected):
        finetuned({"a": _rows(), "b": other}, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_domains_without_training_labels_are_refused() -> None:
    data = load_data(_rows())
    other = load_data(_rows())
    other["train"] = other["train"].map(lambda _: {"label": -1})
    with pytest.raises(LabelError, match="The domain b has no training text with a label"):
        join_domains({"a": data, "b": other})


def test_pairs_and_single_texts_do_not_join(toy_pairs: Path) -> None:
    pairs = load_data(toy_pairs)
    texts = load_data(_rows(positive="liked", negative="disliked"))
    with pytest.raises(DataError, match="domain b has single texts, a has pairs of texts"):
        join_domains({"a": pairs, "b": texts})


def test_texts_without_labels_learn_with_the_others(domains: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    data = load_data(domains["books"])
    data["train"] = data["train"].map(lambda _, row: {"label": -1} if row % 3 else {}, with_indices=True)
    teacher = finetuned({"books": data, "films": domains["films"]}, tmp_path / "meta")
    assert np.isfinite(teacher.history[0]["loss"])
    student = eyas.distill(folder, data, tmp_path / "out", recipe="meta-kd", settings=settings_of())
    assert np.isfinite([row["loss"] for row in student.history]).all()


def test_what_meta_kd_needs(domains: dict[str, Path], folder: Path, toy_tags: Path, tmp_path: Path) -> None:
    def distilled(teacher: Any, settings: DistillSettings, data: Any = domains["books"], **more: Any) -> Any:
        return eyas.distill(teacher, data, tmp_path / "out", recipe="meta-kd", settings=settings, **more)

    with pytest.raises(ModelError, match="needs the folder of a teacher that was fine-tuned on several domains"):
        distilled(PLANTED / "films", settings_of())
    with pytest.raises(ModelError, match="cnn is not a transformer"):
        distilled(folder, settings_of("cnn"))
    with pytest.raises(ModelError, match="cnn is not a transformer"):
        distilled(PLANTED / "tiny-bert", settings_of("cnn"), domains=domains)
    with pytest.raises(ModelError, match="ExpertiseWeights.*cannot train a tagger"):
        distilled(PLANTED / "tags", settings_of(), toy_tags)
    with pytest.raises(ModelError, match="fine-tune one encoder"):
        distilled([PLANTED / "tiny-bert"], settings_of(), domains=domains)
    others = _rows(positive="good", negative="bad")
    with pytest.raises(LabelError, match=r"data \(--data\) has the labels \['bad', 'good'\], the domains have"):
        distilled(PLANTED / "tiny-bert", settings_of(), others, domains=domains)
    assert not list(tmp_path.iterdir())


def test_small_students_are_no_meta_teachers(
    domains: dict[str, Path], students: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="is a small student, expected a transformer"):
        eyas.finetune(students["static", False], out=tmp_path / "out", domains=domains)
    assert not list(tmp_path.iterdir())


def test_exams_know_meta_teachers(folder: Path, domains: dict[str, Path]) -> None:
    entry = load_entry(DataPlan(source=str(domains["books"]), teacher=(str(folder),)))
    assert isinstance(entry.teacher.teacher, MetaTeacher)


def test_exam_makes_a_meta_teacher_first(domains: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("eyas.training.finetune.STEPS", 2)
    monkeypatch.setattr("eyas.training.finetune.FEWEST_EPOCHS", 1)
    (tmp_path / "plan.yaml").write_text(
        "data: {source: DATA, name: reviews, augment: none, domains: {films: FILMS, books: BOOKS}}\n"
        f"teacher: {PLANTED / 'tiny-bert'}\n"
        "students: [{architecture: bert, layers: 1, max_length: 48}]\n"
        "recipes: [meta-kd]\n"
        "seeds: [0]\n"
        "twins: false\n"
        "baselines: false\n"
        "arguments: {max_steps: 2, eval_strategy: 'no', save_strategy: 'no', load_best_model_at_end: false}\n"
        "cost: {texts: 10, rounds: 1}\n"
    )
    for name, source in (("DATA", "books"), ("FILMS", "films"), ("BOOKS", "books")):
        (tmp_path / name).symlink_to(domains[source])
    plan = read_plan(tmp_path / "plan.yaml")
    made = []
    for _ in range(2):  # the second run finds the teacher and the trials
        folder = run_exam(plan, tmp_path / "exam", jobs=0)
        (teacher,) = (folder / "teachers").iterdir()
        made.append((teacher / "model.safetensors").stat().st_mtime_ns)
    assert made[0] == made[1]
    assert MetaTeacher(teacher).domain_names == ["films", "books"]
    student = load_exam(folder).query("kind == 'student'").iloc[0]
    assert (student["recipe"], student["status"]) == ("meta-kd", "done")
    again = read_plan(folder / "plan.yaml").data[0]
    assert again.teacher == ()
    assert again.domains == plan.data[0].domains


def test_plans_refuse_domains_with_other_teachers(domains: dict[str, Path]) -> None:
    data = {"source": "x", "domains": {name: str(path) for name, path in domains.items()}}
    with pytest.raises(DataError, match="its teacher is one encoder"):
        make_plan(data=data, teacher=["a", "b"])


def test_exams_read_all_data_before_they_fine_tune(domains: dict[str, Path], tmp_path: Path) -> None:
    named = {name: str(path) for name, path in domains.items()}
    data = [{"source": str(domains["books"]), "domains": named}, {"source": str(tmp_path / "nowhere"), "name": "x"}]
    with pytest.raises(EyasError, match="Data set x: "):
        run_exam(make_plan(data=data, teacher=str(PLANTED / "tiny-bert")), tmp_path / "exam", jobs=0)
    assert not (tmp_path / "exam" / "teachers").exists()


def test_plans_refuse_one_domain(domains: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"data.0: Expected several domains .*, got films"):
        make_plan(data={"source": "x", "domains": {"films": str(domains["films"])}}, teacher="encoder")


def test_last_stage_teaches_every_student(domains: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    settings = settings_of("static")
    settings.recipe_options["stages"] = "last"
    student = eyas.distill(folder, domains["books"], tmp_path / "out", recipe="meta-kd", settings=settings)
    assert np.isfinite(student.predict_proba(["a great book"])).all()
