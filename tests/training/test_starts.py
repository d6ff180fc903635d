"""Families of pretrained students, and the students that start from them."""

import json
import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from conftest import PLANTED, QUICK, Once, teach
from torch import nn
from toys import toy_rows, write_jsonl
from transformers import AutoModelForSequenceClassification

from eyas import (
    Classifier,
    DistillSettings,
    FinetuneSettings,
    StudentSettings,
    Teacher,
    create_student,
    distill,
    load_data,
    load_unlabeled,
)
from eyas.errors import ModelError, OutputError
from eyas.evaluation.metrics import cosines
from eyas.exam.plan_file import make_plan
from eyas.exam.results import START, TEACHER, TRANSFER, candidates, load_exam
from eyas.exam.run import planned_trials, run_exam
from eyas.exam.tune import search
from eyas.general import (
    WEIGHTS,
    _checksum,
    families,
    known_words,
    read_compact,
    read_general,
    write_compact,
)
from eyas.losses import TokenStateLoss
from eyas.models import FamilyForSequenceClassification
from eyas.models.inside import run as outputs_of
from eyas.report import write_page
from eyas.report.gains import brought
from eyas.settings import TransferSettings, is_folder, is_general
from eyas.teachers import Encoder
from eyas.training.checks import drop_special_tokens
from eyas.training.finetune import finetune
from eyas.training.pretrain import pretrain_student
from eyas.training.starts import _families_by_share, with_default_start

MEMBERS = ("static", "cnn", "bilstm", "cnn-lstm")
QUICK_EPOCH: dict[str, Any] = {"num_train_epochs": 1, "per_device_train_batch_size": 16}


@pytest.fixture(scope="module")
def family_folder(once: Once, encoder: Encoder, lines: Path) -> Path:
    """One of the few trained models."""
    student = StudentSettings(f"ensemble:{','.join(MEMBERS)}", embedding_size=16, hidden_size=24, max_length=48)
    arguments = {"num_train_epochs": 8, "per_device_train_batch_size": 16, "learning_rate": 1e-2}
    settings = DistillSettings(student, arguments=arguments)
    return once("family", lambda out: pretrain_student(encoder, load_unlabeled([lines]), out, settings))


@pytest.fixture(scope="module")
def family(family_folder: Path) -> FamilyForSequenceClassification:
    return AutoModelForSequenceClassification.from_pretrained(family_folder).eval()


