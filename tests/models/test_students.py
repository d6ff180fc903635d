"""The students as Hugging Face models; their answers never depend on the batch."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from eyas.models import STUDENTS, StudentForSequenceClassification
from eyas.models.layers import LSTM, Convolution
from eyas.models.sequence import _split_pair

ALL = [(name, pair) for name in STUDENTS for pair in (False, True)]


def make(name: str, pair: bool = False, **options: object) -> StudentForSequenceClassification:
    torch.manual_seed(0)
    model = STUDENTS[name]
    settings = {"vocab_size": 50, "embedding_size": 8, "hidden_size": 6, "num_labels": 3, "pair": pair, **options}
    return model(model.config_class(**settings)).eval()


def batch(lengths: list[int], pair: bool) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 50, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    kinds = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, length:] = 0
        kinds[row, (length + 1) // 2 : length] = 1
    return {"input_ids": ids, "token_type_ids": kinds} if pair else {"input_ids": ids}


@pytest.mark.parametrize(("name", "pair"), ALL)
def test_student_logits_do_not_depend_on_batch(name: str, pair: bool) -> None:
    model, lengths = make(name, pair), [14, 1, 2, 3, 7, 14]
    inputs = batch(lengths, pair)
    together = model(**inputs).logits
    alone = [model(**{k: v[i : i + 1, :n] for k, v in inputs.items()}).logits for i, n in enumerate(lengths)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-6)
    assert len({tuple(row.tolist()) for row in together.round(decimals=4)}) > len(lengths) / 2


@pytest.mark.parametrize(("name", "pair"), ALL)
def test_students_ignore_masked_tokens(name: str, pair: bool) -> None:
    model, inputs = make(name, pair), batch([5, 9], pair)
    mask = (inputs["input_ids"] != 0).long()
    expected = model(**inputs, attention_mask=mask).logits
    hidden = {**inputs, "input_ids": torch.where(mask == 1, inputs["input_ids"], 7)}
    torch.testing.assert_close(model(**hidden, attention_mask=mask).logits, expected)


@pytest.mark.parametrize("name", STUDENTS)
def test_students_ignore_tokens_beyond_max_length(name: str) -> None:
    model, ids = make(name, max_length=4), batch([9], False)["input_ids"]
    assert torch.equal(model(ids).logits, model(ids[:, :4]).logits)


@pytest.mark.parametrize("name", STUDENTS)
def test_only_static_student_ignores_word_order(name: str) -> None:
    model, ids = make(name), batch([6], False)["input_ids"]
    same = torch.allclose(model(ids).logits, model(ids.flip(1)).logits, atol=1e-6)
    assert same == (name == "static")


def test_literal_padding_in_a_first_text_leaves_the_second_as_it_is() -> None:
    """The second text is read from its first token to its last."""
    ids = torch.tensor([[7, 0, 9, 11, 12, 0, 13]])
    first, second = _split_pair(ids, torch.tensor([[0, 0, 0, 1, 1, 1, 1]]), 0)
    assert first.tolist() == [[7, 0, 9, 0, 0, 0, 0]]
    assert second.tolist() == [[11, 12, 0, 13, 0, 0, 0]]


@pytest.mark.parametrize("name", STUDENTS)
def test_vectors_at_masked_places_are_not_read(name: str) -> None:
    model = make(name)
    vectors, mask = torch.randn(1, 5, 8), torch.tensor([[1, 1, 1, 0, 0]])
    expected = model(inputs_embeds=vectors, attention_mask=mask).logits
    vectors[:, 3:] = 5.0
    torch.testing.assert_close(model(inputs_embeds=vectors, attention_mask=mask).logits, expected)


def test_pair_student_requires_token_type_ids() -> None:
    with pytest.raises(ValueError, match="token_type_ids"):
        make("cnn", pair=True)(torch.ones(1, 3, dtype=torch.long))


@pytest.mark.parametrize(("name", "pair"), ALL)
def test_students_round_trip_through_files(name: str, pair: bool, tmp_path: Path) -> None:
    model = make(name, pair, id2label={0: "a", 1: "b", 2: "c"})
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert loaded.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert AutoConfig.from_pretrained(tmp_path).embedding_size == 8
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_convolution_equals_conv1d() -> None:
    """One matrix product over windows equals nn.Conv1d."""
    torch.manual_seed(0)
    layer, x = Convolution(4, 5, (3, 4, 5)), torch.randn(2, 9, 4)
    expected = []
    for width, kernel in zip(layer.kernel_sizes, layer.kernels, strict=True):
        before = (width - 1) // 2
        padded = nn.functional.pad(x, (0, 0, before, width - 1 - before)).transpose(1, 2)
        weight = kernel.weight.view(5, width, 4).transpose(1, 2)
        expected.append(nn.functional.conv1d(padded, weight, kernel.bias).transpose(1, 2))
    torch.testing.assert_close(layer(x), torch.cat(expected, -1).relu())
    fused = nn.functional.pad(x, (0, 0, 2, 2)).unfold(1, 5, 1).transpose(2, 3).flatten(2)
    torch.testing.assert_close((fused @ layer._fused_weight(4) + layer._fused_bias()).relu(), layer(x))


def test_lstm_equals_torch_on_packed_sequences() -> None:
    torch.manual_seed(0)
    layer, lengths = LSTM(4, 3, bidirectional=True), torch.tensor([7, 2, 5])
    mask = torch.arange(7) < lengths[:, None]
    x = torch.randn(3, 7, 4) * mask.unsqueeze(-1)
    reference = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
    for ours, suffix in zip(layer.layers, ("", "_reverse"), strict=True):
        for name, value in ours.named_parameters():
            getattr(reference, name + suffix).data.copy_(value)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    torch.testing.assert_close(layer(x, mask) * mask.unsqueeze(-1), expected)


@pytest.mark.parametrize("name", STUDENTS)
def test_pipeline_predicts_same_labels_as_classifier(name: str, students: dict[tuple[str, bool], Path]) -> None:
    from eyas import Classifier

    texts = ["a great film", "boring", "", "  ", "word " * 500, "not a minute of it is anything but dreadful"]
    classify = pipeline("text-classification", model=str(students[name, False]))
    ours = Classifier.from_pretrained(students[name, False])
    predicted = [ours.label_names[i] for i in ours.logits(texts).argmax(1)]
    assert [answer["label"] for answer in classify(texts)] == predicted
    assert [answer["label"] for answer in classify(texts, batch_size=6)] == predicted
    assert set(predicted) == {"positive", "negative"}


@pytest.mark.parametrize("name", STUDENTS)
def test_pipeline_predicts_same_labels_for_pairs(name: str, students: dict[tuple[str, bool], Path]) -> None:
    from eyas import Classifier

    classify = pipeline("text-classification", model=str(students[name, True]))
    ours = Classifier.from_pretrained(students[name, True])
    pairs = [("a great film", "lovely"), ("boring", "a superb film " * 80), ("", "x")]
    predicted = [ours.label_names[i] for i in ours.logits(*map(list, zip(*pairs, strict=True))).argmax(1)]
    assert [classify({"text": a, "text_pair": b})["label"] for a, b in pairs] == predicted


def test_embeddings_have_zero_padding_row(students: dict[tuple[str, bool], Path]) -> None:
    """post_init would overwrite vectors set in the constructor; the padding row must be zero."""
    model = AutoModelForSequenceClassification.from_pretrained(students["static", False])
    tokenizer = AutoTokenizer.from_pretrained(students["static", False])
    assert not model.embeddings.weight[tokenizer.pad_token_id].any()
