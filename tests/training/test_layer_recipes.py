"""Recipes over the teacher's layers: each trains a student on the teacher's tokens."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import QUICK, make_trainer, step, teach
from datasets import DatasetDict
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from toys import toy_rows
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    TrainerCallback,
    set_seed,
)

from eyas import (
    RECIPES,
    Classifier,
    CombinedTeacher,
    DistillSettings,
    StudentSettings,
    Teacher,
    create_student,
    evaluate,
    load_data,
)
from eyas.errors import ModelError
from eyas.losses import AttentionLoss, HiddenStateLoss, LogitMSELoss, PKDLoss
from eyas.losses.base import MEMBER_LOGITS
from eyas.losses.schedules import at
from eyas.models.inside import EACH, capture, run
from eyas.models.transformer import chosen_layers
from eyas.tasks import Task
from eyas.teachers import AlignedTeacher
from eyas.training.arguments import with_precision
from eyas.training.checks import check_same_tokens
from eyas.training.folders import read_history
from eyas.training.recipes import make_stages, parse_recipe
from eyas.training.recipes.layers import ATTENTION_LOSSES, HIDDEN_LOSSES
from eyas.training.recipes.logits import LOGIT_LOSSES, logit_loss
from eyas.training.steps import training_steps

BFLOAT16 = {**QUICK, "bf16": True}


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=48, dtype="float32")


@pytest.fixture(scope="module")
def data(toy_data: Path) -> DatasetDict:
    return load_data(toy_data)


Students = Callable[..., tuple[Any, Any]]


@pytest.fixture(scope="module")
def bert(teacher: Teacher, data: DatasetDict) -> Students:
    """`bert(layers=1)`: a transformer student and its tokenizer, for one test to train."""
    made: dict[str, tuple[Any, Any]] = {}

    def bert(**size: Any) -> tuple[Any, Any]:
        if str(size) not in made:
            made[str(size)] = create_student(StudentSettings("bert", max_length=48, **size), teacher, data["train"])
        model, tokenizer = made[str(size)]
        return copy.deepcopy(model), tokenizer

    return bert


def _needs_members(recipe: str) -> bool:
    return any(MEMBER_LOGITS in loss.student_fields for stage in make_stages(recipe) for loss in stage.losses)


# Of the planted teacher, which has no domains.
OPTIONS: dict[str, dict[str, Any]] = {"meta-kd": {"domain_weight": 0}}
SINGLE = [name for name in sorted(RECIPES) if not _needs_members(name)]


@pytest.mark.parametrize("recipe", SINGLE)
def test_every_recipe_trains_a_transformer(
    recipe: str, bert: Students, teacher: Teacher, data: DatasetDict, tmp_path: Path
) -> None:
    model, tokenizer = bert(layers=2)
    for stage in make_stages(recipe, OPTIONS.get(recipe)):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(set(stage.frozen).isdisjoint(name.split(".")))
        before = [parameter.detach().clone() for parameter in model.parameters()]
        asked: Any = teacher if stage.needs_teacher else None
        if EACH in stage.teacher_fields:
            asked = CombinedTeacher([teacher, teacher])
        loss = step(model, tokenizer, data["train"], stage.losses, asked, tmp_path, **BFLOAT16)
        assert np.isfinite(loss)
        assert any(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


MORE_THAN_LOSSES = [
    " ".join([name, *(f"{option}={value}" for option, value in OPTIONS.get(name, {}).items())])
    for name in SINGLE
    if len(make_stages(name)) > 1 or make_stages(name)[0].frozen
]


@pytest.mark.parametrize("recipe", ["tinybert", *MORE_THAN_LOSSES])
def test_student_folder_has_no_weights_of_losses(
    recipe: str, teacher: Teacher, data: DatasetDict, tmp_path: Path
) -> None:
    folder = teach(teacher, data, tmp_path / "out", StudentSettings("bert", layers=2, max_length=48), recipe, BFLOAT16)
    with safe_open(folder / "model.safetensors", framework="np") as file:
        names = set(file.keys())
    assert not any("projection" in name for name in names)
    assert Classifier.from_pretrained(folder).logits(["a great film"]).shape == (1, 2)


@pytest.mark.parametrize("attention", ATTENTION_LOSSES)
@pytest.mark.parametrize("hidden", HIDDEN_LOSSES)
def test_tinybert_accepts_losses_by_name(
    attention: str, hidden: str, bert: Students, teacher: Teacher, data: DatasetDict, tmp_path: Path
) -> None:
    """Relations need neither equal hidden sizes nor equal numbers of heads."""
    size = {"heads": 2, "hidden_size": 16} if attention == "relations" else {}
    model, tokenizer = bert(layers=1, **size)
    for stage in make_stages("tinybert", {"attention": attention, "hidden": hidden, "prediction": "mse"}):
        assert np.isfinite(step(model, tokenizer, data["train"], stage.losses, teacher, tmp_path))


def test_logit_losses_are_least_when_student_equals_teacher() -> None:
    """Each is zero or minimal if the student equals the teacher."""
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.3, -2.0]])
    for name in LOGIT_LOSSES:
        same, other = (
            float(logit_loss(name)({"logits": ours}, {"logits": logits}, {"labels": torch.tensor([0, 1])}))
            for ours in (logits, logits.flip(1))
        )
        assert same < other, name
        if name != "soft-cross-entropy":
            assert same == pytest.approx(0.0, abs=1e-6), name


@pytest.mark.parametrize("kind", ["classification", "multi-label"])
@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_logit_losses_train_binary_decisions_or_refuse(name: str, kind: str) -> None:
    task, loss = Task(kind, ("a", "b")), logit_loss(name)
    try:
        loss.check(task)
    except ModelError:
        assert (name, kind) in {(name, "multi-label"), ("standardized", "classification")}
        assert name in ("standardized", "cosine")
        return
    ours = torch.tensor([[0.2, 0.1], [0.3, -0.1], [-0.2, 0.0]], requires_grad=True)
    theirs = torch.tensor([[-1.0, 2.0], [0.5, 0.4], [1.0, 0.0]])
    loss({"logits": ours}, {"logits": theirs}, {"task": task}).backward()
    assert ours.grad is not None
    assert float(ours.grad.abs().max()) > 1e-2


def test_logit_losses_use_divergence_for_crf() -> None:
    """A CRF's logits are log-probabilities, unlike a teacher's raw logits."""
    theirs = torch.tensor([[4.0, 1.0, 7.0]])
    ours = theirs.log_softmax(-1)
    for name in ("mse", "huber", "cosine", "divergence"):
        loss = logit_loss(name)({"logits": ours}, {"logits": theirs}, {"posteriors": True})
        assert float(loss) == pytest.approx(0.0, abs=1e-6), name


def test_tinybert_trains_narrow_student(teacher: Teacher, data: DatasetDict, tmp_path: Path) -> None:
    """One of the few tests that train."""
    student = StudentSettings("bert", layers=2, hidden_size=16, feed_forward=32, max_length=48)
    arguments = {"num_train_epochs": 10, "per_device_train_batch_size": 16, "learning_rate": 2e-3, "bf16": False}
    folder = teach(teacher, data, tmp_path / "out", student, "tinybert", arguments)
    assert evaluate(Classifier.from_pretrained(folder), data["test"])["accuracy"] > 0.75


@pytest.mark.parametrize("start", ["first", "last", "skip", "2,1"])
def test_student_starts_from_teacher_layers(start: str, teacher: Teacher, toy_data: Path) -> None:
    data = load_data(toy_data)
    student, tokenizer = create_student(StudentSettings("bert", max_length=48, init=start), teacher, data["train"])
    texts = data["test"]["text"][:5]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    theirs = teacher.tokenize(texts)
    assert inputs["input_ids"].shape == theirs["input_ids"].shape
    student.eval()
    with torch.no_grad():
        ours = student(**{name: inputs[name] for name in ("input_ids", "attention_mask")}).logits.numpy()
    same = start != "2,1"  # all layers in order: equal to the teacher
    assert np.allclose(ours, teacher.logits(texts), atol=1e-5) == same


def test_create_student_refuses_invalid_init(teacher: Teacher, toy_data: Path) -> None:
    train = load_data(toy_data)["train"]
    assert chosen_layers("skip", 3, 12) == [4, 8, 12]
    assert chosen_layers("last", 3, 12) == [10, 11, 12]
    with pytest.raises(ModelError, match=r"'middle'.*random, first, last, skip"):
        create_student(StudentSettings("bert", init="middle"), teacher, train)
    with pytest.raises(ModelError, match=r"\[1, 9\].* 2 .* 1 to 2"):
        create_student(StudentSettings("bert", init="1,9"), teacher, train)
    with pytest.raises(ModelError, match="wider"):
        create_student(StudentSettings("bert", hidden_size=64, init="first"), teacher, train)
    with pytest.raises(ModelError, match="3 heads"):
        create_student(StudentSettings("bert", heads=3), teacher, train)
    with pytest.raises(ModelError, match=r"cnn .*--layers"):
        create_student(StudentSettings("cnn", layers=2), teacher, train)


def test_student_starts_from_pretrained_folder(teacher: Teacher, data: DatasetDict, tmp_path: Path) -> None:
    """Another model's first layers and word vectors, below a new head."""
    general = StudentSettings("bert", hidden_size=16, heads=2, max_length=48)
    folder = teach(teacher, data, tmp_path / "general", general)
    theirs = Classifier.from_pretrained(folder).model
    settings = StudentSettings("bert", layers=1, max_length=48, init=str(folder))
    student, _ = create_student(settings, teacher, data["train"])
    assert (student.config.num_hidden_layers, student.config.hidden_size) == (1, 16)
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(student.state_dict()[query], theirs.state_dict()[query])
    assert settings.copies_layers(32)
    out = teach(teacher, data, tmp_path / "out", settings, "patient-skip")
    assert Classifier.from_pretrained(out).logits(["a great film"]).shape == (1, 2)
    with pytest.raises(ModelError, match="none"):
        create_student(StudentSettings("bert", init=str(tmp_path / "none")), teacher, data["train"])


