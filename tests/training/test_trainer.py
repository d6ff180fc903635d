"""The trainer, and the pitfalls of transformers' Trainer that it avoids."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import STUDENT_ARGUMENTS, make_trainer
from datasets import DatasetDict
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import TrainerCallback, set_seed

from eyas import (
    CachedTeacher,
    DistillationTrainer,
    HardLabelLoss,
    LogitMSELoss,
    Loss,
    StudentSettings,
    Teacher,
    create_student,
    load_data,
)
from eyas.data.datasets import task_of, without_labels
from eyas.errors import LabelError, ModelError
from eyas.training.batches import LengthGroupedBatchSampler
from eyas.training.checkpoints import newest_whole
from eyas.training.encoded import EncodedTexts
from eyas.training.optimizer import LazyAdamW, clip_gradients, set_sparse_embeddings, word_table
from eyas.training.theseus import Replacing


@pytest.fixture(scope="module")
def data(toy_data: Path) -> DatasetDict:
    return load_data(toy_data)


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=64, dtype="float32")


@pytest.fixture(scope="module")
def cached(teacher: Teacher, data: DatasetDict) -> CachedTeacher:
    return teacher.label(data["train"])


def student(teacher: Teacher, data: DatasetDict, name: str = "cnn", **options: Any) -> tuple[Any, Any]:
    set_seed(0)
    settings = StudentSettings(name, embedding_size=16, hidden_size=16, max_length=48, **options)
    return create_student(settings, teacher, data["train"])


def trainer(
    folder: Path,
    teacher: Teacher,
    data: DatasetDict,
    losses: list[Loss],
    source: Any,
    name: str = "cnn",
    **options: Any,
) -> DistillationTrainer:
    """Two epochs with checkpoints unless `options` change it."""
    defaults = {"max_steps": -1, "num_train_epochs": 2, "learning_rate": 5e-3}
    defaults |= {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    rows = data["train"], losses, source, folder, data["validation"]
    return make_trainer(*student(teacher, data, name), *rows, **{**defaults, **options})


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_student_learns_from_logits_alone(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, cached: CachedTeacher
) -> None:
    """One of the few tests that train."""
    run = trainer(tmp_path, teacher, data, [LogitMSELoss()], cached, **STUDENT_ARGUMENTS)
    run.train()
    assert run.evaluate()["eval_accuracy"] > 0.75


class Equal(Loss):
    """A term that weights every row equally, so that accumulation must change nothing."""

    teacher_fields = frozenset({"logits"})

    def forward(self, student: Any, teacher: Any, batch: Any, progress: float = 0.0) -> torch.Tensor:
        return ((student["logits"] - teacher["logits"]) ** 2).mean()


def test_accumulated_gradients_equal_one_large_batch(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, cached: CachedTeacher
) -> None:
    """Pitfall (a): the Trainer does not divide an overridden compute_loss by the accumulation steps."""
    norms = []

    class Norm(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            dense = [p.grad.to_dense() for p in model.parameters() if p.grad is not None]
            norms.append(torch.cat([g.flatten() for g in dense]))

    for batch_size, steps in ((32, 1), (8, 4)):
        run = trainer(
            tmp_path / str(steps), teacher, data, [Equal()], cached, max_steps=1, eval_strategy="no",
            save_strategy="no", load_best_model_at_end=False, per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=steps,
        )  # fmt: skip
        run.model.head.dropout.p = run.model.dropout.p = 0.0
        in_order = SequentialSampler(run.train_dataset)
        run.train_batches = lambda size=batch_size, rows=in_order: BatchSampler(rows, size, False)
        run.add_callback(Norm())
        run.train()
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-4, atol=1e-6)


def test_evaluation_never_runs_the_teacher(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, cached: CachedTeacher
) -> None:
    """Pitfall (b): evaluate() calls compute_loss."""
    run = trainer(tmp_path, teacher, data, [LogitMSELoss()], cached)
    run.lessons[""].ask = lambda *_: pytest.fail("the teacher was asked")
    assert run.evaluate()["eval_loss"] > 0


def test_evaluation_computes_metrics(tmp_path: Path, teacher: Teacher, data: DatasetDict) -> None:
    """Pitfall (c): without a parameter named labels, compute_metrics is never called."""
    scores = trainer(tmp_path, teacher, data, [HardLabelLoss()], None).evaluate()
    assert {"eval_accuracy", "eval_macro_f1", "eval_matthews", "eval_calibration_error"} <= scores.keys()


def test_example_ids_reach_the_teacher(tmp_path: Path, teacher: Teacher, data: DatasetDict) -> None:
    """Pitfall (d): remove_unused_columns=True would drop them."""
    seen: list[int] = []

    class Listening(CachedTeacher):
        def __init__(self) -> None:
            self.label_names = ["negative", "positive"]

        def outputs(self, batch: Any, fields: Any = ()) -> dict[str, Any]:
            seen.extend(batch["example_id"].tolist())
            return {"logits": torch.zeros(len(batch["example_id"]), 2)}

    run = trainer(
        tmp_path, teacher, data, [LogitMSELoss()], Listening(), remove_unused_columns=True, num_train_epochs=1
    )
    run.train()
    assert sorted(seen) == sorted(data["train"]["example_id"])


def test_live_and_cached_teacher_train_same_weights(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, cached: CachedTeacher
) -> None:
    models = []
    for source in (teacher, cached):
        run = trainer(tmp_path / type(source).__name__, teacher, data, [LogitMSELoss()], source, num_train_epochs=1)
        run.train()
        models.append(weights(run.model))
    torch.testing.assert_close(models[0], models[1], rtol=1e-2, atol=1e-3)


def test_trainer_refuses_loss_with_missing_fields(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, cached: Any
) -> None:
    class Hidden(LogitMSELoss):
        teacher_fields = frozenset({"hidden_states"})

    with pytest.raises(ModelError, match=r"Hidden .*hidden_states.*CachedTeacher"):
        trainer(tmp_path, teacher, data, [Hidden()], cached)
    with pytest.raises(ModelError, match=r"LogitMSELoss .*logits"):
        trainer(tmp_path, teacher, data, [LogitMSELoss()], None)


def test_trainer_matches_labels_by_name(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, cached: CachedTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "label_names", ["Positive", "Negative"])
    run = trainer(tmp_path, teacher, data, [LogitMSELoss()], cached)
    aligned = run.lessons[""].teacher
    assert aligned is not None
    assert aligned.order == [1, 0]
    monkeypatch.setattr(cached, "label_names", ["good", "bad"])
    with pytest.raises(LabelError, match=r"\['negative', 'positive'\].*\['good"):
        trainer(tmp_path, teacher, data, [LogitMSELoss()], cached)


def test_encoded_texts_have_no_labels_for_unlabeled_rows(tmp_path: Path, teacher: Teacher, data: DatasetDict) -> None:
    rows = without_labels(data["train"].remove_columns("label"), task_of(data["train"]))
    encoded = EncodedTexts(rows, student(teacher, data)[1], 48)
    assert set(encoded.labels.tolist()) == {-100}


@pytest.mark.process
@pytest.mark.parametrize("name", ["cnn", "bilstm"])
def test_training_gives_same_bits_for_same_seed_and_when_resumed(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, cached: CachedTeacher, name: str
) -> None:
    class StopAt(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 22:
                raise KeyboardInterrupt

    def fresh(folder: str) -> DistillationTrainer:
        return trainer(
            tmp_path / folder, teacher, data, [LogitMSELoss()], cached, name, save_strategy="steps", save_steps=10,
            eval_strategy="steps", eval_steps=10,
        )  # fmt: skip

    models = []
    for folder in ("first", "second"):
        run = fresh(folder)
        run.train()
        models.append(weights(run.model))
    broken = fresh("broken")
    broken.add_callback(StopAt())
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    again = fresh("broken")
    again.train(resume_from_checkpoint=True)
    assert again._initial_global_step == 20
    models.append(weights(again.model))
    assert torch.equal(models[0], models[1])
    assert torch.equal(models[0], models[2])


@pytest.mark.parametrize("damage", ["cut", "missing", "no manifest", "bit"])
def test_damaged_checkpoint_is_skipped(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = trainer(tmp_path, teacher, data, [HardLabelLoss()], None, num_train_epochs=2, save_total_limit=None)
    run.train()
    newest = newest_whole(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-30"
    target = newest / "optimizer.pt"
    if damage == "cut":
        target.write_bytes(target.read_bytes()[:100])
    elif damage == "missing":
        target.unlink()
    elif damage == "bit":
        content = bytearray((newest / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (newest / "model.safetensors").write_bytes(content)
    else:
        (newest / "manifest.json").unlink()
    older = newest_whole(tmp_path)
    assert older is not None
    assert older.name == "checkpoint-15"
    assert "Skipping checkpoint" in caplog.text


def test_failed_checkpoint_leaves_no_files(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(tmp_path, teacher, data, [HardLabelLoss()], None)

    def fail(folder: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "_save_optimizer_and_scheduler", fail)
    with pytest.raises(Exception, match="No space left"):
        run.train()
    assert not list(tmp_path.glob("checkpoint-*"))
    assert not (tmp_path / ".staging").exists()


def test_best_checkpoint_is_recorded_by_its_final_name(tmp_path: Path, teacher: Teacher, data: DatasetDict) -> None:
    run = trainer(tmp_path, teacher, data, [HardLabelLoss()], None)
    run.train()
    state = json.loads((tmp_path / "checkpoint-30" / "trainer_state.json").read_text())
    assert Path(state["best_model_checkpoint"]).is_dir()
    assert ".staging" not in state["best_model_checkpoint"]


def test_divergence_stops_training(tmp_path: Path, teacher: Teacher, data: DatasetDict) -> None:
    class Broken(HardLabelLoss):
        def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return super().forward(*args, **kwargs) * float("nan")

    with pytest.raises(ModelError, match="diverged"):
        trainer(tmp_path, teacher, data, [Broken()], None).train()


def test_sampler_yields_every_row_once_in_batches_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 1003)
    sampler = LengthGroupedBatchSampler(lengths, 16, seed=0)
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(1003))
    assert len(sampler) == len(batches) == 63
    assert [len(batch) for batch in batches].count(16) == 62
    assert np.mean([np.ptp(lengths[batch]) for batch in batches]) < 5
    assert list(sampler) == batches
    sampler.set_epoch(1)
    assert list(sampler) != batches


def test_encoded_batch_equals_tokenizer_output(teacher: Teacher, data: DatasetDict) -> None:
    _, tokenizer = student(teacher, data)
    encoded = EncodedTexts(data["train"], tokenizer, 48)
    batch = encoded.__getitems__([3, 0, 200])
    expected = tokenizer([data["train"]["text"][i] for i in (3, 0, 200)], padding=True, return_tensors="pt")
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["attention_mask"].long(), expected["attention_mask"])
    assert batch["labels"].tolist() == [data["train"]["label"][i] for i in (3, 0, 200)]


def test_lazy_optimizer_equals_adam_on_touched_rows() -> None:
    """If every step touches every row, lazy and dense Adam agree."""
    results = []
    for lazy in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 2))
        if lazy:
            set_sparse_embeddings(model.modules(), True)
            optimizer: torch.optim.Optimizer = LazyAdamW(model, 0.1, 0.0)
        else:
            optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.0)
        for _ in range(5):
            model(torch.arange(6)).pow(2).sum().backward()
            if lazy:
                clip_gradients(model, 1.0)
            else:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        results.append(weights(model))
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-3)


def test_lazy_optimizer_leaves_other_rows_unchanged() -> None:
    model = nn.Sequential(nn.Embedding(1000, 4), nn.Linear(4, 2))
    set_sparse_embeddings(model.modules(), True)
    before = model[0].weight.detach().clone()
    optimizer = LazyAdamW(model, 0.1, 0.1)
    model(torch.tensor([3, 5])).sum().backward()
    optimizer.step()
    changed = (model[0].weight != before).any(1).nonzero().flatten().tolist()
    assert changed == [3, 5]


def test_frozen_embeddings_do_not_change(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, cached: CachedTeacher
) -> None:
    model, tokenizer = student(teacher, data, freeze_embeddings=True)
    before = model.embeddings.weight.detach().clone()
    make_trainer(model, tokenizer, data["train"], [LogitMSELoss()], cached, tmp_path).train()
    assert torch.equal(model.embeddings.weight, before)


def test_optimizer_has_no_accelerate_wrapper(tmp_path: Path, teacher: Teacher, data: DatasetDict) -> None:
    """accelerate's wrapper searches the disk for a package in every step."""
    made = trainer(tmp_path, teacher, data, [HardLabelLoss()], None, num_train_epochs=1)
    before = weights(made.model)
    made.train()
    assert type(made.optimizer) is LazyAdamW
    assert not torch.equal(weights(made.model), before)


