"""Recipes that look inside the teacher: each trains a student, on the tokens that the teacher reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import toy_rows
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
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
    set_seed,
)

from eyas import RECIPES, Classifier, DistillSettings, StudentSettings, Teacher, create_student, evaluate, load_data
from eyas.errors import ModelError
from eyas.losses import AttentionLoss, HiddenStateLoss, LogitMSELoss, PKDLoss
from eyas.losses.schedules import at
from eyas.models.inside import capture, run
from eyas.models.transformer import chosen_layers
from eyas.tasks import Task
from eyas.teachers import AlignedTeacher
from eyas.training.arguments import with_precision
from eyas.training.checks import check_same_tokens
from eyas.training.distill import distill
from eyas.training.recipes import make_stages, parse_recipe
from eyas.training.recipes.layers import ATTENTION_LOSSES, HIDDEN_LOSSES
from eyas.training.recipes.logits import LOGIT_LOSSES, logit_loss
from eyas.training.steps import training_steps
from eyas.training.trainer import DistillationTrainer

QUICK: dict[str, Any] = {
    "max_steps": 4,
    "per_device_train_batch_size": 16,
    "eval_strategy": "no",
    "save_strategy": "no",
}
QUICK |= {"load_best_model_at_end": False, "bf16": False}


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=48, dtype="float32")


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_trains_a_transformer(recipe: str, teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    student = StudentSettings("bert", layers=2, max_length=48)
    settings = DistillSettings(student, recipe, arguments={**QUICK, "bf16": True})
    folder = distill(teacher, load_data(toy_data), tmp_path / "out", settings)
    with safe_open(folder / "model.safetensors", framework="np") as file:
        names = set(file.keys())
    assert not any("projections" in name for name in names)
    assert Classifier.from_pretrained(folder).logits(["a great film"]).shape == (1, 2)


@pytest.mark.parametrize("attention", ATTENTION_LOSSES)
@pytest.mark.parametrize("hidden", HIDDEN_LOSSES)
def test_losses_of_a_recipe_by_name(
    attention: str, hidden: str, teacher: Teacher, toy_data: Path, tmp_path: Path
) -> None:
    """Relations need neither equal sizes nor as many heads."""
    size = {"heads": 2, "hidden_size": 16} if attention == "relations" else {}
    options = {"attention": attention, "hidden": hidden, "prediction": "mse"}
    student = StudentSettings("bert", layers=1, max_length=48, **size)
    settings = DistillSettings(student, "tinybert", options, arguments=QUICK)
    folder = distill(teacher, load_data(toy_data), tmp_path / "out", settings)
    assert np.isfinite(Classifier.from_pretrained(folder).logits(["a great film"])).all()


def test_losses_of_logits_by_name() -> None:
    """Each is zero, or at its least, where the student answers like the teacher."""
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
def test_losses_of_logits_teach_where_there_are_two_choices_or_say_so(name: str, kind: str) -> None:
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


def test_a_crf_is_taught_by_divergence() -> None:
    """Its logits are log-probabilities, which no teacher's raw logits are."""
    theirs = torch.tensor([[4.0, 1.0, 7.0]])
    ours = theirs.log_softmax(-1)
    for name in ("mse", "huber", "cosine", "divergence"):
        loss = logit_loss(name)({"logits": ours}, {"logits": theirs}, {"posteriors": True})
        assert float(loss) == pytest.approx(0.0, abs=1e-6), name


