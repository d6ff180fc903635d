"""When an exported model counts as equal to the original."""

import numpy as np
import pytest

from eyas.errors import ExportError
from eyas.export.parity import check_parity
from eyas.tasks import Task

SIZE = 500


class Numbers:
    """A regression that always answers the same numbers."""

    task, label_names = Task("regression", ("score",)), ("score",)

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers

    def logits(self, texts: object, pairs: object = None) -> np.ndarray:
        return self.numbers[:, None]


def test_parity_of_regression_is_variance_kept() -> None:
    """Noise of s standard deviations of the predictions keeps 1 - s² of their variance."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(3, 1.3, SIZE)
    original, texts = Numbers(numbers), ["a"] * SIZE
    assert check_parity(original, Numbers(numbers + 1e-5), texts, None, 1.0).agreement == 1.0
    noisy = Numbers(numbers + 0.06 * 1.3 * rng.normal(size=SIZE))
    parity = check_parity(original, noisy, texts, None, 0.98)
    assert parity.agreement == pytest.approx(1 - 0.06**2, abs=1e-3)
    assert str(parity).startswith("99.6")
    assert "of the variance kept, 500 compared, largest difference in value 0." in str(parity)
    assert parity.difference == pytest.approx(float(np.abs(noisy.numbers - numbers).max()))


@pytest.mark.parametrize("change", [lambda x: x + 0.5, lambda x: 0.5 * x, lambda x: np.full_like(x, 3.0)])
def test_parity_refuses_shifted_regression(change: object) -> None:
    """A correlation alone would not detect a shift or a scale."""
    numbers = np.random.default_rng(0).normal(3, 1.3, SIZE)
    with pytest.raises(ExportError, match=r"agreement .*, required 0.98.*variance kept, 500 compared"):
        check_parity(Numbers(numbers), Numbers(change(numbers)), ["a"] * SIZE, None, 0.98)  # type: ignore[operator]