def test_transformers_update_only_the_words_of_a_batch_unless_another_optimizer_is_chosen(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, cached: CachedTeacher
) -> None:
    """Without weight decay, a word that no training text has keeps its vector exactly under lazy AdamW."""
    changes = {}
    for optim in ("adamw_torch_fused", "sgd"):
        settings = StudentSettings("bert", layers=1, max_length=48)
        model, tokenizer = create_student(settings, teacher, data["train"])
        table: Any = model.get_input_embeddings()
        before = table.weight.detach().clone()
        extra = {"optim": optim, "weight_decay": 0.1, "max_steps": 3, "num_train_epochs": 1, "bf16": False}
        rows = data["train"], [LogitMSELoss()], cached, tmp_path / optim, data["validation"]
        run = make_trainer(model, tokenizer, *rows, **{**STUDENT_ARGUMENTS, **extra})
        run.train()
        changed = (table.weight.detach() != before).any(1)
        read = torch.zeros(len(before), dtype=torch.bool)
        read[torch.cat([tokenizer(t, return_tensors="pt")["input_ids"][0] for t in data["train"]["text"]])] = True
        changes[optim] = changed
        assert type(run.optimizer).__name__ == ("LazyAdamW" if optim == "adamw_torch_fused" else "AcceleratedOptimizer")
        assert not table.sparse
    assert not (changes["adamw_torch_fused"] & ~read).any()
    assert (changes["sgd"] & ~read).any()


