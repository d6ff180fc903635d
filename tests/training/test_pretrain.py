"""Students of sentence vectors: pretrained, fine-tuned, distilled into, loaded by sentence-transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import QUICK, Once, teach
from toys import toy_rows, write_jsonl
from transformers import BertModel, TrainerCallback

from eyas import (
    Classifier,
    DistillSettings,
    FinetuneSettings,
    Predictor,
    StudentSettings,
    Teacher,
    create_student,
    export_model,
    load_data,
    load_unlabeled,
)
from eyas.errors import DataError, ModelError
from eyas.evaluation.metrics import cosines
from eyas.evaluation.similarity import evaluate_similarity
from eyas.teachers import Encoder
from eyas.teachers.encoder import pooled
from eyas.training.finetune import finetune
from eyas.training.folders import read_history
from eyas.training.pretrain import pretrain_student

SIZES: dict[str, Any] = {"embedding_size": 16, "hidden_size": 24, "max_length": 48}
ARGUMENTS: dict[str, Any] = {"num_train_epochs": 20, "per_device_train_batch_size": 16}


@pytest.fixture(scope="module")
def general(once: Once, encoder: Encoder, lines: Path) -> Path:
    """One of the few trained models."""
    settings = DistillSettings(StudentSettings("cnn", **SIZES), arguments=ARGUMENTS)
    return once("general", lambda out: pretrain_student(encoder, load_unlabeled([lines]), out, settings))


def test_pretrained_student_approximates_teacher_vectors(general: Path, encoder: Encoder) -> None:
    texts = [row["text"] for row in toy_rows(440)[400:]]
    ours, theirs = Classifier.from_pretrained(general).logits(texts), encoder.logits(texts)
    assert ours.shape == theirs.shape == (len(texts), encoder.model.config.hidden_size)
    others = np.roll(theirs, 1, axis=0)
    centre = theirs.mean(0)
    near, far = (cosines(ours - centre, vectors - centre).mean() for vectors in (theirs, others))
    assert near > 0.4
    assert near > far + 0.2


def test_pretraining_chooses_checkpoint_by_vectors(general: Path, encoder: Encoder) -> None:
    """Validation scores are cosines with the teacher's vectors, not with vectors rounded to integers."""
    history = [json.loads(line) for line in (general / "training_history.jsonl").read_text().splitlines()]
    best = max(entry["eval_score"] for entry in history if "eval_score" in entry)
    texts = [json.loads(line)["text"] for line in (general / "validation_sample.jsonl").read_text().splitlines()]
    scores = cosines(Classifier.from_pretrained(general).logits(texts), encoder.logits(texts))
    assert best == pytest.approx(float(scores.mean()), abs=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_encoder_pools_without_padding(pooling: Any, tiny_bert: Path) -> None:
    encoder = Encoder(tiny_bert, pooling=pooling, max_length=48, dtype="float32")
    inputs = encoder.tokenize(["a great film"])
    with torch.no_grad():
        states = BertModel.from_pretrained(tiny_bert)(**inputs).last_hidden_state[0]
    expected = states.mean(0) if pooling == "mean" else states[0]
    both = encoder.logits(["a great film", "a film that is longer than the other one"])
    np.testing.assert_allclose(both[0], expected.detach().numpy(), atol=1e-5)
    assert pooled(torch.ones(1, 2, 3), torch.zeros(1, 2), "mean").abs().max() == 0


def test_encoder_reads_pooling_from_folder(tiny_bert: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(tiny_bert, tmp_path / "encoder"))
    assert Encoder(folder).pooling == "mean"
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert Encoder(folder).pooling == "cls"
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ModelError, match=r"max_tokens.*mean or cls"):
        Encoder(folder)
    with pytest.raises(ModelError, match="'max'"):
        Encoder(folder, pooling="max")  # type: ignore[arg-type]


@pytest.mark.process
@pytest.mark.parametrize("pair", [False, True])
def test_finetune_accepts_pretrained_student(
    pair: bool, general: Path, toy_data: Path, toy_pairs: Path, tmp_path: Path
) -> None:
    data = load_data(toy_pairs if pair else toy_data)
    settings = FinetuneSettings(arguments={"num_train_epochs": 1, "per_device_train_batch_size": 16})
    folder = finetune(general, data, tmp_path / "tuned", settings)
    tuned, before = Classifier.from_pretrained(folder), Classifier.from_pretrained(general).model.state_dict()
    assert tuned.task.kind == "classification"
    assert tuned.pair is pair
    weights = tuned.model.state_dict()
    before = {name.removeprefix("members.0."): value for name, value in before.items()}
    taken = [name for name in weights if name in before and before[name].shape == weights[name].shape]
    apart = [float((before[name] - weights[name]).abs().mean() / before[name].abs().mean()) for name in taken]
    assert 0 < np.median(apart) < 0.5  # training continues from its weights
    export_model(folder, tmp_path / "shipped", int8=True, min_agreement=0)
    row = data["validation"][0]
    texts = ([row["text"]], [row["text_pair"]]) if pair else ([row["text"]],)
    assert Predictor(tmp_path / "shipped").logits(*texts).shape == (1, 2)


