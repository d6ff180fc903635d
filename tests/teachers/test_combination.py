"""A combination of teachers is one class with the attributes that docs/layout.md lists."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eyas
from eyas import DistillSettings, Teacher, load_data
from eyas.data.datasets import ids_of
from eyas.errors import ModelError
from eyas.teachers import label_texts


class Mean:
    """The mean of the teachers' logits."""

    fields = frozenset(["logits"])

    def __init__(self, *teachers: Teacher) -> None:
        self.teachers, first = teachers, teachers[0]
        self.reads, self.label_names, self.task = first.reads, first.label_names, first.task
        self.data_labels: list[str] = []
        self.model, self.tokenizer, self.max_length = first.model, first.tokenizer, first.max_length
        self.fingerprint = {
            **first.fingerprint,
            "members": [str(sorted(teacher.fingerprint.items())) for teacher in teachers],
        }

    def outputs(self, batch: Mapping[str, Any], fields: Collection[str] = ("logits",)) -> dict[str, Any]:
        logits = [teacher.outputs(batch)["logits"] for teacher in self.teachers]
        return {"logits": sum(logits) / len(logits)}


@pytest.fixture
def mean(teacher_folder: Path) -> Mean:
    first, second = (Teacher(teacher_folder, max_length=64, dtype="float32") for _ in range(2))
    second.model.classifier.bias.data += 2.0
    return Mean(first, second)


def test_distill_accepts_a_combination_of_teachers(mean: Any, toy_data: Path, tmp_path: Path) -> None:
    settings = DistillSettings(arguments={"max_steps": 2})
    trained = eyas.distill(mean, toy_data, tmp_path / "student", "static", settings=settings)
    assert trained.predict_proba(["a great film"]).shape == (1, 2)
    validation = load_data(toy_data)["validation"]
    cached = label_texts(mean, validation).logits(ids_of(validation)).numpy()
    first = label_texts(mean.teachers[0], validation).logits(ids_of(validation)).numpy()
    np.testing.assert_allclose(cached, first + 1.0, atol=1e-5)


def test_distill_refuses_fields_that_the_combination_lacks(mean: Any, toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"needs .*hidden_states.* but a Mean gives \['logits'\]"):
        eyas.distill(mean, toy_data, tmp_path / "student", "bert-tiny", recipe="tinybert")