def test_teacher_computes_only_requested_fields(teacher: Teacher) -> None:
    batch = {"text": ["a great film"]}
    assert teacher.outputs(batch).keys() == {"logits"}
    assert teacher.outputs(batch, ("hidden_states",)).keys() == {"hidden_states", "attention_mask", "heads"}
    found = teacher.outputs(batch, ("queries", "values"))
    assert found.keys() == {"queries", "values", "attention_mask", "heads"}
    assert len(found["queries"]) == teacher.model.config.num_hidden_layers
    projections = [module for module in teacher.model.modules() if isinstance(module, torch.nn.Linear)]
    assert not any(module._forward_hooks for module in projections)


def test_captured_queries_and_keys_reproduce_attention(teacher: Teacher) -> None:
    """Compared with the eager attention of transformers."""
    inputs = teacher.tokenize(["a great film", "awful"])
    before = teacher.model.config._attn_implementation
    teacher.model.set_attn_implementation("eager")
    with torch.no_grad(), capture(teacher.model, ("queries", "keys")) as inside:
        expected = teacher.model(**inputs, output_attentions=True).attentions
    teacher.model.set_attn_implementation(before)
    heads = teacher.model.config.num_attention_heads
    for layer, attention in enumerate(expected):
        q, k = (inside[n][layer].unflatten(-1, (heads, -1)).transpose(1, 2) for n in ("queries", "keys"))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(inputs["attention_mask"][:, None, None, :] == 0, -1e9)
        torch.testing.assert_close(scores.softmax(-1), attention)


