"""Teachers and students that write: sizes, recipes, caches, interruptions, bad input."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import QUICK
from letters import LEARNS, TINY
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
    TrainerCallback,
)

import eyas
from eyas.errors import CacheError, DataError, ModelError, OutputError
from eyas.generation import RECIPES, TextGenerator, distill, evaluate, finetune, load_pairs
from eyas.generation import teachers as teachers_module
from eyas.generation.data import EncodedPairs
from eyas.generation.recipes import make_recipe
from eyas.generation.run import check_settings
from eyas.generation.teachers import cached
from eyas.models.encoder_decoders import student_of
from eyas.settings import Columns, DistillSettings, FinetuneSettings, StudentSettings
from eyas.training.folders import read_history

STUDENT = StudentSettings(layers=1, max_length=12)
NARROW = replace(STUDENT, hidden_size=8, init="random")
GRU = StudentSettings("gru", max_length=12)


def _settings(recipe: str, student: StudentSettings = STUDENT, **arguments: Any) -> DistillSettings:
    return DistillSettings(student, recipe, arguments={**LEARNS, **(arguments or QUICK)})


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_teacher_writes_what_it_learned(writer_folder: Path, letter_data: Path) -> None:
    """An untrained one has a chrF of about 10."""
    scores = evaluate(TextGenerator.from_pretrained(writer_folder), load_pairs(letter_data)["test"])
    assert scores["rows"] == 40
    assert scores["chrf"] > 30
    assert scores["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")


def test_students_learn_from_teachers(writer_folder: Path, letter_data: Path, tmp_path: Path) -> None:
    arguments = {**LEARNS, "num_train_epochs": 6}
    settings = DistillSettings(STUDENT, arguments=arguments)
    trained = eyas.distill(writer_folder, letter_data, tmp_path / "student", settings=settings)
    assert isinstance(trained.classifier, TextGenerator)
    assert sum("encoder_attn.q_proj.weight" in name for name in _weights(trained.path)) == 1  # layers of the decoder
    scores = trained.evaluate(letter_data, writer_folder)
    assert scores["chrf"] > 25
    assert scores["retention"] == pytest.approx(scores["bleu"] / scores["teacher_bleu"])
    losses = [row["eval_loss"] for row in trained.history if "eval_loss" in row]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_students_of_any_width(
    recipe: str, writer_folder: Path, letter_data: Path, tmp_path: Path
) -> None:
    grus = () if recipe == "feature-alignment" else (GRU,)
    for number, student in enumerate((STUDENT, NARROW, *grus)):
        out = tmp_path / str(number)
        distill(str(writer_folder), letter_data, out, _settings(recipe, student))
        assert all(torch.isfinite(weight).all() for weight in _weights(out).values())
        assert not any("eyas" in name for name in _weights(out))  # maps to the teacher's states


def test_imitkd_reads_no_more_tokens_than_the_models_have_positions(writer_folder: Path, tmp_path: Path) -> None:
    """An untrained student does not end."""
    rows = {"source": ["a b"] * 4, "target": [" ".join("klmnopqrstk")] * 4}  # 12 tokens with the end
    settings = _settings("imitkd", NARROW, **{**QUICK, "max_steps": 6})
    folder = distill(str(writer_folder), {"train": rows, "validation": rows}, tmp_path / "out", settings)
    assert all(torch.isfinite(weight).all() for weight in _weights(folder).values())


class _Interrupt(TrainerCallback):
    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.epoch == 2:  # the first checkpoint is there
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("recipe", "student"), [("imitkd", STUDENT), pytest.param("feature-alignment", NARROW, marks=pytest.mark.process)]
)
def test_interrupted_runs_resume_with_the_same_bits(
    recipe: str, student: StudentSettings, writer_folder: Path, letter_data: Path, tmp_path: Path
) -> None:
    settings = _settings(recipe, student, num_train_epochs=2)
    known = (str(writer_folder), letter_data)
    whole = distill(*known, tmp_path / "whole", settings)
    with pytest.raises(KeyboardInterrupt):
        distill(*known, tmp_path / "parts", settings, callbacks=[_Interrupt()])
    assert not (tmp_path / "parts").exists()
    parts = distill(*known, tmp_path / "parts", settings)
    expected, found = _weights(whole), _weights(parts)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    with pytest.raises(OutputError, match="holds a run with other settings"):
        distill(*known, tmp_path / "parts", replace(settings, seed=1))


# --- sizes ---------------------------------------------------------------------------------------------------


def test_students_start_from_the_teachers_layers(writer_folder: Path) -> None:
    teacher = TextGenerator.from_pretrained(writer_folder).model
    ours = student_of(teacher, replace(STUDENT, init="last")).state_dict()
    for name, weight in ours.items():
        theirs = name.replace(".layers.0.", ".layers.1.")  # the second of two
        assert torch.equal(weight, teacher.state_dict()[theirs]), name
    both = student_of(teacher, replace(STUDENT, layers=2, decoder_layers=2))
    assert all(torch.equal(weight, teacher.state_dict()[name]) for name, weight in both.state_dict().items())


def test_students_of_t5_keep_its_relative_positions() -> None:
    """They are in the first layer alone, whichever layer it starts from."""
    sizes = {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 3, "num_decoder_layers": 3}
    torch.manual_seed(0)
    teacher = T5ForConditionalGeneration(T5Config(vocab_size=40, decoder_start_token_id=0, **sizes))
    student = student_of(teacher, StudentSettings(layers=2, decoder_layers=1, init="last")).state_dict()
    theirs, bias = teacher.state_dict(), "layer.0.SelfAttention.relative_attention_bias.weight"
    for side in ("encoder", "decoder"):
        assert torch.equal(student[f"{side}.block.0.{bias}"], theirs[f"{side}.block.0.{bias}"])
    wo = "layer.1.DenseReluDense.wo.weight"
    assert torch.equal(student[f"encoder.block.0.{wo}"], theirs[f"encoder.block.1.{wo}"])


def test_heads_of_t5_have_a_size_of_their_own() -> None:
    """As in flan-t5-small: six heads of 64 for a hidden size of 512."""
    sizes = {"d_model": 32, "d_kv": 8, "num_heads": 6, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 2}
    teacher = T5ForConditionalGeneration(T5Config(vocab_size=40, decoder_start_token_id=0, **sizes))
    student = student_of(teacher, StudentSettings(layers=1, hidden_size=32))
    assert student.config.d_kv == 8
    assert student_of(teacher, StudentSettings(layers=1, hidden_size=24, init="random")).config.d_kv == 4
    with pytest.raises(ModelError, match="multiple of the 6 heads"):
        student_of(teacher, StudentSettings(layers=1, hidden_size=40, init="random"))


def test_writers_read_and_write_as_much_as_they_learned(writer_folder: Path) -> None:
    writer = TextGenerator.from_pretrained(writer_folder)
    assert (writer.max_length, writer.model.generation_config.max_length) == (12, 13)
    writer.tokenizer.model_max_length, writer.model.config.max_position_embeddings = 512, 512
    assert TextGenerator(writer.model, writer.tokenizer).max_length == 512
    about = writer.model.generation_config
    about.max_length = None  # transformers would write 20 words
    assert TextGenerator(writer.model, writer.tokenizer).model.generation_config.max_length == 513
    about.max_length, about.max_new_tokens = None, 7
    assert TextGenerator(writer.model, writer.tokenizer).model.generation_config.max_length is None
    with pytest.raises(DataError, match=r"beams \(--beams\) is 0"):
        TextGenerator(writer.model, writer.tokenizer, beams=0)


def test_grus_write_the_same_word_by_word_and_without_padding(writer_folder: Path) -> None:
    teacher = TextGenerator.from_pretrained(writer_folder).model
    torch.manual_seed(0)
    student = student_of(teacher, GRU).eval()
    words, theirs = (model.get_input_embeddings().weight for model in (student, teacher))
    torch.testing.assert_close(torch.corrcoef(torch.stack([words[5], theirs[5]]))[0, 1], torch.tensor(1.0))
    sources, targets = torch.tensor([[3, 4, 5, 1], [6, 1, 0, 0]]), torch.tensor([[0, 8, 9, 10], [0, 11, 12, 13]])
    mask = (sources > 0).long()
    with torch.no_grad():
        whole = student(sources, mask, targets).logits
        torch.testing.assert_close(student(sources[1:, :2], mask[1:, :2], targets[1:]).logits, whole[1:])
        read, past = student.encoder(sources, mask), None
        for place in range(4):
            found = student(None, mask, targets[:, place : place + 1], read, past, use_cache=True)
            torch.testing.assert_close(found.logits[:, 0], whole[:, place])
            past = found.past_key_values
    search: Any = {"attention_mask": mask, "num_beams": 2, "max_length": 6}
    plain = [student.generate(sources, use_cache=use, **search) for use in (True, False)]
    assert torch.equal(*plain)


def test_grus_learn_from_teachers(writer_folder: Path, letter_data: Path, tmp_path: Path) -> None:
    once = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    arguments = {**LEARNS, **once, "num_train_epochs": 6, "learning_rate": 1e-2}
    folder = distill(str(writer_folder), letter_data, tmp_path / "gru", DistillSettings(GRU, arguments=arguments))
    losses = [row["loss"] for row in read_history(folder)]
    assert losses[-1] < losses[0] / 1.5


def test_other_sizes_and_starts_are_refused(writer_folder: Path) -> None:
    teacher = TextGenerator.from_pretrained(writer_folder).model
    with pytest.raises(ModelError, match=r"the hidden size is 8, the teacher's 32.*Set init to random"):
        student_of(teacher, replace(STUDENT, hidden_size=8, init="first"))
    with pytest.raises(ModelError, match="multiple of the 3 heads"):
        student_of(teacher, replace(STUDENT, heads=3))
    with pytest.raises(ModelError, match=r"is 7, expected an even number: the gru"):
        student_of(teacher, replace(GRU, hidden_size=7))
    with pytest.raises(ModelError, match=r"decoder_layers \(--decoder-layers\) is 3, but the teacher's decoder has 2"):
        student_of(teacher, replace(STUDENT, decoder_layers=3))
    for settings, message in (
        (DistillSettings(replace(GRU, layers=2)), "layers is set, but a student that writes"),
        (DistillSettings(replace(GRU, init="first")), "a gru has no layers to copy"),
        (DistillSettings(replace(STUDENT, init="general")), "starts at random, or from the teacher's layers"),
        (DistillSettings(GRU, "feature-alignment"), "compares layers, which a gru lacks"),
    ):
        with pytest.raises(ModelError, match=message):
            check_settings(settings)


# --- caches --------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(writer_folder: Path, letter_data: Path) -> tuple[TextGenerator, EncodedPairs]:
    teacher = TextGenerator.from_pretrained(writer_folder)
    pairs = EncodedPairs(load_pairs(letter_data)["test"], teacher.tokenizer, 12, 12)
    return teacher, pairs


def test_cached_texts_are_those_the_teacher_writes_alone(asked: tuple[TextGenerator, EncodedPairs]) -> None:
    teacher, pairs = asked
    cache = cached(teacher, pairs, {"beams": 3}, "float32", None)
    for row in range(8):
        alone = teacher.model.generate(torch.tensor([pairs.sources[row]]), num_beams=3)[0, 1:]
        assert cache.texts(pairs.ids[row : row + 1]) == [alone.tolist()]


def test_teachers_write_no_more_than_their_students_can(letter_data: Path, tmp_path: Path) -> None:
    """An untrained teacher does not end."""
    model, settings = f"marian:{TINY}", FinetuneSettings(arguments=QUICK, max_length=12)
    teacher = finetune(model, letter_data, tmp_path / "teacher", settings)
    settings = replace(_settings("sequence-kd"), student=replace(STUDENT, max_length=6))
    distill(str(teacher), letter_data, tmp_path / "student", settings, cache=tmp_path / "cache")
    for part in ("train", "validation"):
        for shard in (tmp_path / "cache" / part).glob("*.safetensors"):
            assert int(load_file(shard)["lengths"].max()) == 6


def test_texts_that_the_teacher_does_not_end_are_reported(
    writer_folder: Path, letter_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student = replace(STUDENT, max_length=2)
    data = {name: {"source": ["a b"] * 3, "target": ["k"] * 3} for name in ("train", "validation")}
    distill(str(writer_folder), data, tmp_path / "out", _settings("sequence-kd", student))
    assert "texts that the teacher writes for train reach the limit of 2 tokens and have no end" in caplog.text


def test_teachers_with_few_positions_are_refused(writer_folder: Path, letter_data: Path, tmp_path: Path) -> None:
    settings = DistillSettings(replace(GRU, max_length=20), "imitkd")
    with pytest.raises(ModelError, match=r"max_length \(--max-length\) is 20, but the model has 12 positions"):
        distill(str(writer_folder), letter_data, tmp_path / "out", settings)


def test_cached_distributions_are_found_by_id(asked: tuple[TextGenerator, EncodedPairs]) -> None:
    teacher, pairs = asked
    cache = cached(teacher, pairs, {"top_k": 4}, "float32", None)
    rows = [5, 0]
    labels = torch.full((2, 9), -100)
    for place, row in enumerate(rows):
        labels[place, : len(pairs.targets[row])] = torch.tensor(pairs.targets[row])
    found = cache.distributions(torch.from_numpy(pairs.ids[rows]), labels)
    for place, row in enumerate(rows):
        with torch.no_grad():
            target = torch.tensor([pairs.targets[row]])
            logits = teacher.model(input_ids=torch.tensor([pairs.sources[row]]), labels=target).logits[0]
        best = logits.log_softmax(-1).topk(4)
        assert found.words[place, : len(best.indices)].tolist() == best.indices.tolist()
        torch.testing.assert_close(found.log_probabilities[place, : len(best.indices)], best.values)


def test_interrupted_caches_resume(
    asked: tuple[TextGenerator, EncodedPairs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, pairs = asked
    monkeypatch.setattr(teachers_module, "ROWS_PER_SHARD", 16)
    whole = cached(teacher, pairs, {"top_k": 4}, "float32", tmp_path / "whole")
    computed, compute = [], teachers_module._distributions

    def interrupted(*given: Any) -> Any:
        if computed and len(computed[0]) == 16:
            raise KeyboardInterrupt
        computed.append(given[-1])
        return compute(*given)

    monkeypatch.setattr(teachers_module, "_distributions", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached(teacher, pairs, {"top_k": 4}, "float32", tmp_path / "parts")
    monkeypatch.setattr(teachers_module, "_distributions", compute)
    parts = cached(teacher, pairs, {"top_k": 4}, "float32", tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("shard-*"))) == int(np.ceil(len(set(pairs.ids.tolist())) / 16))
    for name in ("words", "log_probabilities"):
        assert torch.equal(whole.rows(pairs.ids, name)[0], parts.rows(pairs.ids, name)[0])
    with pytest.raises(CacheError, match="made with different top k"):
        cached(teacher, pairs, {"top_k": 5}, "float32", tmp_path / "parts")
    with pytest.raises(CacheError, match="made from other data"):
        parts.texts(np.array([1]))


# --- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [distill, finetune])
def test_teachers_without_a_decoder_are_refused(call: Callable[..., Any], tmp_path: Path, letter_data: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=30, **sizes)).save_pretrained(tmp_path / "bert")
    GPT2LMHeadModel(GPT2Config(vocab_size=30, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path / "gpt")
    settings = FinetuneSettings() if call is finetune else DistillSettings()
    with pytest.raises(ModelError, match="is a BertModel, which has no decoder. Expected an encoder-decoder"):
        call(str(tmp_path / "bert"), letter_data, tmp_path / "out", settings)
    with pytest.raises(ModelError, match="is a GPT2LMHeadModel, which is a decoder alone: for those use TRL"):
        call(str(tmp_path / "gpt"), letter_data, tmp_path / "out", settings)


def test_targets_longer_than_the_teacher_writes_are_refused(writer_folder: Path, tmp_path: Path) -> None:
    rows = {"source": ["a b"], "target": [" ".join("kl" * 8)]}
    settings = DistillSettings(STUDENT)
    with pytest.raises(DataError, match=r"targets are longer than the model writes: 17 tokens, at most 12"):
        distill(str(writer_folder), {"train": rows, "validation": rows}, tmp_path / "out", settings)
    with pytest.raises(ModelError, match=r"max_length \(--max-length\) is 20, but the model has 12 positions"):
        distill(
            str(writer_folder),
            {"train": rows, "validation": rows},
            tmp_path / "out",
            DistillSettings(replace(STUDENT, max_length=20)),
        )


def test_settings_of_other_students_are_refused(writer_folder: Path, letter_data: Path, tmp_path: Path) -> None:
    for student, name in ((StudentSettings("cnn"), "architecture"), (StudentSettings(crf=True), "crf")):
        with pytest.raises(ModelError, match=f"{name} is set, but a student that writes is one of"):
            distill(str(writer_folder), letter_data, tmp_path / "out", DistillSettings(student))
    with pytest.raises(ModelError, match="unlabeled is given, but students that write do not take it"):
        eyas.distill(writer_folder, letter_data, tmp_path / "out", unlabeled=["some.txt"])
    with pytest.raises(ModelError, match="has one teacher"):
        eyas.distill([writer_folder], letter_data, tmp_path / "out", columns=Columns(task="generation"))


def test_decoders_of_other_students_are_refused(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    settings = DistillSettings(StudentSettings("cnn", decoder_layers=1))
    with pytest.raises(ModelError, match=r"decoder_layers \(--decoder-layers\) is for students that write"):
        eyas.distill(teacher_folder, toy_data, tmp_path / "out", settings=settings)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("tinybert", {}, "Unknown recipe 'tinybert' for students that write. Expected one of hard-labels"),
        ("word-kd", {"beams": 3}, "has no option 'beams'. Expected weight, top_k"),
        ("word-kd", {"weight": 2}, r"weight=2, expected a number such as 0\.5"),
        ("sequence-kd", {"beams": 0}, "beams=0, expected a number such as 5"),
        ("imitkd", {"schedule": "never"}, "schedule='never', expected one of exponential, linear, sigmoid"),
    ],
)
def test_recipes_that_do_not_exist_are_refused(recipe: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_recipe(recipe, options)


@pytest.mark.parametrize("model", ["marian:depth=3", "t5:layers=0", "bart:layers"])
def test_sizes_that_do_not_exist_are_refused(model: str, letter_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"is '{model}': expected {model.split(':')[0]}, or its sizes"):
        finetune(model, letter_data, tmp_path / "out", FinetuneSettings())


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_other_families_from_scratch(family: str, letter_data: Path, tmp_path: Path) -> None:
    folder = finetune(
        f"{family}:{TINY}", letter_data, tmp_path / "out", FinetuneSettings(arguments=QUICK, max_length=12)
    )
    config = TextGenerator.from_pretrained(folder).model.config
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == (family, 2, 32)
