"""When an exported model counts as equal to the original."""

import numpy as np
import pytest

from eyas.errors import ExportError
from eyas.evaluation.metrics import agreement
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


class Clicks(Numbers):
    """A model of rows of fields that always gives the same probabilities of a click."""

    task, label_names = Task("fields", ("0", "1")), ("0", "1")

    def logits(self, texts: object, pairs: object = None) -> np.ndarray:
        return np.log(np.stack([1 - self.numbers, self.numbers], 1))


def test_parity_of_rare_clicks_is_of_probabilities() -> None:
    """No row is likelier than not to be clicked, so all decisions are alike, whatever the model says."""
    chances = np.random.default_rng(0).uniform(0.001, 0.2, SIZE)
    original, texts = Clicks(chances), ["a"] * SIZE
    assert check_parity(original, Clicks(chances * 1.001), texts, None, 0.999).agreement > 0.999
    with pytest.raises(ExportError, match="of the variance kept"):
        check_parity(original, Clicks(np.full(SIZE, chances.mean())), texts, None, 0.1)
    labels = np.zeros(SIZE)
    assert agreement(original.task, original.logits(texts), Clicks(chances / 2).logits(texts), labels) > 0.99
    assert agreement(original.task, original.logits(texts), Clicks(chances[::-1]).logits(texts), labels) < 0.2