def test_layer_recipes_refuse_models_without_layers(
    bert: Students, teacher: Teacher, data: DatasetDict, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"cnn is not a transformer.*--student bert-tiny"):
        teach(teacher, data, tmp_path / "a", "cnn", "tinybert")
    with pytest.raises(ModelError, match=r"ternarybert compresses .*cnn is not a transformer. Choose --student bert,"):
        teach(teacher, data, tmp_path / "a", "cnn", "ternarybert")
    with pytest.raises(ModelError, match=r"HiddenStateLoss.*hidden_states"):
        step(*bert(layers=1), data["train"], [HiddenStateLoss()], teacher.label(data["train"]), tmp_path)


def test_teacher_is_truncated_to_student_length(teacher: Teacher, data: DatasetDict, tmp_path: Path) -> None:
    folder = teach(teacher, data, tmp_path / "a", StudentSettings("bert", layers=1, max_length=4), "tinybert")
    assert Classifier.from_pretrained(folder).max_length == 4
    text = ["a film that goes on and on"]
    assert teacher.reading(4).tokenize(text)["input_ids"].shape == (1, 4)
    assert teacher.tokenize(text)["input_ids"].shape[1] > 4
    assert teacher.reading(1000).max_length == teacher.max_length


def test_check_same_tokens_refuses_different_tokens() -> None:
    with pytest.raises(ModelError, match=r"\[2, 3\].*\[2, 4\]"):
        check_same_tokens(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ModelError, match="--vocab-size"):
        check_same_tokens(torch.tensor([[1, 1, 0]]), torch.ones(1, 3))


