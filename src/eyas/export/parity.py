"""Does the exported model say what the model says?"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from eyas.errors import ExportError
from eyas.evaluation.evaluate import Predicts
from eyas.evaluation.metrics import cosines

SHOWN = 5
# Digits of a regression's agreement; what is beyond is the noise of float32.
KEPT_DIGITS = 6
# Vectors with this cosine do.
ALIKE = 0.99


# Of a task, what the agreement is a share of, and what is compared.
ALIKE_IN_WORDS = {"regression": ("of the variance kept", "number"), "vectors": ("of the vectors alike", "number")}


@dataclass(frozen=True)
class Parity:
    """How far the exported model is from the original.

    Args:
        rows: decisions compared: texts, or words, aspects, labels of them.
        agreement: share of them made alike; of a regression, the share of the numbers' variance that is kept (R²); of
            vectors, those with a cosine of 0.99.
        difference: largest difference of a probability, or of a number.
        task: what the model does, one of `eyas.tasks.KINDS` or "vectors".
    """

    rows: int
    agreement: float
    difference: float
    task: str

    def __str__(self) -> str:
        what, of = ALIKE_IN_WORDS.get(self.task, ("of the answers the same", "probability"))
        return (
            f"{self.agreement:.2%} {what}, {self.rows:,} compared, largest difference of a {of} {self.difference:.4f}"
        )


def check_parity(
    original: Predicts,
    exported: Predicts,
    texts: list[Any],
    pairs: list[str] | None,
    smallest_agreement: float,
) -> Parity:
    """Compare on real texts.

    Raises:
        ExportError: the agreement is below `smallest_agreement`; shows some labels that differ.
    """
    task = original.task
    logits, others = original.logits(texts, pairs), exported.logits(texts, pairs)
    expected, found = task.probabilities(logits), task.probabilities(others)
    kept: float | None = None
    same = np.ones(expected.size, dtype=bool)
    if task.decides:
        same = task.decisions(logits).argmax(1) == task.decisions(others).argmax(1)
    elif task.kind == "vectors":
        same = cosines(expected, found) >= ALIKE
    else:
        spread = max(float(expected.std()), 1e-3 * float(np.abs(expected).max()), 1e-6)
        kept = max(round(1 - float(np.square(expected - found).mean()) / spread**2, KEPT_DIGITS), 0.0)
    share = float(same.mean()) if kept is None else kept
    parity = Parity(len(same), share, float(np.abs(expected - found).max()), task.kind)
    if parity.agreement < smallest_agreement:
        differs = f" in {int((~same).sum())} of {len(same)} cases" if kept is None else ""
        raise ExportError(
            f"The exported model answers otherwise than the model{differs}: {parity}. The agreement is "
            f"{parity.agreement:.{KEPT_DIGITS}g}, at least {smallest_agreement:g} was asked for. Nothing was exported. "
            f"Export without --int8, or lower --min-agreement.\n{_examples(texts, expected, found, ~same, original)}"
        )
    return parity


def _examples(texts: list[Any], expected: Any, found: Any, differs: Any, original: Predicts) -> str:
    if not original.task.is_classification:
        return ""
    names = original.label_names
    rows = np.flatnonzero(differs)[:SHOWN]
    return "\n".join(
        f"  {names[expected[row].argmax()]} {expected[row].max():.3f} became {names[found[row].argmax()]} "
        f"{found[row].max():.3f}: {texts[row]!r:.70}"
        for row in rows
    )