def test_interrupted_training_gives_display_and_layers_back(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    @contextmanager
    def display(*args: Any) -> Iterator[Any]:
        shown.append("open")
        try:
            yield lambda count: None
        finally:
            shown.append("closed")

    class Stop(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr("eyas.training.callbacks.progress", display)
    model, tokenizer = create_student(StudentSettings("bert", layers=1, max_length=48), teacher, data["train"])
    callbacks = [Replacing(model, teacher.model, lambda progress: 0.5), Stop()]
    run = make_trainer(
        model, tokenizer, data["train"], [HardLabelLoss()], None, tmp_path, data["validation"], callbacks
    )
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert shown == ["open", "closed"]
    assert not any(module._forward_hooks for module in model.modules())


def test_gradients_may_be_left_unclipped(
    tmp_path: Path, teacher: Teacher, data: DatasetDict, cached: CachedTeacher
) -> None:
    run = trainer(tmp_path, teacher, data, [LogitMSELoss()], cached, max_grad_norm=0, max_steps=3, logging_steps=1)
    run.train()
    assert all(np.isfinite(entry["loss"]) for entry in run.state.log_history if "loss" in entry)


def test_table_that_is_computed_gets_dense_gradients(teacher: Teacher, data: DatasetDict) -> None:
    model, _ = create_student(StudentSettings("bert", layers=1, max_length=48), teacher, data["train"])
    table = word_table(model)
    parametrize.register_parametrization(table, "weight", nn.Identity())
    set_sparse_embeddings([table], True)
    assert not table.sparse
    assert not list(word_table(nn.Linear(2, 2)).parameters())