@pytest.mark.parametrize("recipe", RECIPES)
def test_learned_parts_are_held_once(recipe: str) -> None:
    """A checkpoint refuses tensors that two losses share."""
    for stage in make_stages(recipe):
        losses = nn.ModuleList(stage.losses)
        for loss in stage.losses:
            more = {"id2label": "ab", "teachers": "abc"}
            loss.prepare(*(SimpleNamespace(hidden_size=s, num_hidden_layers=n, **more) for s, n in ((8, 2), (12, 6))))
        tensors = list(losses.state_dict(keep_vars=True).values())
        assert len({id(tensor) for tensor in tensors}) == len(tensors)
        if recipe == "bert-emd":
            assert [len(tensor) for tensor in tensors if tensor.dtype == torch.float64] == [2, 6]


@pytest.mark.parametrize("mapping", ["uniform", "earth-movers", "shared"])
def test_interrupted_training_resumes_parameters_of_losses(
    mapping: str, bert: Students, teacher: Teacher, data: DatasetDict, tmp_path: Path
) -> None:
    """Checkpoints include parameters and buffers of losses, so resumed training ends with the same weights."""

    def trained(folder: Path, stop: int | None) -> dict[str, torch.Tensor]:
        model, tokenizer = bert(layers=1, hidden_size=16, feed_forward=32)
        set_seed(0)

        class Stop(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == stop:
                    raise KeyboardInterrupt

        if mapping == "shared":
            losses = list(make_stages("bert-emd")[0].losses)
        else:
            losses = [LogitMSELoss(), HiddenStateLoss(mapping), AttentionLoss("probabilities")]
        arguments = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "seed": 0}
        trainer = make_trainer(
            model, tokenizer, data["train"], losses, teacher, folder, callbacks=[Stop()], **arguments
        )
        trainer.train(resume_from_checkpoint=True)
        return {name: value.clone() for name, value in model.state_dict().items()}

    undisturbed = trained(tmp_path / "a", None)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "b", 5)
    resumed = trained(tmp_path / "b", None)
    assert undisturbed.keys() == resumed.keys()
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


def test_simkd_refuses_random_student(teacher: Teacher, data: DatasetDict, tmp_path: Path) -> None:
    for more in ({"embeddings": "random"}, {"init": "random"}):
        with pytest.raises(ModelError, match=r"simkd.*random"):
            teach(teacher, data, tmp_path / "out", StudentSettings("bert", max_length=48, **more), "simkd")


def test_copies_layers_detects_copied_layers() -> None:
    """With and without an explicit hidden size."""
    for more in ({}, {"hidden_size": 32}):
        assert StudentSettings("bert", **more).copies_layers(32)
    for more in (
        {"hidden_size": 16},
        {"init": "random"},
        {"embeddings": "random"},
        {"hidden_size": 16, "init": "first"},
    ):
        assert not StudentSettings("bert", **more).copies_layers(32)
    assert StudentSettings("bert-tiny").copies_layers(128)


def test_training_steps_are_shared_by_stages() -> None:
    steps = {"max_steps": 100}
    assert training_steps(DistillSettings(recipe="tinybert", arguments=steps), 640) == 100
    assert training_steps(DistillSettings(recipe="logit-mse", arguments={"num_train_epochs": 3}), 640) == 30
    assert training_steps(DistillSettings(recipe="minilm", arguments={"num_train_epochs": 3}), 640) == 30


