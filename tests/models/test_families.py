"""Encoder families of transformers: a student that copies all layers equals its teacher, or the family is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from toys import toy_rows
from transformers import PreTrainedTokenizerFast, set_seed

from eyas import Classifier, StudentSettings, Teacher, create_student, load_data
from eyas.errors import ModelError

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
LENGTH = 24
# Families whose positions start behind the padding id 1, with the tokenizer of RoBERTa.
BEHIND_PADDING = [
    "Roberta",
    "Camembert",
    "XLMRoberta",
    "Data2VecText",
    "XLMRobertaXL",
    "RobertaPreLayerNorm",
    "Longformer",
]
FROM_ZERO = ["Bert", "Electra", "Ernie", "MegatronBert", "RemBert", "ConvBert", "MobileBert", "RoFormer", "SqueezeBert"]
# Positions that no student's configuration can set.
REFUSED = {"MPNet": "derives positions from the padding id 1"}
MORE: dict[str, dict[str, Any]] = {
    "Longformer": {"attention_window": 8},
    "RemBert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "MobileBert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16, "trigram_input": False},
    "SqueezeBert": {"embedding_size": 16},
    "RoFormer": {"embedding_size": 16},
}


def _roberta_tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    texts = [row["text"] for row in toy_rows(300)]
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
        **names,
    )


def _teacher(family: str, bert_tokenizer: Any) -> Teacher:
    """A tiny model with random weights; its tokenizer states no maximum length."""
    behind = family in (*BEHIND_PADDING, *REFUSED)
    tokenizer = _roberta_tokenizer() if behind else bert_tokenizer
    kind: Any = {"pad_token_id": 1, "type_vocab_size": 1} if behind else {"pad_token_id": tokenizer.pad_token_id}
    set_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokenizer),
        max_position_embeddings=LENGTH + 2 * behind,
        id2label={0: "negative", 1: "positive"},
        **kind,
        **SIZES,
        **MORE.get(family, {}),
    )
    model = getattr(transformers, f"{family}ForSequenceClassification")(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Teacher(model, tokenizer, dtype="float32")


@pytest.fixture
def bert_tokenizer(teacher_folder: Path) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(teacher_folder)
    tokenizer.model_max_length = int(1e30)
    return tokenizer


@pytest.mark.parametrize("family", [*BEHIND_PADDING, *FROM_ZERO])
def test_student_with_all_layers_equals_teacher(family: str, bert_tokenizer: Any, toy_data: Path) -> None:
    teacher, data = _teacher(family, bert_tokenizer), load_data(toy_data)
    student, tokenizer = create_student(StudentSettings("bert", max_length=LENGTH), teacher, data["train"])
    classifier = Classifier(student, tokenizer)
    for text in data["validation"]["text"][:6]:  # one at a time: ConvBERT's convolution reads the padding
        np.testing.assert_allclose(classifier.logits([text]), teacher.logits([text]), atol=1e-4)


@pytest.mark.parametrize("family", [*BEHIND_PADDING, *FROM_ZERO, *REFUSED])
def test_texts_longer_than_the_position_table_are_cut(family: str, bert_tokenizer: Any) -> None:
    teacher = _teacher(family, bert_tokenizer)
    if family != "RoFormer":  # rotary
        assert teacher.max_length == LENGTH
    for words in (LENGTH - 2, LENGTH - 1, 3 * LENGTH):
        assert np.isfinite(teacher.logits(["film " * words])).all()


@pytest.mark.parametrize("family", REFUSED)
def test_create_student_refuses_family_by_name(family: str, bert_tokenizer: Any, toy_data: Path) -> None:
    teacher, train = _teacher(family, bert_tokenizer), load_data(toy_data)["train"]
    with pytest.raises(ModelError, match=f"{family}ForSequenceClassification.*{REFUSED[family]}"):
        create_student(StudentSettings("bert", max_length=LENGTH), teacher, train)
    create_student("cnn", teacher, train)
