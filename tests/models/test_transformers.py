"""Small transformers as students."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import teach
from planting import plant
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from eyas import Classifier, Predictor, StudentSettings, Teacher, create_student, export_model, load_data
from eyas.errors import ModelError
from eyas.models.transformer import new_transformer
from eyas.settings import TRANSFORMERS


def test_transformer_sizes_match_the_paper(teacher_folder: Path) -> None:
    """Turc et al. 2019: 4.4, 11.2, 28.8 and 41.4 million parameters with BERT's vocabulary."""
    millions = {}
    with torch.device("meta"):
        teacher = BertForSequenceClassification(BertConfig())
        for name, size in TRANSFORMERS.items():
            model = new_transformer(teacher, size, tagging=False)
            millions[name] = round(model.num_parameters() / 1e6, 1)
    own = {"bert-6l": 67.0, "bert": 109.5}
    assert millions == {"bert-tiny": 4.4, "bert-mini": 11.2, "bert-small": 28.8, "bert-medium": 41.4, **own} | {
        "tinybert-4l": 14.4  # 14.5 in Jiao et al. 2020
    }


@pytest.mark.process
@pytest.mark.parametrize("tagging", [False, True])
def test_small_bert_is_exported(
    tagging: bool, teacher_folder: Path, tag_teacher_folder: Path, toy_data: Path, toy_tags: Path, tmp_path: Path
) -> None:
    teacher, data = (tag_teacher_folder, toy_tags) if tagging else (teacher_folder, toy_data)
    folder = teach(teacher, data, tmp_path / "student", StudentSettings("bert-tiny", layers=1, max_length=48))
    plant(folder, load_data(data)["train"])
    export_model(folder, tmp_path / "shipped", min_agreement=1.0)
    predictor, classifier = Predictor(tmp_path / "shipped"), Classifier.from_pretrained(folder)
    texts: list[Any] = [["anna", "went", "to", "rome"]] if tagging else ["a great film", "", "x" * 3000]
    np.testing.assert_allclose(predictor.logits(texts), classifier.logits(texts), atol=1e-3)
    if not tagging:
        assert pipeline("text-classification", model=str(folder))("a great film")[0]["label"] == "positive"
        assert (
            type(AutoModelForSequenceClassification.from_pretrained(folder)).__name__ == "BertForSequenceClassification"
        )


SMALL: list[Any] = [
    (RobertaForSequenceClassification, RobertaConfig(vocab_size=99, hidden_size=12, num_attention_heads=2)),
    (DistilBertForSequenceClassification, DistilBertConfig(vocab_size=99, dim=12, n_layers=1, n_heads=2)),
]


@pytest.mark.parametrize(("family", "config"), SMALL, ids=["roberta", "distilbert"])
def test_new_transformer_supports_other_families(family: Any, config: Any) -> None:
    teacher = family(config)
    model = new_transformer(teacher, TRANSFORMERS["bert-tiny"], tagging=False, vocab_size=50, pad_token_id=0)
    assert type(model) is type(teacher)
    assert model.get_input_embeddings().weight.shape == (50, 128)
    assert model.config.num_hidden_layers == 2
    ids = torch.randint(1, 50, (2, 7))
    assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape == (2, 2)


def test_unsupported_transformer_settings_are_refused(teacher_folder: Path, toy_data: Path) -> None:
    class Odd(PreTrainedModel):
        config_class = BertConfig

    odd: Any = Odd.__new__(Odd)
    odd.config = type("Config", (), {})()
    with pytest.raises(ModelError, match="Odd"):
        new_transformer(odd, TRANSFORMERS["bert-tiny"], tagging=False)
    texts = load_data(toy_data)["train"]
    with pytest.raises(ModelError, match=r"bert-mini.*--embedding-size"):
        create_student(StudentSettings("bert-mini", embedding_size=3), Teacher(teacher_folder), texts)
    with pytest.raises(ModelError, match=r"bert-mini.*--embeddings"):
        create_student(StudentSettings("bert-mini", embeddings="v.txt"), Teacher(teacher_folder), texts)