def test_parse_recipe_reads_options() -> None:
    assert parse_recipe("tinybert mapping=top attention_weight=0.5") == (
        "tinybert",
        {"mapping": "top", "attention_weight": 0.5},
    )
    inner = make_stages(*parse_recipe("tinybert attention_weight=0.5 hidden_weight=2"))[0]
    assert [loss.weight for loss in inner.losses] == [1.0, 2, 0.5]
    inner = make_stages(*parse_recipe("tinybert attention_weight=0"))[0]
    assert inner.teacher_fields == {"hidden_states"}  # terms with weight 0 request no fields
    with pytest.raises(ModelError, match=r"tinybert.*'maping'.*mapping, attention_weight"):
        make_stages("tinybert", {"maping": "top"})
    with pytest.raises(ModelError, match="OPTION=VALUE"):
        parse_recipe("tinybert top")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("patient-skip temperature=0", "patient-skip.*temperature=0"),
        ("patient-skip temperature=hot", "temperature='hot'"),
        ("bert-emd temperature=0", "temperature=0"),
        ("minilmv2 heads=x", "heads='x'"),
        ("annealing highest=0", "highest=0"),
        ("ad-kd dimensions=-1", "dimensions=-1"),
        ("minilmv2 teacher_layer=1.5", "teacher_layer=1.5"),
        ("tinybert mapping=3", "mapping.*3"),
        ("tinybert hidden_weight=-1", "hidden_weight=-1"),
        ("soft-targets temperature=linear:4:0", "temperature=0.0"),
        ("soft-targets hard_weight=ramp:1:0", "'ramp:1:0'.*linear:8:1"),
        ("patient-skip hard_weight=2", "hard_weight=2"),
        ("ad-kd hard_weight=linear:0:2", "hard_weight=2"),
        ("theseus rate=linear:0:1", "rate='linear:0:1'"),
        ("logit-mse mutual=much", "mutual='much'.*linear:1:0"),
        ("logit-mse weights=free", "weights='free'.*fixed, learned"),
        ("tinybert mapping=1,2", "'1,2'"),
        ("theseus rate=2", "rate=2"),
        ("tinybert attention=heads", "attention='heads'.*scores, probabilities, divergence, relations"),
        ("soft-targets loss=hubert", "loss='hubert'.*divergence, soft-cross-entropy"),
        ("soft-targets loss=huber temperature=2", "huber.*temperature"),
        ("sra cosine_weight=0 mse_weight=0", "weight 0"),
        ("tinybert mapping=attention", "attentions"),
        ("tinybert mapping=attention attention=relations", "attentions"),
        ("soft-targets hard_weight=0 weights=learned", "weights=learned"),
    ],
)
def test_make_stages_refuses_invalid_options(recipe: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_stages(*parse_recipe(recipe))
    assert make_stages("ad-kd", {"dimensions": None})
    assert make_stages("tinybert", {"mapping": "attention", "attention_weight": 0})
    with pytest.raises(ModelError, match=r"hidden=\['mse'\]"):
        make_stages("tinybert", {"hidden": ["mse"]})


def test_recipe_options_accept_schedules_and_layer_pairs() -> None:
    labels, soft, patient = make_stages(*parse_recipe("patient-skip hard_weight=linear:1:0 temperature=steps:4:2"))[
        0
    ].losses
    assert [at(labels.weight, progress) for progress in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]
    assert [at(soft.weight, progress) for progress in (0.0, 0.25, 1.0)] == [0.0, 0.25, 1.0]
    assert [at(soft.temperature, progress) for progress in (0.0, 0.5)] == [4.0, 2.0]
    assert patient.weight == 100.0
    _, hidden, attention = make_stages(*parse_recipe("tinybert mapping=1-2 hidden=first-token"))[0].losses
    assert isinstance(hidden, PKDLoss)
    assert hidden.mapping.pairs(1, 2) == attention.mapping.pairs(1, 2) == [(1, 2)]


@pytest.mark.parametrize(
    ("recipe", "size", "message"),
    [
        ("tinybert mapping=1-3", {}, r"\(1, 3\).* 1 layers .* 2 "),
        ("patient-skip weights=learned", {"layers": 4, "init": "1,9,1,1"}, r"\[1, 9, 1, 1\]"),
        ("tinybert mapping=mean weights=learned", {"layers": 3, "init": "random"}, "'mean'"),
        ("tinybert", {"hidden_size": 16, "heads": 1}, "1 heads .* 2"),
        ("logit-mse", {"heads": 3}, "3 heads"),
        ("logit-mse", {"hidden_size": 64, "init": "first"}, "wider"),
    ],
)
def test_distill_refuses_incompatible_student_before_labeling(
    recipe: str, size: dict[str, Any], message: str, teacher: Teacher, data: DatasetDict, tmp_path: Path
) -> None:
    student = StudentSettings("bert", max_length=48, **{"layers": 1, **size})
    with pytest.raises(ModelError, match=message):
        teach(teacher, data, tmp_path / "out", student, recipe, cache=tmp_path / "cache")
    assert not list(tmp_path.iterdir())


def test_minilmv2_refuses_missing_teacher_layer(teacher: Teacher, data: DatasetDict, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"teacher_layer=9.* 1 to 2"):
        teach(teacher, data, tmp_path / "out", StudentSettings("bert", layers=1), "minilmv2 teacher_layer=9")


def _roberta(_: Any) -> tuple[Any, Any]:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    texts = [row["text"] for row in toy_rows(300)]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, special_tokens=special))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "mask_token": "<mask>"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        **names,
        model_max_length=40,
        model_input_names=["input_ids", "attention_mask"],
    )
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
    config = RobertaConfig(vocab_size=len(fast), max_position_embeddings=42, type_vocab_size=1, pad_token_id=1, **sizes)
    return RobertaForSequenceClassification(config), fast


