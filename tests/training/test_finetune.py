"""Fine-tuning of teachers."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from eyas.errors import ModelError
from eyas.models.loading import load_encoder
from eyas.tasks import Task
from eyas.training.finetune import learning_rate


@pytest.mark.parametrize(("width", "rate"), [(1024, 5e-5), (768, 5e-5), (384, 2e-4), (128, 3e-4)])
def test_narrow_encoders_learn_at_a_higher_rate(width: int, rate: float) -> None:
    assert learning_rate(width) == pytest.approx(rate)


@pytest.mark.parametrize("damage", ["missing", "of another shape"])
def test_encoder_without_all_its_weights_is_refused(
    damage: str, tiny_bert: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Transformers would draw them at random, and only warn."""
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "encoder"))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("layer.1.output.dense.weight"))
    left = {key: weight for key, weight in weights.items() if key != name}
    changed = left if damage == "missing" else {**left, name: weights[name][:5].contiguous()}
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights for bert.*layer\.1\.output\.dense\.weight: it is not"):
        load_encoder(folder, Task("classification", ("a", "b")))
    load_encoder(tiny_bert, Task("classification", ("a", "b")))
    assert capfd.readouterr().err == ""  # a new head needs no report
