"""The teacher is frozen, its outputs are joined by id, and its cache refuses other teachers and data."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertForQuestionAnswering

from eyas.data.datasets import ids_of, load_data
from eyas.errors import CacheError, ModelError
from eyas.teachers import CachedTeacher, Encoder, Teacher, label_texts
from eyas.teachers import cached as cached_module
from eyas.teachers.cached import TOKENS_PER_BATCH, _labeled


@pytest.fixture
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher(teacher_folder, max_length=64, dtype="float32")


def test_teacher_is_frozen_in_eval_mode(teacher: Teacher) -> None:
    assert not any(p.requires_grad for p in teacher.model.parameters())
    teacher.model.train()
    first, second = (teacher.outputs({"text": ["a great film"]})["logits"] for _ in range(2))
    assert not teacher.model.training
    assert torch.equal(first, second)
    inside = teacher.outputs({"text": ["a great film"]}, ("logits", "hidden_states", "queries", "keys", "values"))
    tensors = [part for value in inside.values() for part in (value if isinstance(value, tuple) else [value])]
    assert sum(isinstance(part, torch.Tensor) for part in tensors) > 9
    assert not any(part.requires_grad for part in tensors if isinstance(part, torch.Tensor))


def test_fingerprint_follows_the_configuration(teacher_folder: Path, tmp_path: Path) -> None:
    """The same weights read by another number of heads are another function; a moved copy is not."""
    shutil.copytree(teacher_folder, tmp_path / "copy")
    before = Teacher(teacher_folder).fingerprint
    assert Teacher(tmp_path / "copy").fingerprint == before
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    config["num_attention_heads"] *= 2
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config))
    assert Teacher(tmp_path / "copy").fingerprint != before


def test_teacher_returns_hidden_states_and_attentions(teacher: Teacher) -> None:
    """With transformers' default attention, the attentions would silently be an empty tuple."""
    assert teacher.model.config._attn_implementation == "sdpa"
    outputs = teacher.outputs({"text": ["a film"]}, ("logits", "hidden_states", "attentions"))
    assert len(outputs["hidden_states"]) == 3
    assert [tuple(layer.shape) for layer in outputs["attentions"]] == [(1, 2, 4, 4)] * 2