def _distilbert(tokenizer: Any) -> tuple[Any, Any]:
    sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 20}
    config = DistilBertConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **sizes)
    return DistilBertForSequenceClassification(config), tokenizer


def _modernbert(tokenizer: Any) -> tuple[Any, Any]:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "cls", "sep")}
    ends = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    config = ModernBertConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **sizes, **special, **ends)
    return ModernBertForSequenceClassification(config), tokenizer


def _deberta(tokenizer: Any) -> tuple[Any, Any]:
    """As released: positions go through the projections of queries and keys as well."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
    positions = {
        "relative_attention": True,
        "position_buckets": 8,
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
    }
    more = {"position_biased_input": False, "type_vocab_size": 0, "norm_rel_ebd": "layer_norm", "pad_token_id": 0}
    config = DebertaV2Config(vocab_size=len(tokenizer), max_position_embeddings=40, **sizes, **positions, **more)
    return DebertaV2ForSequenceClassification(config), tokenizer


def _electra(tokenizer: Any) -> tuple[Any, Any]:
    """Word vectors narrower than its layers, as in ELECTRA-small."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
    config = ElectraConfig(vocab_size=len(tokenizer), max_position_embeddings=40, embedding_size=8, **sizes)
    return ElectraForSequenceClassification(config), tokenizer


def _albert(tokenizer: Any) -> tuple[Any, Any]:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
    config = AlbertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=40, embedding_size=8, classifier_dropout_prob=0.0, **sizes
    )
    return AlbertForSequenceClassification(config), tokenizer


FAMILIES: dict[str, Any] = {
    "electra": _electra,
    "albert": _albert,
    "roberta": _roberta,
    "distilbert": _distilbert,
    "modernbert": _modernbert,
    "deberta": _deberta,
}


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_student_of_another_family_starts_equal_to_teacher(
    family: str, pair: bool, teacher: Teacher, toy_data: Path, toy_pairs: Path, tmp_path: Path
) -> None:
    """With all layers copied, its tokens, positions and special tokens equal the teacher's."""
    set_seed(0)
    model, tokenizer = FAMILIES[family](teacher.tokenizer)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    names = ["disliked", "liked"] if pair else ["negative", "positive"]
    model.config.id2label = dict(enumerate(names))
    other = Teacher(model, tokenizer, max_length=40, dtype="float32")
    data = load_data(toy_pairs if pair else toy_data)
    student, its_tokenizer = create_student(StudentSettings("bert", max_length=40), other, data["train"], names)
    classifier = Classifier(student, its_tokenizer)
    texts = data["validation"]["text"][:6]
    pairs = data["validation"]["text_pair"][:6] if pair else None
    np.testing.assert_allclose(classifier.logits(texts, pairs), other.logits(texts, pairs), atol=1e-4)
    for stage in make_stages("minilmv2"):
        assert np.isfinite(step(student, its_tokenizer, data["train"], stage.losses, other, tmp_path))