def test_create_student_starts_from_pretrained_student(
    general: Path, teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    teacher, data = Teacher(teacher_folder, max_length=48), load_data(toy_data)
    settings = StudentSettings("cnn", init=str(general), max_length=48)
    student, tokenizer = create_student(settings, teacher, data["train"])
    theirs = Classifier.from_pretrained(general)
    assert len(tokenizer) == len(theirs.tokenizer)
    ours, whole = (dict(model.named_parameters()) for model in (student, theirs.model))
    kernel = "encoder.convolution.kernels.0.weight"
    assert torch.equal(ours[kernel], whole[f"members.0.{kernel}"])
    token = tokenizer.convert_ids_to_tokens(20)
    there = theirs.tokenizer.convert_tokens_to_ids(token)
    assert torch.equal(ours["embeddings.weight"][20], whole["embeddings.weight"][there])
    out = teach(teacher, data, tmp_path / "s", settings)
    assert Classifier.from_pretrained(out).task.kind == "classification"


def test_create_student_refuses_incompatible_pretrained_student(
    general: Path, teacher_folder: Path, toy_data: Path, toy_tags: Path, tmp_path: Path
) -> None:
    teacher, train = Teacher(teacher_folder, max_length=48), load_data(toy_data)["train"]
    with pytest.raises(ModelError, match=r"no bilstm, only cnn"):
        create_student(StudentSettings("bilstm", init=str(general)), teacher, train)
    with pytest.raises(ModelError, match=r"hidden_size 24.* 50"):
        create_student(StudentSettings("cnn", init=str(general), hidden_size=50), teacher, train)
    with pytest.raises(ModelError, match=r"cnn .*--init"):
        create_student(StudentSettings("cnn", init="first"), teacher, train)
    with pytest.raises(ModelError, match="--embeddings or --init"):
        create_student(StudentSettings("cnn", init=str(general), embeddings="random"), teacher, train)
    with pytest.raises(ModelError, match=r"no static, only cnn"):
        create_student(StudentSettings("ensemble:cnn,static", init=str(general)), teacher, train)


@pytest.mark.parametrize("recipe", ["tinybert", "minilmv2"])
def test_pretraining_teaches_layers(
    recipe: str, encoder: Encoder, teacher_folder: Path, toy_data: Path, tmp_path: Path
) -> None:
    """TinyBERT's general stage on other texts, then a student of a task that starts from it."""
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"a great film {number}\n" for number in range(60)))
    settings = DistillSettings(StudentSettings("bert", layers=1, max_length=48), recipe, arguments=QUICK)
    folder = pretrain_student(encoder, load_unlabeled([lines]), tmp_path / "g", settings)
    student = StudentSettings("bert", init=str(folder), max_length=48)
    out = teach(Teacher(teacher_folder, max_length=48), toy_data, tmp_path / "s", student, recipe)
    made = Classifier.from_pretrained(out)
    assert made.model.config.num_hidden_layers == 1
    assert not (folder / "modules.json").exists()  # its head is untrained
    known = set(Classifier.from_pretrained(folder).tokenizer.get_vocab())
    assert set(made.tokenizer.get_vocab()) - known  # subwords that only the task's texts have


def test_pretraining_runs_all_given_steps_in_the_stages_that_it_keeps(
    encoder: Encoder, lines: Path, tmp_path: Path
) -> None:
    arguments = {"max_steps": 4, "per_device_train_batch_size": 16, "logging_strategy": "steps", "logging_steps": 1}
    settings = DistillSettings(StudentSettings("bert", layers=1, max_length=48), "tinybert", arguments=arguments)
    folder = pretrain_student(encoder, load_unlabeled([lines]), tmp_path / "general", settings)
    assert [row["step"] for row in read_history(folder) if "loss" in row] == [1, 2, 3, 4]