def test_cached_logits_equal_live_logits_in_any_order(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    train = load_data(toy_data)["train"]
    cached = teacher.label(train, tmp_path / "cache")
    rows = np.random.default_rng(0).permutation(len(train))[:50]
    batch = {"text": [train["text"][int(i)] for i in rows], "example_id": ids_of(train)[rows]}
    torch.testing.assert_close(cached.outputs(batch)["logits"], teacher.outputs(batch)["logits"], rtol=0, atol=1e-5)


def test_bfloat16_teacher_keeps_labels(teacher_folder: Path, toy_data: Path) -> None:
    texts = load_data(toy_data)["validation"]
    exact, fast = (Teacher(teacher_folder, 64, dtype=d).label(texts) for d in ("float32", "bfloat16"))
    ids = ids_of(texts)
    assert (exact.logits(ids).argmax(1) == fast.logits(ids).argmax(1)).float().mean() > 0.85
    assert exact.folder != fast.folder


def test_label_reads_cache_the_second_time(teacher: Teacher, toy_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = load_data(toy_data)["validation"]
    teacher.label(texts)
    monkeypatch.setattr(teacher.model, "forward", lambda **_: pytest.fail("the teacher ran again"))
    assert teacher.label(texts).logits(ids_of(texts)).shape == (60, 2)


def test_resumed_labeling_gives_same_bits(
    teacher: Teacher, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_module, "ROWS_PER_SHARD", 32)
    texts = load_data(toy_data)["train"]
    whole = label_texts(teacher, texts, tmp_path / "whole")
    label_texts(teacher, texts, tmp_path / "broken")
    for shard in ("shard-000002", "shard-000005"):
        (tmp_path / "broken" / f"{shard}.safetensors").unlink()
    with pytest.raises(CacheError, match="it was interrupted"):
        CachedTeacher(tmp_path / "broken")
    again = label_texts(teacher, texts, tmp_path / "broken")
    assert torch.equal(again.logits(ids_of(texts)), whole.logits(ids_of(texts)))


def test_cache_refuses_other_teacher_or_data(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    data, cache = load_data(toy_data), tmp_path / "cache"
    label_texts(teacher, data["validation"], cache)
    with pytest.raises(CacheError, match="made with different data and rows"):
        label_texts(teacher, data["train"], cache)
    with pytest.raises(CacheError, match="no logits for 240 of 240 texts: it was made from other data"):
        CachedTeacher(cache).logits(ids_of(data["train"]))
    teacher.model.classifier.bias.data += 1
    with pytest.raises(CacheError, match="different teacher weights"):
        label_texts(Teacher(teacher.model, teacher.tokenizer, max_length=64), data["validation"], cache)
    teacher.model.classifier.bias.data -= 1
    with pytest.raises(CacheError, match="max length"):
        label_texts(teacher.reading(32), data["validation"], cache)


def test_label_texts_leaves_other_folders_alone(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(CacheError, match="not empty and not a cache"):
        label_texts(teacher, load_data(toy_data)["validation"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_label_texts_accepts_cache_started_by_another_process(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    (tmp_path / ".fingerprint.json.123.tmp").write_text("{")
    validation = load_data(toy_data)["validation"]
    assert label_texts(teacher, validation, tmp_path).logits(ids_of(validation)).shape[0] == len(validation)


def test_cache_refuses_newer_format(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    cache = label_texts(teacher, load_data(toy_data)["validation"], tmp_path / "c").folder
    content = json.loads((cache / "fingerprint.json").read_text())
    (cache / "fingerprint.json").write_text(json.dumps({**content, "format_version": 99}))
    with pytest.raises(CacheError, match="format version 99"):
        CachedTeacher(cache)


def test_damaged_caches_are_named(teacher: Teacher, toy_data: Path, tmp_path: Path) -> None:
    cache = label_texts(teacher, load_data(toy_data)["validation"], tmp_path / "c").folder
    (shard,) = cache.glob("shard-*.safetensors")
    content = shard.read_bytes()
    for size in (0, 100, len(content) - 10):
        shard.write_bytes(content[:size])
        with pytest.raises(CacheError, match=r"shard-000000.safetensors is damaged .* Delete it"):
            CachedTeacher(cache)
    (cache / "fingerprint.json").write_text("[]")
    with pytest.raises(CacheError, match="holds no settings"):
        CachedTeacher(cache)


def test_long_texts_do_not_enlarge_the_batches_of_short_ones() -> None:
    sizes = []

    class Counts:
        max_length = 256

        def outputs(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
            words = max(len(text.split()) for text in batch["text"])
            sizes.append(len(batch["text"]) * min(words, self.max_length))  # with padding
            return {"logits": torch.zeros(len(batch["text"]), 2)}

    texts = ["short"] * 400 + ["a long text " * 100] * 100
    _labeled(cast(Any, Counts()), {"text": texts, "example_id": list(range(500))})
    assert max(sizes) <= TOKENS_PER_BATCH
    assert len(sizes) < 10


def test_label_names_text_with_logits_that_are_not_finite(teacher: Teacher, toy_data: Path) -> None:
    teacher.model.classifier.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"not finite .* for example -?\d+: '"):
        teacher.label(load_data(toy_data)["validation"])


def test_teacher_handles_odd_texts(teacher: Teacher) -> None:
    texts = ["", "   ", "\x00nul", "🙂🙃", "\x01", "word " * 100_000, "\ud800"]
    assert torch.isfinite(teacher.outputs({"text": texts})["logits"]).all()


def test_teacher_refuses_invalid_folders(tiny_bert: Path, teacher_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a model folder with a config.json"):
        Teacher(tmp_path)
    with pytest.raises(ModelError, match="BertModel, expected a model for sequence or token classification"):
        Teacher(tiny_bert)
    reader = tmp_path / "reader"
    BertForQuestionAnswering.from_pretrained(tiny_bert).save_pretrained(reader)
    with pytest.raises(ModelError, match="BertForQuestionAnswering"):
        Teacher(reader)
    other = tmp_path / "other"
    other.mkdir()
    for kind, opened, said in (
        ("eyas-cnn", Encoder, r"is a student \(eyas-cnn\), expected a pretrained encoder such as BERT"),
        ("vit_mae", Teacher, "is a vit_mae, for which transformers has no AutoModelForSequenceClassification"),
    ):
        (other / "config.json").write_text(f'{{"model_type": "{kind}"}}')
        with pytest.raises(ModelError, match=said):
            opened(other)
    empty = tmp_path / "empty"
    shutil.copytree(teacher_folder, empty)
    (empty / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="found no weights"):
        Teacher(empty)
    (empty / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="a pickle"):
        Teacher(empty)


def test_teacher_refuses_tokenizer_of_another_model(teacher_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    shutil.copytree(teacher_folder, folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.resize_token_embeddings(50)
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"the tokenizer has \d+ tokens, the model embeds 50"):
        Teacher(folder)


def test_teacher_loads_half_precision_weights_as_float32(teacher_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    shutil.copytree(teacher_folder, folder)
    AutoModelForSequenceClassification.from_pretrained(folder).half().save_pretrained(folder)
    assert Teacher(folder).model.dtype == torch.float32


def test_teacher_uses_the_accelerator(teacher_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("meta"))
    assert Teacher(teacher_folder).model.device.type == "meta"