@pytest.mark.parametrize("hidden_size", [4, 12])
def test_word_vectors_keep_their_own_size(hidden_size: int, teacher: Teacher, toy_data: Path) -> None:
    """As in ELECTRA; narrower and wider than the student's layers."""
    model, tokenizer = _electra(teacher.tokenizer)
    model.config.id2label = {0: "negative", 1: "positive"}
    other = Teacher(model, tokenizer, max_length=40, dtype="float32")
    settings = StudentSettings("bert", hidden_size=hidden_size, max_length=40, init="random", dropout=0.3)
    student, its_tokenizer = create_student(settings, other, load_data(toy_data)["train"], other.label_names)
    ours, theirs = (part.get_input_embeddings().weight.detach() for part in (student, model))
    assert ours.shape[1] == theirs.shape[1] == 8
    places = [part.convert_tokens_to_ids(["film", "plot"]) for part in (its_tokenizer, tokenizer)]
    angles = [
        torch.nn.functional.cosine_similarity(*table[place], dim=0)
        for table, place in zip((ours, theirs), places, strict=True)
    ]
    assert float(angles[0]) == pytest.approx(float(angles[1]), abs=0.3)  # the teacher's, rotated
    assert student.config.hidden_dropout_prob == 0.3


def test_dropout_sets_the_field_of_each_family(teacher: Teacher, toy_data: Path) -> None:
    for make, name in ((_distilbert, "dropout"), (_modernbert, "mlp_dropout")):
        model, tokenizer = make(teacher.tokenizer)
        model.config.id2label = {0: "negative", 1: "positive"}
        other = Teacher(model, tokenizer, max_length=40, dtype="float32")
        settings = StudentSettings("bert", layers=1, max_length=40, dropout=0.3)
        student, _ = create_student(settings, other, load_data(toy_data)["train"], other.label_names)
        assert getattr(student.config, name) == 0.3


def test_narrower_student_starts_near_its_teacher(teacher: Teacher, toy_data: Path) -> None:
    """Before training, projected layers predict nearly like the teacher, also with labels in another order."""
    data = load_data(toy_data)
    texts = data["test"]["text"]
    theirs = teacher.logits(texts)
    agreement = {}
    for start, names, order in (
        ("skip", ["negative", "positive"], None),
        ("skip", ["good", "bad"], [1, 0]),
        ("random", ["negative", "positive"], None),
    ):
        settings = StudentSettings("bert", hidden_size=24, feed_forward=48, max_length=48, init=start)
        set_seed(0)
        aligned = AlignedTeacher(teacher, order or [0, 1])
        student = Classifier(*create_student(settings, aligned, data["train"], names))
        ours = student.logits(texts)[:, order or [0, 1]]
        agreement[start, names[0]] = float((ours.argmax(1) == theirs.argmax(1)).mean())
    assert agreement["skip", "negative"] > 0.85
    assert agreement["skip", "good"] > 0.85
    assert agreement["random", "negative"] < 0.7
    settings = StudentSettings("bert", layers=1, hidden_size=16, heads=4, init="last")
    few, _ = create_student(settings, teacher, data["train"])
    assert few.config.num_attention_heads == 4
    query = few.base_model.encoder.layer[
        0
    ].attention.self.query.weight  # the teacher has two heads; the others can be trained
    assert query.unflatten(0, (4, -1)).norm(dim=(1, 2)).min() > 0
    settings = StudentSettings("bert", hidden_size=16, feed_forward=128, init="first")  # more neurons than the teacher
    assert create_student(settings, teacher, data["train"])[0].config.intermediate_size == 128


@pytest.mark.parametrize("family", ["distilbert", "modernbert", "deberta"])
def test_create_student_refuses_families_without_projection(family: str, teacher: Teacher, toy_data: Path) -> None:
    other = Teacher(*FAMILIES[family](teacher.tokenizer), max_length=40, dtype="float32")
    settings = StudentSettings("bert", hidden_size=8, init="first", max_length=40)
    with pytest.raises(ModelError, match="projected"):
        create_student(settings, other, load_data(toy_data)["train"], other.label_names)


