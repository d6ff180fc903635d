"""Fine-tuning of teachers."""

import pytest

from eyas.training.finetune import learning_rate


@pytest.mark.parametrize(("width", "rate"), [(1024, 5e-5), (768, 5e-5), (384, 2e-4), (128, 3e-4)])
def test_narrow_encoders_learn_at_a_higher_rate(width: int, rate: float) -> None:
    assert learning_rate(width) == pytest.approx(rate)