@pytest.fixture
def general(family_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The family as general students named toy."""
    classifier = Classifier.from_pretrained(family_folder)
    assert isinstance(classifier.model, FamilyForSequenceClassification)
    write_compact(classifier.model, classifier.tokenizer, tmp_path / "families" / "toy")
    monkeypatch.setenv("EYAS_GENERAL", str(tmp_path / "families"))
    return tmp_path / "families" / "toy"


def test_every_member_of_a_family_learns_vectors_and_token_states(
    family: FamilyForSequenceClassification, family_folder: Path, encoder: Encoder
) -> None:
    texts = [row["text"] for row in toy_rows(440)[400:]]
    inputs = Classifier.from_pretrained(family_folder).tokenizer(texts, padding=True, return_tensors="pt")
    given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    family.train()
    with torch.no_grad():
        made = outputs_of(family, given, ())
    family.eval()
    teacher = encoder.outputs({"text": texts}, ("logits", "hidden_states"))
    teacher = drop_special_tokens(teacher, inputs["attention_mask"])
    read = teacher["attention_mask"].bool()
    assert read.equal(inputs["attention_mask"].bool())
    targets = (teacher["logits"], teacher["hidden_states"][-1][read])
    for place in range(len(MEMBERS)):
        for ours, theirs in zip(
            (made["member_logits"][place], made["token_states"][place][read]), targets, strict=True
        ):
            centre = theirs.mean(0)
            near = cosines((ours - centre).numpy(), (theirs - centre).numpy()).mean()
            far = cosines((ours - centre).numpy(), (theirs.roll(1, 0) - centre).numpy()).mean()
            assert near > far + 0.1, MEMBERS[place]


def test_states_of_tokens_align_with_student_tokens(encoder: Encoder) -> None:
    """For complete texts, and for the longest text cut."""
    texts = ["awful", "a great film from start to finish"]
    found = encoder.outputs({"text": texts}, ("hidden_states",))
    length = found["attention_mask"].shape[1]
    for longest in (length - 1, length):
        mask = torch.zeros(2, longest)
        mask[0, :2], mask[1, :] = 1, 1
        if longest == length:  # the student reads one token more than both models have in common
            found["attention_mask"] = torch.ones_like(found["attention_mask"])
            mask[0] = 1
        moved = drop_special_tokens(found, mask)
        assert len(moved["hidden_states"]) == len(found["hidden_states"])
        for ours, theirs in zip(moved["hidden_states"], found["hidden_states"], strict=True):
            assert ours.shape[1] == longest
            torch.testing.assert_close(ours[:, : length - 1], theirs[:, : length - 1])


def test_token_state_loss_by_hand() -> None:
    """Two members, two texts of which one is shorter, states of two numbers; the first token does not count."""
    right, up = [1.0, 0.0], [0.0, 1.0]
    teacher = torch.tensor([[up, right, right], [up, right, [9.0, 9.0]]])
    ours = torch.tensor([[[up, right, up], [up, [2.0, 0.0], up]], [[up, right, right], [up, right, up]]])
    fields = {"hidden_states": (torch.zeros(1), teacher), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    # Tokens: cosine distances 0, 1, 0 and 0, 0, 0; squared errors 0, 2, 1 and 0, 0, 0 over two numbers each.
    expected = 1 / 6 + 3 / 12
    assert float(TokenStateLoss()({"token_states": ours}, fields, {})) == pytest.approx(expected)


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("tagging", [False, True])
def test_student_starts_with_its_members_encoder(
    name: str,
    tagging: bool,
    family: FamilyForSequenceClassification,
    family_folder: Path,
    teacher_folder: Path,
    tag_teacher_folder: Path,
    toy_data: Path,
    toy_tags: Path,
) -> None:
    teacher, data = (tag_teacher_folder, toy_tags) if tagging else (teacher_folder, toy_data)
    settings = StudentSettings(name, init=str(family_folder), max_length=48, crf=tagging)
    student, tokenizer = create_student(settings, Teacher(teacher, max_length=48), load_data(data)["train"])
    weights: dict[str, Any] = dict(student.state_dict())
    encoder = family.token_encoder(name) if tagging else family.encoder(name)
    for key, value in encoder.state_dict().items():
        assert torch.equal(weights[f"encoder.{key}"], value)
    assert not hasattr(student.config, "tokens")
    known = Classifier.from_pretrained(family_folder).tokenizer.get_vocab()
    mine = tokenizer.get_vocab()
    assert known.keys() <= mine.keys()  # subwords that the task's texts lack stay
    row = weights["embeddings.weight"][mine["tedious"]]
    assert torch.equal(row, family.embeddings.weight[known["tedious"]])


def test_ensemble_starts_with_several_members(
    family: FamilyForSequenceClassification, family_folder: Path, teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    settings = StudentSettings("ensemble:bilstm,static", init=str(family_folder), max_length=48)
    student: Any = create_student(settings, Teacher(teacher_folder), load_data(toy_data)["train"])[0]
    for name, member in zip(("bilstm", "static"), student.members, strict=True):
        for key, value in family.encoder(name).state_dict().items():
            assert torch.equal(member.encoder.state_dict()[key], value)
    out = teach(teacher_folder, toy_data, tmp_path / "out", settings)
    assert Classifier.from_pretrained(out).model.config.members == ["bilstm", "static"]


def test_recurrent_member_reads_texts_and_words_with_one_encoder(family: FamilyForSequenceClassification) -> None:
    assert family.token_encoder("bilstm") is family.encoder("bilstm")
    assert set(family.token_encoders) == {"static", "cnn", "cnn-lstm"}


def test_tagger_refuses_a_family_without_token_states(
    encoder: Encoder, lines: Path, tag_teacher_folder: Path, toy_tags: Path, tmp_path: Path
) -> None:
    """With the sentence vectors alone, as in the paper, they are computed once."""
    student = StudentSettings("cnn", embedding_size=16, hidden_size=24, max_length=48)
    settings = DistillSettings(student, recipe_options={"states_weight": 0.0}, arguments=QUICK_EPOCH)
    folder = pretrain_student(encoder, load_unlabeled([lines]), tmp_path / "out", settings)
    assert not any("token" in name for name in Classifier.from_pretrained(folder).model.state_dict())
    with pytest.raises(ModelError, match="states_weight"):
        create_student(
            StudentSettings("cnn", init=str(folder)), Teacher(tag_teacher_folder), load_data(toy_tags)["train"]
        )
    with pytest.raises(ModelError, match="token states"):
        finetune(folder, load_data(toy_tags), tmp_path / "x")


def test_token_states_are_for_families_alone(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="states_weight=0"):
        teach(teacher_folder, toy_data, tmp_path / "out", "cnn", "sra states_weight=1")


@pytest.mark.process
@pytest.mark.parametrize("members", [("bilstm",), ("static", "cnn")])
def test_finetune_makes_student_or_ensemble_of_family(
    members: tuple[str, ...], encoder: Encoder, lines: Path, toy_data: Path, toy_tags: Path, tmp_path: Path
) -> None:
    architecture = members[0] if len(members) == 1 else f"ensemble:{','.join(members)}"
    student = StudentSettings(architecture, embedding_size=16, hidden_size=24, max_length=48)
    settings = DistillSettings(student, arguments={**QUICK_EPOCH, "num_train_epochs": 4})
    folder = pretrain_student(encoder, load_unlabeled([lines]), tmp_path / "family", settings)
    tuning = FinetuneSettings(arguments={**QUICK_EPOCH, "learning_rate": 1e-6})
    before: Any = Classifier.from_pretrained(folder).model
    tuned: Any = Classifier.from_pretrained(finetune(folder, load_data(toy_data), tmp_path / "tuned", tuning)).model
    parts = [tuned] if len(members) == 1 else list(tuned.members)
    for name, part in zip(members, parts, strict=True):
        for key, value in before.encoder(name).state_dict().items():
            torch.testing.assert_close(part.encoder.state_dict()[key], value, atol=1e-3, rtol=0)
    if len(members) > 1:
        with pytest.raises(ModelError, match="tagging"):
            finetune(folder, load_data(toy_tags), tmp_path / "tagger", tuning)
        return
    tagger = Classifier.from_pretrained(finetune(folder, load_data(toy_tags), tmp_path / "tagger", tuning))
    assert tagger.task.is_tagging
    assert tagger.model.get_buffer("continues").any()


def test_compact_family_keeps_weights_to_half_a_step(
    general: Path, family: FamilyForSequenceClassification, family_folder: Path
) -> None:
    read, tokenizer = read_compact(general)
    assert (
        tokenizer.backend_tokenizer.to_str()
        == Classifier.from_pretrained(family_folder).tokenizer.backend_tokenizer.to_str()
    )
    assert (general / WEIGHTS).stat().st_size < (family_folder / "model.safetensors").stat().st_size / 3
    kept, whole = read.state_dict(), family.state_dict()
    for name, weight in whole.items():
        if "head" in name or not weight.is_floating_point():
            continue
        largest = weight.abs().amax(1, keepdim=True) if weight.dim() == 2 else weight.abs()
        step = largest / 127 if weight.dim() == 2 else largest * 2**-10
        assert bool(((kept[name] - weight).abs() <= 0.51 * step + largest * 2**-10 + 1e-7).all()), name
    assert not read.training


def test_known_words_are_whole_tokens(family_folder: Path) -> None:
    tokenizer = Classifier.from_pretrained(family_folder).tokenizer.backend_tokenizer
    assert "tedious" in tokenizer.get_vocab()
    assert known_words(tokenizer, ["tedious film , tedious!"], 48) == 1.0
    assert known_words(tokenizer, ["tedious zzz"], 48) == 0.5  # spelled with letters
    assert known_words(tokenizer, ["tedious \u4e2d"], 48) == 0.5  # an unknown character
    assert known_words(tokenizer, ["", " ", "?!"], 48) == 0.0


def test_default_start_is_the_family_that_knows_the_words(
    general: Path, teacher_folder: Path, toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def start(data: Path, student: StudentSettings, recipe: str = "") -> str | None:
        settings = DistillSettings(student, recipe)
        return with_default_start(settings, load_data(data), Teacher(teacher_folder).tokenizer).student.init

    with caplog.at_level(logging.INFO, "eyas"):
        assert start(toy_data, StudentSettings("cnn")) == "general-toy"
    assert "starts from general-toy, which knows" in caplog.text
    assert "--init none" in caplog.text
    assert start(toy_data, StudentSettings("ensemble:cnn,static")) == "general-toy"
    assert start(toy_data, StudentSettings("cnn", vocab_size=100)) == "general-toy"
    assert start(toy_data, StudentSettings("cnn", init="none")) == "none"
    smoothed = DistillSettings(StudentSettings("cnn"), transfer=TransferSettings(smoothing="model"))
    tokenizer = Teacher(teacher_folder).tokenizer
    assert with_default_start(smoothed, load_data(toy_data), tokenizer).student.init is None
    wanted = replace(smoothed, student=StudentSettings("cnn", init="general"))
    with pytest.raises(ModelError, match="smoothing .* teacher's subwords, and init .* is general"):
        with_default_start(wanted, load_data(toy_data), tokenizer)
    others: list[dict[str, Any]] = [{"embeddings": "random"}, {"embedding_size": 8}, {"hidden_size": 30}]
    for other in [*others, {"char_embedding_size": 8}]:
        assert start(toy_data, StudentSettings("cnn", **other)) is None
        if {"embedding_size", "hidden_size"} & other.keys():
            wanted = StudentSettings("cnn", init="general", **other)
            with pytest.raises(ModelError, match="keeps its own"):
                distill(Path("tests/planted/films"), toy_data, tmp_path / "x", wanted)
    assert start(toy_data, StudentSettings("bert", layers=1)) is None
    assert start(toy_data, StudentSettings("cnn"), "ad-kd") is None  # compares tokens with the teacher's
    rows = [{"text": f"kucing itu tidur di rumah {n}", "label": str(n % 2)} for n in range(60)]
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for split in ("train", "validation"):
        write_jsonl(foreign / f"{split}.jsonl", rows)
    assert start(foreign, StudentSettings("cnn")) is None
    assert start(foreign, StudentSettings("cnn", init="general")) == "general-toy"


def test_both_sides_of_pairs_decide_the_start(general: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eyas.training.starts.SAMPLE_TEXTS", 20)
    monkeypatch.setattr("eyas.general.SAMPLE_TEXTS", 20)
    rows = {"text": [f"tedious film {n}" for n in range(40)], "text_pair": [f"zzz qqq {n}" for n in range(40)]}
    data = load_data({name: {**rows, "label": ["0", "1"] * 20} for name in ("train", "validation")})
    ((_, share),) = _families_by_share(StudentSettings("cnn"), data["train"])
    assert 0.4 < share < 0.8  # of the first sides alone, all words but the numbers


def test_general_students_of_no_installation_are_refused(toy_data: Path, teacher_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no general students"):
        distill(teacher_folder, toy_data, tmp_path / "a", StudentSettings("cnn", init="general"))
    with pytest.raises(ModelError, match="general-fr.*expected one of general"):
        distill(teacher_folder, toy_data, tmp_path / "b", StudentSettings("cnn", init="general-fr"))
    with pytest.raises(ModelError, match="transformer"):
        distill(teacher_folder, toy_data, tmp_path / "c", StudentSettings("bert-tiny", init="general"))
    assert not list(tmp_path.glob("[abc]*"))


@pytest.mark.process
def test_distill_and_exam_make_the_same_student_and_the_exam_says_what_its_parts_brought(
    general: Path, teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    """By default from the general student and with new texts; the exam's student has the same weights."""
    arguments = {"num_train_epochs": 1}
    settings = DistillSettings(StudentSettings("static"), arguments=arguments)
    folder = distill(teacher_folder, toy_data, tmp_path / "student", settings=settings).path
    plan = make_plan(
        data=str(toy_data), teacher=str(teacher_folder), students=["static"], seeds=[0], baselines=False,
        arguments=arguments, cost={"texts": 10, "rounds": 1},
    )  # fmt: skip
    exam = run_exam(plan, tmp_path / "exam", jobs=0)
    trials = load_exam(exam)
    rows = trials[trials["kind"] == "student"].set_index(["recipe", "without"])
    student = rows.loc[("logit-mse", "")]
    assert student["start"] == "general-toy"
    made = exam / "trials" / student["key"] / "student"
    assert (made / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    others = {START: ("logit-mse", START), TRANSFER: ("logit-mse", TRANSFER), TEACHER: ("hard-labels", "")}
    assert set(rows.index) == {("logit-mse", ""), *others.values()}
    assert set(rows["steps"]) == {student["steps"]}
    assert student["steps"] == math.ceil(student["transfer_texts"] / 64)
    assert rows.loc[others[START], "start"] == "none"
    assert rows.loc[others[TRANSFER], "transfer"] == ""
    assert rows.loc[others[TEACHER], "start"] == "general-toy"  # a twin differs in the teacher alone
    table = candidates(trials)
    assert sorted(table["kind"]) == ["student", "student", "teacher", "teacher"]
    table["winner"] = table["recipe"] == "logit-mse"
    found = {row.part: row for row in brought(exam, trials, table)}
    assert found.keys() == others.keys()
    for part, place in others.items():
        assert found[part].score == rows.loc[place, "score"]
        assert found[part].gain.difference == pytest.approx(student["score"] - rows.loc[place, "score"])
        assert found[part].gain.low <= found[part].gain.difference <= found[part].gain.high
    assert [found[part].what for part in (START, TRANSFER, TEACHER)] == ["general-toy", "neighbors:10", "logit-mse"]
    page = write_page(exam).read_text()
    assert "What each part brought" in page
    assert "Students start from general-toy: static." in page
    before = {path: path.stat().st_mtime_ns for path in exam.glob("trials/*/result.json")}
    run_exam(plan, exam, jobs=0)
    assert {path: path.stat().st_mtime_ns for path in exam.glob("trials/*/result.json")} == before


def test_pretrained_vocabulary_may_be_reduced(
    family_folder: Path, family: FamilyForSequenceClassification, teacher_folder: Path, toy_data: Path
) -> None:
    settings = StudentSettings("cnn", init=str(family_folder), vocab_size=60)
    student, tokenizer = create_student(settings, Teacher(teacher_folder), load_data(toy_data)["train"])
    assert len(tokenizer) <= 60
    known, mine = Classifier.from_pretrained(family_folder).tokenizer.get_vocab(), tokenizer.get_vocab()
    table = cast(nn.Embedding, student.get_input_embeddings()).weight
    for token in mine.keys() & known.keys() - {"[PAD]"}:
        assert torch.equal(table[mine[token]], family.embeddings.weight[known[token]]), token


def test_new_weights_of_the_general_student_make_another_run(
    general: Path, teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    """A finished folder of a general student that has changed is refused, not returned."""
    settings = DistillSettings(StudentSettings("static"), arguments=QUICK)
    distill(teacher_folder, toy_data, tmp_path / "out", settings=settings)
    distill(teacher_folder, toy_data, tmp_path / "out", settings=settings)
    other = general.with_name("better")
    shutil.copytree(general, other)
    family, tokenizer = read_compact(other)
    family.embeddings.weight.data += 0.1
    shutil.rmtree(other)
    shutil.rmtree(general)
    write_compact(family, tokenizer, general)
    _checksum.cache_clear()  # another process would not know the old one
    with pytest.raises(OutputError, match="init"):
        distill(teacher_folder, toy_data, tmp_path / "out", settings=settings)


def test_all_recipes_of_a_student_in_an_exam_start_alike(general: Path, teacher_folder: Path, toy_data: Path) -> None:
    """ad-kd compares tokens with the teacher's, so it cannot start from the general student, nor may its controls."""
    starts = {}
    for recipes, embeddings in (
        (["logit-mse"], ["teacher"]),
        (["logit-mse", "ad-kd"], ["teacher"]),
        ([], ["teacher", "random"]),
    ):
        plan = make_plan(
            data=str(toy_data), teacher=str(teacher_folder), students=["cnn"], seeds=[0], recipes=recipes,
            embeddings=embeddings,
        )  # fmt: skip
        trials = [trial for trial in planned_trials(plan) if trial.kind == "student"]
        starts[len(recipes), len(embeddings)] = {trial.student.init for trial in trials if trial.student}
        assert {trial.model for trial in trials} == {"cnn"}
    assert starts == {(1, 1): {None}, (2, 1): {"none"}, (0, 2): {"none"}}


def test_search_leaves_the_sizes_of_a_start(
    general: Path, teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    arguments = {"max_steps": 2, "per_device_train_batch_size": 16, "eval_strategy": "epoch"}
    plan = make_plan(
        data=str(toy_data), teacher=str(teacher_folder), students=["static"], seeds=[0], arguments=arguments
    )
    trial = next(trial for trial in planned_trials(plan) if trial.kind == "student")
    assert search(trial, 1, tmp_path / "tuning").keys() == {"learning_rate", "dropout"}
    new = replace(trial, student=replace(trial.student, init="none"))
    assert "hidden_size" in search(new, 1, tmp_path / "tuning-new")


def test_pretraining_refuses_at_once_what_cannot_compare_tokens(encoder: Encoder, lines: Path, tmp_path: Path) -> None:
    def pretrain(student: StudentSettings) -> None:
        pretrain_student(encoder, load_unlabeled([lines]), tmp_path / "out", DistillSettings(student, arguments=QUICK))

    with pytest.raises(ModelError, match=r"--vocab-size.*states_weight=0"):
        pretrain(StudentSettings("static", vocab_size=60))
    with pytest.raises(ModelError, match="init"):
        pretrain(StudentSettings("static", init="general"))
    assert not list(tmp_path.glob("out*"))


def test_pretraining_reads_no_more_of_a_text_than_the_encoder(tiny_bert: Path, lines: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.txt"
    long.write_text(lines.read_text() + " ".join(["a great film"] * 60) + "\n")
    short = Encoder(tiny_bert, max_length=10, dtype="float32")
    settings = DistillSettings(StudentSettings("static", embedding_size=16, max_length=200), arguments=QUICK)
    folder = pretrain_student(short, load_unlabeled([long]), tmp_path / "out", settings)
    assert Classifier.from_pretrained(folder).model.config.max_length == 10


def test_pretraining_goes_on_from_a_family(
    family: FamilyForSequenceClassification, family_folder: Path, encoder: Encoder, lines: Path, tmp_path: Path
) -> None:
    student = StudentSettings("ensemble:cnn,bilstm", init=str(family_folder), max_length=48)
    arguments = {**QUICK, "learning_rate": 1e-9}
    settings = DistillSettings(student, recipe_options={"states_weight": 0.0}, arguments=arguments)
    folder = pretrain_student(encoder, load_unlabeled([lines]), tmp_path / "out", settings)
    longer: Any = Classifier.from_pretrained(folder).model
    for name in ("cnn", "bilstm"):
        for key, value in family.encoder(name).state_dict().items():
            torch.testing.assert_close(longer.encoder(name).state_dict()[key], value)


def test_ensemble_of_equal_members_has_no_default_start(general: Path, teacher_folder: Path, toy_data: Path) -> None:
    teacher = Teacher(teacher_folder).tokenizer
    settings = DistillSettings(StudentSettings("ensemble:cnn,cnn"))
    assert with_default_start(settings, load_data(toy_data), teacher).student.init is None


def test_tagger_does_not_start_from_a_family_without_states_or_capitals(
    general: Path, tag_teacher_folder: Path, toy_tags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eyas.training.starts.FEWEST_KNOWN", 0.0)
    data, settings = load_data(toy_tags), DistillSettings(StudentSettings("cnn"))
    teacher = Teacher(tag_teacher_folder).tokenizer
    assert with_default_start(settings, data, teacher).student.init == "general-toy"

    def cased(text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}

    assert with_default_start(settings, data, cased).student.init is None
    config = json.loads((general / "config.json").read_text())
    (general / "config.json").write_text(json.dumps({**config, "tokens": False}))
    assert with_default_start(settings, data, teacher).student.init is None


def test_general_students_are_also_ordinary_families(
    family_folder: Path, family: FamilyForSequenceClassification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").symlink_to(family_folder)
    monkeypatch.setenv("EYAS_GENERAL", str(tmp_path))
    assert list(families()) == ["general-mine"]
    assert torch.equal(read_general("general-mine")[0].embeddings.weight, family.embeddings.weight)


def test_folder_that_is_called_general_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "general-models").mkdir()
    assert is_folder("general-models")
    assert not is_general("general-models")
    assert is_general("general-fr")
    assert not is_folder("general-fr")
    assert not is_folder(None)
    assert is_folder("general/mine")
    assert not is_general("general/mine")


def test_tagger_that_is_fine_tuned_from_a_byte_level_family_separates_words(
    lines: Path, toy_tags: Path, tmp_path: Path
) -> None:
    encoder = Encoder(PLANTED / "byte-level", max_length=48, dtype="float32")
    settings = DistillSettings(StudentSettings("static", embedding_size=16, max_length=48), arguments=QUICK)
    folder = pretrain_student(encoder, load_unlabeled([lines]), tmp_path / "family", settings)
    tuned = finetune(folder, load_data(toy_tags), tmp_path / "tagger", FinetuneSettings(arguments=QUICK))
    tagger: Any = Classifier.from_pretrained(tuned)
    first = tagger.tokenizer.backend_tokenizer.encode("anna", add_special_tokens=False).ids[0]
    assert not tagger.model.continues[first]