def test_projected_roberta_keeps_positions(teacher: Teacher, toy_data: Path) -> None:
    """The student's first position is its teacher's first, though their padding ids differ."""
    set_seed(0)
    other = Teacher(*_roberta(None), max_length=40, dtype="float32")
    settings = StudentSettings("bert", hidden_size=8, init="first", max_length=40)
    student, _ = create_student(settings, other, load_data(toy_data)["train"], other.label_names)
    ours, theirs = (
        model.base_model.embeddings.position_embeddings.weight.detach()[model.config.pad_token_id + 1 :][:30]
        for model in (student, other.model)
    )
    basis = torch.linalg.lstsq(theirs, ours).solution
    torch.testing.assert_close(theirs @ basis, ours, atol=1e-4, rtol=1e-3)


@pytest.fixture(scope="module")
def tag_teacher(tag_teacher_folder: Path) -> Teacher:
    return Teacher(tag_teacher_folder, max_length=48, dtype="float32")


@pytest.mark.parametrize("recipe", ["tinybert", "minilm", "distilbert", "bert-emd"])
def test_layer_losses_decrease_for_tagger(recipe: str, tag_teacher: Teacher, toy_tags: Path, tmp_path: Path) -> None:
    student = StudentSettings("bert", layers=1, max_length=48, init="random")
    arguments = {**QUICK, "max_steps": 40, "learning_rate": 3e-3, "logging_strategy": "steps", "logging_steps": 4}
    history = read_history(teach(tag_teacher, toy_tags, tmp_path / "out", student, recipe, arguments))
    for stage in {entry["stage"] for entry in history}:
        first, *_, last = (entry["loss"] for entry in history if entry["stage"] == stage and "loss" in entry)
        assert last < first


def test_theseus_trains_tagger(tag_teacher: Teacher, toy_tags: Path, tmp_path: Path) -> None:
    folder = teach(tag_teacher, toy_tags, tmp_path / "out", StudentSettings("bert", layers=1, max_length=48), "theseus")
    assert np.isfinite(Classifier.from_pretrained(folder).logits([["anna", "went", "to", "rome"]])).all()


def test_tagging_teacher_returns_hidden_states_and_word_logits(tag_teacher: Teacher) -> None:
    sentences = [["anna", "went", "to", "new", "york"], ["rome"], ["st.", "ives"] * 40]
    found = tag_teacher.outputs({"tokens": sentences}, ("logits", "hidden_states"))
    apart = tag_teacher.outputs({"tokens": sentences[:2]})["logits"]
    torch.testing.assert_close(found["logits"][:6], apart)
    assert found["hidden_states"][-1].shape[:2] == found["attention_mask"].shape == (3, 48)
    assert found["logits"].shape == (86, apart.shape[1])
    assert (found["logits"][-1] == 0).all()  # after the last token
    assert (found["logits"][10] != 0).any()


def test_text_losses_refuse_taggers(tag_teacher: Teacher, toy_tags: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="PKDLoss"):
        teach(tag_teacher, toy_tags, tmp_path / "out", StudentSettings("bert", layers=1, max_length=48), "patient-skip")


@pytest.mark.parametrize("fast", [True, False])
def test_with_precision_uses_bfloat16_if_fast(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eyas.training.arguments.has_fast_bfloat16", lambda device: fast)
    assert with_precision({"max_steps": 3}, "bert-tiny") == {"max_steps": 3, "bf16": fast}
    for given in ({"bf16": True}, {"bf16": False}, {"fp16": True}):
        assert with_precision(given, "bert") == given
    assert with_precision({}, "bilstm") == {}


def test_captured_fields_are_float32(teacher: Teacher, toy_data: Path) -> None:
    """Also if the student computes in bfloat16, because losses compare small differences."""
    model = create_student(StudentSettings("bert", layers=1), teacher, load_data(toy_data)["train"])[0]
    inputs = teacher.tokenize(["a film", "a long and winding tale"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(model, inputs, {"queries", "keys", "values"})
    for name in ("queries", "keys", "values"):
        assert found[name][0].dtype is torch.float32