def test_pretraining_refuses_unusable_input(encoder: Encoder, lines: Path, toy_pairs: Path, tmp_path: Path) -> None:
    texts = load_unlabeled([lines])
    with pytest.raises(ModelError, match=r"logit-mse.*sra"):
        pretrain_student(encoder, texts, tmp_path / "a", DistillSettings(StudentSettings("cnn"), "logit-mse"))
    few = tmp_path / "few.txt"
    few.write_text("one text\nanother one\n" * 20)
    with pytest.raises(DataError, match="at least 20 different texts, got 2"):
        pretrain_student(encoder, load_unlabeled([few]), tmp_path / "b")
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [{"text1": f"a {n}", "text2": "b"} for n in range(30)])
    with pytest.raises(DataError, match="pairs"):
        pretrain_student(encoder, load_unlabeled([pairs]), tmp_path / "c")
    dull = Encoder(encoder.model, encoder.tokenizer, max_length=48, dtype="float32")
    dull._run = lambda inputs, fields: {"logits": torch.ones(len(inputs["input_ids"]), 32)}  # type: ignore[method-assign, assignment]
    with pytest.raises(ModelError, match="the same vector"):
        pretrain_student(dull, texts, tmp_path / "d")
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"a good line\n\ncaf\xe9 in another encoding\n")
    with pytest.raises(DataError, match=r"broken.txt:3: .*UTF-8"):
        load_unlabeled([broken])
    assert not list(tmp_path.glob("[abcd]"))


@pytest.mark.process
def test_interrupted_pretraining_resumes_with_same_bits(encoder: Encoder, lines: Path, tmp_path: Path) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 30:
                raise KeyboardInterrupt

    texts = load_unlabeled([lines])
    settings = DistillSettings(StudentSettings("static", **SIZES), arguments={**ARGUMENTS, "num_train_epochs": 3})
    whole = pretrain_student(encoder, texts, tmp_path / "a", settings)
    with pytest.raises(KeyboardInterrupt):
        pretrain_student(encoder, texts, tmp_path / "b", settings, callbacks=[Stop()])
    again = pretrain_student(encoder, texts, tmp_path / "b", settings)
    assert (whole / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


def test_evaluate_similarity_correlates_cosines_with_scores(
    general: Path, encoder: Encoder, tmp_path: Path, run: Any
) -> None:
    rows = [row["text"] for row in toy_rows(500)[440:]]
    vectors = encoder.logits(rows)
    scores = cosines(vectors[:30], vectors[30:])
    pairs = [{"text1": a, "text2": b, "score": float(s)} for a, b, s in zip(rows[:30], rows[30:], scores, strict=True)]
    path = tmp_path / "data"
    path.mkdir()
    for split in ("train", "validation", "test"):
        write_jsonl(path / f"{split}.jsonl", pairs)
    data = load_data(path)
    assert evaluate_similarity(encoder, data["test"])["spearman"] == pytest.approx(1.0)
    code, out, err = run("evaluate", "--model", general, "--data", path, "--task", "sts", "--json", "--quiet")
    assert code == 0, err
    found = json.loads(out)
    assert found["spearman"] > 0.05  # it is 0.3
    assert found["rows"] == 30
    with pytest.raises(DataError, match="pairs"):
        evaluate_similarity(encoder, load_unlabeled_rows(tmp_path))


def load_unlabeled_rows(folder: Path) -> Any:
    rows = [{"text": f"text {n}", "label": str(n % 2)} for n in range(40)]
    return load_data(write_jsonl(folder / "single.jsonl", rows))["train"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sentence_transformers_loads_pretrained_student(general: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["a great film", "awful", ""]
    model = SentenceTransformer(str(general), device="cpu")
    np.testing.assert_allclose(model.encode(texts), Classifier.from_pretrained(general).logits(texts), atol=1e-5)
    model.save_pretrained(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(again.encode(texts), model.encode(texts), atol=1e-6)


@pytest.mark.process
def test_pretrain_student_command_runs(tiny_bert: Path, lines: Path, tmp_path: Path, run: Any) -> None:
    general, shipped = tmp_path / "g", tmp_path / "s"
    sizes = ("--student", "static", "--epochs", 2, "--quiet")
    code, _, err = run("pretrain-student", "--teacher", tiny_bert, "--text", lines, "--out", general, *sizes)
    assert code == 0, err
    code, _, err = run("export", "--model", general, "--out", shipped, "--int8", "--quiet")
    assert code == 0, err
    code, out, _ = run("predict", "--model", shipped, write_jsonl(tmp_path / "t.jsonl", ["a great film"]))
    vector = np.array(json.loads(out)["vector"])
    assert cosines(vector[None], Classifier.from_pretrained(general).logits(["a great film"]))[0] > 0.98