def test_a_narrow_student_learns_the_teachers_inside(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    data = load_data(toy_data)
    student = StudentSettings("bert", layers=2, hidden_size=16, feed_forward=32, max_length=48)
    arguments = {"num_train_epochs": 10, "per_device_train_batch_size": 16, "learning_rate": 2e-3}
    folder = distill(teacher, data, tmp_path / "out", DistillSettings(student, "tinybert", arguments=arguments))
    assert evaluate(Classifier.from_pretrained(folder), data["test"])["accuracy"] > 0.85


@pytest.mark.parametrize("start", ["first", "last", "skip", "2,1"])
def test_a_student_starts_from_the_teachers_layers(start: str, teacher: Teacher, toy_data: Path) -> None:
    data = load_data(toy_data)
    student, tokenizer = create_student(StudentSettings("bert", max_length=48, init=start), teacher, data["train"])
    texts = data["test"]["text"][:5]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    theirs = teacher.tokenize(texts)
    assert inputs["input_ids"].shape == theirs["input_ids"].shape
    student.eval()
    with torch.no_grad():
        ours = student(**{name: inputs[name] for name in ("input_ids", "attention_mask")}).logits.numpy()
    same = start != "2,1"  # all layers, in their order: the teacher itself
    assert np.allclose(ours, teacher.logits(texts), atol=1e-5) == same


def test_starts_that_are_none(teacher: Teacher, toy_data: Path) -> None:
    train = load_data(toy_data)["train"]
    assert chosen_layers("skip", 3, 12) == [4, 8, 12]
    assert chosen_layers("last", 3, 12) == [10, 11, 12]
    with pytest.raises(ModelError, match=r"No init 'middle'. Expected random, first, last, skip"):
        create_student(StudentSettings("bert", init="middle"), teacher, train)
    with pytest.raises(ModelError, match=r"is \[1, 9\]: expected 2 of the teacher's layers 1 to 2"):
        create_student(StudentSettings("bert", init="1,9"), teacher, train)
    with pytest.raises(ModelError, match="a wider student can't start from its layers"):
        create_student(StudentSettings("bert", hidden_size=64, init="first"), teacher, train)
    with pytest.raises(ModelError, match="can't be cut into 3 heads"):
        create_student(StudentSettings("bert", heads=3), teacher, train)
    with pytest.raises(ModelError, match="cnn is no transformer"):
        create_student(StudentSettings("cnn", layers=2), teacher, train)


def test_a_student_starts_from_a_pretrained_folder(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    """Another model's first layers and word vectors, below a new head."""
    data = load_data(toy_data)
    arguments = {**QUICK, "max_steps": 60, "learning_rate": 1e-3}
    general = DistillSettings(StudentSettings("bert", hidden_size=16, heads=2, max_length=48), arguments=arguments)
    folder = distill(teacher, data, tmp_path / "general", general)
    theirs = Classifier.from_pretrained(folder).model
    settings = StudentSettings("bert", layers=1, max_length=48, init=str(folder))
    student, _ = create_student(settings, teacher, data["train"])
    assert (student.config.num_hidden_layers, student.config.hidden_size) == (1, 16)
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(student.state_dict()[query], theirs.state_dict()[query])
    assert settings.copies_layers(32)
    out = distill(teacher, data, tmp_path / "out", DistillSettings(settings, "patient-skip", arguments=QUICK))
    assert Classifier.from_pretrained(out).logits(["a great film"]).shape == (1, 2)
    with pytest.raises(ModelError, match=r"expected a model folder|No init"):
        create_student(StudentSettings("bert", init=str(tmp_path / "none")), teacher, data["train"])


def test_nothing_is_computed_that_no_loss_asked_for(teacher: Teacher) -> None:
    batch = {"text": ["a great film"]}
    assert teacher.outputs(batch).keys() == {"logits"}
    assert teacher.outputs(batch, ("hidden_states",)).keys() == {"hidden_states", "attention_mask", "heads"}
    found = teacher.outputs(batch, ("queries", "values"))
    assert found.keys() == {"queries", "values", "attention_mask", "heads"}
    assert len(found["queries"]) == teacher.model.config.num_hidden_layers
    projections = [module for module in teacher.model.modules() if isinstance(module, torch.nn.Linear)]
    assert not any(module._forward_hooks for module in projections)


def test_captured_queries_and_keys_make_the_models_attention(teacher: Teacher) -> None:
    """Against what transformers itself returns with its eager attention."""
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


def test_what_has_no_layers_is_refused(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    data = load_data(toy_data)
    with pytest.raises(ModelError, match="looks at the teacher's layers, and cnn has none like them"):
        distill(teacher, data, tmp_path / "a", DistillSettings(StudentSettings("cnn"), "tinybert", arguments=QUICK))
    student, tokenizer = create_student(StudentSettings("bert", layers=1), teacher, data["train"])
    with pytest.raises(ModelError, match="HiddenStateLoss needs hidden_states from the teacher"):
        DistillationTrainer(
            student,
            train_dataset=data["train"],
            processing_class=tokenizer,
            losses=[HiddenStateLoss()],
            teacher=teacher.label(data["train"]),
        )


def test_the_teacher_reads_no_further_than_a_student_of_layers(
    teacher: Teacher, toy_data: Path, tmp_path: Path
) -> None:
    student = StudentSettings("bert", layers=1, max_length=4)
    folder = distill(
        teacher, load_data(toy_data), tmp_path / "a", DistillSettings(student, "tinybert", arguments=QUICK)
    )
    assert Classifier.from_pretrained(folder).max_length == 4
    text = ["a film that goes on and on"]
    assert teacher.reading(4).tokenize(text)["input_ids"].shape == (1, 4)
    assert teacher.tokenize(text)["input_ids"].shape[1] > 4
    assert teacher.reading(1000).max_length == teacher.max_length


def test_tokens_that_do_not_lie_on_each_other() -> None:
    with pytest.raises(ModelError, match=r"\[2, 3\] vs. \[2, 4\]"):
        check_same_tokens(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ModelError, match="--vocab-size"):
        check_same_tokens(torch.tensor([[1, 1, 0]]), torch.ones(1, 3))


@pytest.mark.parametrize("mapping", ["uniform", "earth-movers"])
def test_an_interrupted_projection_goes_on(mapping: str, teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    """What losses learn with the student, and remember, is in its checkpoints: the same weights at the end."""
    data = load_data(toy_data)
    student = StudentSettings("bert", layers=1, hidden_size=16, feed_forward=32, max_length=48)

    def trained(folder: Path, stop: int | None) -> dict[str, torch.Tensor]:
        from transformers import set_seed

        set_seed(0)
        model, tokenizer = create_student(student, teacher, data["train"])
        arguments = {"output_dir": str(folder), "max_steps": 12, "eval_strategy": "steps", "eval_steps": 4}
        arguments |= {"save_strategy": "steps", "save_steps": 4, "load_best_model_at_end": False, "seed": 0}
        from transformers import TrainerCallback

        from eyas import DistillationArguments

        class Stop(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == stop:
                    raise KeyboardInterrupt

        trainer = DistillationTrainer(
            model,
            DistillationArguments(**arguments),  # type: ignore[arg-type]
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            processing_class=tokenizer,
            losses=[LogitMSELoss(), HiddenStateLoss(mapping), AttentionLoss("probabilities")],
            teacher=teacher,
            callbacks=[Stop()],
        )
        trainer.train(resume_from_checkpoint=True)
        return {name: value.clone() for name, value in model.state_dict().items()}

    undisturbed = trained(tmp_path / "a", None)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "b", 9)
    resumed = trained(tmp_path / "b", None)
    assert undisturbed.keys() == resumed.keys()
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


def test_a_head_that_is_not_the_teachers_is_not_frozen(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    for more in ({"embeddings": "random"}, {"init": "random"}):
        settings = DistillSettings(StudentSettings("bert", max_length=48, **more), "simkd", arguments=QUICK)
        with pytest.raises(ModelError, match=r"simkd leaves the student's head as it is.* makes another one"):
            distill(teacher, load_data(toy_data), tmp_path / "out", settings)


def test_copied_layers_learn_at_their_own_rate() -> None:
    """Whether the width is said or not."""
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


def test_stages_share_the_steps() -> None:
    steps = {"max_steps": 100}
    assert training_steps(DistillSettings(recipe="tinybert", arguments=steps), 640) == 100
    assert training_steps(DistillSettings(recipe="logit-mse", arguments={"num_train_epochs": 3}), 640) == 30
    assert training_steps(DistillSettings(recipe="minilm", arguments={"num_train_epochs": 3}), 640) == 30


def test_options_of_a_recipe() -> None:
    assert parse_recipe("tinybert mapping=top attention_weight=0.5") == (
        "tinybert",
        {"mapping": "top", "attention_weight": 0.5},
    )
    inner = make_stages(*parse_recipe("tinybert attention_weight=0.5 hidden_weight=2"))[0]
    assert [loss.weight for loss in inner.losses] == [1.0, 2, 0.5]
    inner = make_stages(*parse_recipe("tinybert attention_weight=0"))[0]
    assert inner.teacher_fields == {"hidden_states"}  # what counts nothing is not asked for
    with pytest.raises(ModelError, match=r"tinybert has no option 'maping'. It has mapping, attention_weight"):
        make_stages("tinybert", {"maping": "top"})
    with pytest.raises(ModelError, match="expected OPTION=VALUE"):
        parse_recipe("tinybert top")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("patient-skip temperature=0", "patient-skip: temperature=0, expected a number above 0"),
        ("patient-skip temperature=hot", "temperature='hot', expected a number"),
        ("bert-emd temperature=0", "expected a number above 0"),
        ("minilmv2 heads=x", "heads='x', expected a whole number above 0"),
        ("annealing highest=0", "highest=0, expected a whole number above 0"),
        ("ad-kd dimensions=-1", "dimensions=-1, expected a whole number above 0"),
        ("minilmv2 teacher_layer=1.5", "teacher_layer=1.5, expected a whole number"),
        ("tinybert mapping=3", "No layer mapping 3"),
        ("tinybert hidden_weight=-1", "expected no number below 0"),
        ("soft-targets temperature=linear:4:0", "temperature=0.0, expected a number above 0, or a schedule such as"),
        ("soft-targets hard_weight=ramp:1:0", "No schedule 'ramp:1:0'. Expected linear:8:1"),
        ("patient-skip hard_weight=2", "hard_weight=2, expected at most 1: soft targets have the rest"),
        ("ad-kd hard_weight=linear:0:2", "hard_weight=2, expected at most 1"),
        ("bert-emd temperature=linear:2:1", "follows no schedule"),
        ("theseus rate=linear:0:1", "rate='linear:0:1', expected a number"),
        ("logit-mse mutual=much", "mutual='much', expected a number, or a schedule such as linear:1:0"),
        ("logit-mse weights=free", "weights='free', expected one of fixed, learned"),
        ("tinybert mapping=1,2", "No layer mapping '1,2'"),
        ("theseus rate=2", "rate=2, expected a share above 0, at most 1"),
        ("tinybert attention=heads", "attention='heads', expected one of scores, probabilities, divergence, relations"),
        ("soft-targets loss=hubert", "loss='hubert', expected one of divergence, soft-cross-entropy"),
        ("soft-targets loss=huber temperature=2", "huber has no temperature"),
        ("sra cosine_weight=0 mse_weight=0", "All terms of a stage have the weight 0"),
        ("tinybert mapping=attention", "weighs hidden states, not attentions"),
        ("tinybert mapping=attention attention=relations", "weighs hidden states, not attentions"),
        ("soft-targets hard_weight=0 weights=learned", "has one term at a time"),
    ],
)
def test_options_that_can_not_be_meant(recipe: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_stages(*parse_recipe(recipe))
    assert make_stages("ad-kd", {"dimensions": None})
    assert make_stages("tinybert", {"mapping": "attention", "attention_weight": 0})
    with pytest.raises(ModelError, match=r"hidden=\['mse'\], expected one of mse"):
        make_stages("tinybert", {"hidden": ["mse"]})


def test_weights_and_temperatures_follow_schedules_and_layers_are_named() -> None:
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
        ("tinybert mapping=1-3", {}, r"the pair \(1, 3\), but there are 1 layers in the student and 2 in the teacher"),
        ("patient-skip weights=learned", {"layers": 4, "init": "1,9,1,1"}, r"is \[1, 9, 1, 1\]"),
        ("tinybert mapping=mean weights=learned", {"layers": 3, "init": "random"}, "The mapping 'mean' gives each"),
        ("tinybert", {"hidden_size": 16, "heads": 1}, "the student has 1 heads and the teacher 2"),
        ("logit-mse", {"heads": 3}, "can't be cut into 3 heads"),
        ("logit-mse", {"hidden_size": 64, "init": "first"}, "a wider student can't start from its layers"),
    ],
)
def test_what_does_not_fit_is_refused_before_texts_are_labelled(
    recipe: str, size: dict[str, Any], message: str, teacher: Teacher, toy_data: Path, tmp_path: Path
) -> None:
    student = StudentSettings("bert", max_length=48, **{"layers": 1, **size})
    settings = DistillSettings(student, *parse_recipe(recipe), arguments=QUICK)
    with pytest.raises(ModelError, match=message):
        distill(teacher, load_data(toy_data), tmp_path / "out", settings, cache=tmp_path / "cache")
    assert not list(tmp_path.iterdir())


def test_a_layer_that_the_teacher_has_not(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    settings = DistillSettings(StudentSettings("bert", layers=1), "minilmv2", {"teacher_layer": 9}, arguments=QUICK)
    with pytest.raises(ModelError, match="teacher_layer=9, expected 1 to 2"):
        distill(teacher, load_data(toy_data), tmp_path / "out", settings)


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
def test_a_student_of_another_family_is_its_teacher_at_the_start(
    family: str, pair: bool, teacher: Teacher, toy_data: Path, toy_pairs: Path, tmp_path: Path
) -> None:
    """With all layers copied: its tokens, positions and special tokens are where the teacher's are."""
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
    settings = DistillSettings(StudentSettings("bert", layers=1, max_length=40), "minilmv2", arguments=QUICK)
    distill(other, data, tmp_path / "student", settings)


@pytest.mark.parametrize("hidden_size", [4, 12])
def test_word_vectors_keep_a_width_of_their_own(hidden_size: int, teacher: Teacher, toy_data: Path) -> None:
    """ELECTRA's; narrower and wider than the student's layers."""
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
    assert float(angles[0]) == pytest.approx(float(angles[1]), abs=0.3)  # theirs, turned
    assert student.config.hidden_dropout_prob == 0.3


def test_dropout_by_its_familys_name(teacher: Teacher, toy_data: Path) -> None:
    for make, name in ((_distilbert, "dropout"), (_modernbert, "mlp_dropout")):
        model, tokenizer = make(teacher.tokenizer)
        model.config.id2label = {0: "negative", 1: "positive"}
        other = Teacher(model, tokenizer, max_length=40, dtype="float32")
        settings = StudentSettings("bert", layers=1, max_length=40, dropout=0.3)
        student, _ = create_student(settings, other, load_data(toy_data)["train"], other.label_names)
        assert getattr(student.config, name) == 0.3


def test_a_narrower_student_starts_near_its_teacher(teacher: Teacher, toy_data: Path) -> None:
    """Projected layers answer nearly as the teacher does before any training; the labels may be in another order."""
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
    query = few.base_model.encoder.layer[0].attention.self.query.weight  # the teacher has two: the others can learn
    assert query.unflatten(0, (4, -1)).norm(dim=(1, 2)).min() > 0
    settings = StudentSettings("bert", hidden_size=16, feed_forward=128, init="first")  # more neurons than the teacher
    assert create_student(settings, teacher, data["train"])[0].config.intermediate_size == 128


@pytest.mark.parametrize("family", ["distilbert", "modernbert", "deberta"])
def test_families_that_can_not_be_projected(family: str, teacher: Teacher, toy_data: Path) -> None:
    other = Teacher(*FAMILIES[family](teacher.tokenizer), max_length=40, dtype="float32")
    settings = StudentSettings("bert", hidden_size=8, init="first", max_length=40)
    with pytest.raises(ModelError, match="can't be projected: its layers are not called as BERT's"):
        create_student(settings, other, load_data(toy_data)["train"], other.label_names)


def test_positions_of_a_projected_roberta(teacher: Teacher, toy_data: Path) -> None:
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


@pytest.mark.parametrize("recipe", ["tinybert", "minilm", "distilbert", "bert-emd", "theseus"])
def test_a_tagger_learns_from_layers(recipe: str, tag_teacher: Teacher, toy_tags: Path, tmp_path: Path) -> None:
    student = StudentSettings("bert", layers=1, max_length=48, init=None if recipe == "theseus" else "random")
    arguments = {**QUICK, "max_steps": 120, "learning_rate": 1e-3}
    settings = DistillSettings(student, recipe, arguments=arguments)
    folder = distill(tag_teacher, load_data(toy_tags), tmp_path / "out", settings)
    scores = evaluate(Classifier.from_pretrained(folder), load_data(toy_tags)["test"])
    assert scores["accuracy"] > 0.85  # 58 % of the tags are O


def test_what_a_tagging_teacher_shows_of_its_inside(tag_teacher: Teacher) -> None:
    sentences = [["anna", "went", "to", "new", "york"], ["rome"], ["st.", "ives"] * 40]
    found = tag_teacher.outputs({"tokens": sentences}, ("logits", "hidden_states"))
    apart = tag_teacher.outputs({"tokens": sentences[:2]})["logits"]
    torch.testing.assert_close(found["logits"][:6], apart)
    assert found["hidden_states"][-1].shape[:2] == found["attention_mask"].shape == (3, 48)
    assert found["logits"].shape == (86, apart.shape[1])
    assert (found["logits"][-1] == 0).all()  # behind the last token
    assert (found["logits"][10] != 0).any()


def test_losses_of_whole_texts_are_refused_for_taggers(tag_teacher: Teacher, toy_tags: Path, tmp_path: Path) -> None:
    settings = DistillSettings(StudentSettings("bert", layers=1, max_length=48), "patient-skip", arguments=QUICK)
    with pytest.raises(ModelError, match="PKDLoss compares whole texts, and a tagger reads words"):
        distill(tag_teacher, load_data(toy_tags), tmp_path / "out", settings)


@pytest.mark.parametrize("fast", [True, False])
def test_transformers_train_in_bfloat16_where_it_is_fast(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eyas.training.arguments.has_fast_bfloat16", lambda device: fast)
    assert with_precision({"max_steps": 3}, "bert-tiny") == {"max_steps": 3, "bf16": fast}
    for given in ({"bf16": True}, {"bf16": False}, {"fp16": True}):
        assert with_precision(given, "bert") == given
    assert with_precision({}, "bilstm") == {}


def test_what_is_taken_from_inside_is_float32(teacher: Teacher, toy_data: Path) -> None:
    """Also where the student computes in bfloat16: losses compare small differences."""
    model = create_student(StudentSettings("bert", layers=1), teacher, load_data(toy_data)["train"])[0]
    inputs = teacher.tokenize(["a film", "a long and winding tale"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(model, inputs, {"queries", "keys", "values"})
    for name in ("queries", "keys", "values"):
        assert found[name][0].dtype is torch.float32
