"""Does the exported model say what the model says?"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.errors import ExportError
from understudy.evaluation.evaluate import Predicts
from understudy.evaluation.metrics import cosines

SHOWN = 5
# Numbers this share of their standard deviation apart count as the same answer.
CLOSE = 0.1
# Vectors with this cosine do.
ALIKE = 0.99


@dataclass(frozen=True)
class Parity:
    """How far the exported model is from the original.

    Args:
        rows: decisions compared: texts, or words, aspects, labels of them.
        agreement: share of them made alike; of a regression, the share of the numbers' variance that is kept (R²); of
            vectors, those with a cosine of 0.99.
        difference: largest difference of a probability, or of a number.
        task: what the model does, one of `understudy.tasks.KINDS` or "vectors".
    """

    rows: int
    agreement: float
    difference: float
    task: str

    def __str__(self) -> str:
        alike = {"regression": "of the variance kept", "vectors": "of the vectors alike"}
        number = "number" if self.task in alike else "probability"
        return (
            f"{self.agreement:.2%} {alike.get(self.task, 'of the answers the same')} ({self.rows:,} of them), largest "
            f"difference of a {number} {self.difference:.4f}"
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
        ExportError: the labels agree on fewer than `smallest_agreement` of the texts; shows some that differ.
    """
    task = original.task
    logits, others = original.logits(texts, pairs), exported.logits(texts, pairs)
    ours, theirs = task.probabilities(logits), task.probabilities(others)
    kept: float | None = None
    if task.kind == "regression":
        spread = max(float(ours.std()), 1e-3 * float(np.abs(ours).max()), 1e-6)
        same = (np.abs(ours - theirs) <= CLOSE * spread).reshape(-1)
        kept = round(1 - float(np.square(ours - theirs).mean()) / spread**2, 6)
    elif task.kind == "vectors":
        same = cosines(ours, theirs) >= ALIKE
    else:
        same = task.decisions(logits).argmax(1) == task.decisions(others).argmax(1)
    share = float(same.mean()) if kept is None else kept
    parity = Parity(len(same), share, float(np.abs(ours - theirs).max()), task.kind)
    if parity.agreement < smallest_agreement:
        raise ExportError(
            f"The exported model answers otherwise than the model in {int((~same).sum())} of {len(same)} cases; "
            f"agreement {parity.agreement:.4f}, at least {smallest_agreement} was asked for. Nothing was exported. "
            f"Export without --int8, or lower --min-agreement.\n{_examples(texts, ours, theirs, ~same, original)}"
        )
    return parity


def _examples(texts: list[Any], ours: Any, theirs: Any, differs: Any, original: Predicts) -> str:
    if original.task.kind != "classification":
        return ""
    names = original.label_names
    rows = np.flatnonzero(differs)[:SHOWN]
    return "\n".join(
        f"  {names[ours[row].argmax()]} {ours[row].max():.3f} became {names[theirs[row].argmax()]} "
        f"{theirs[row].max():.3f}: {texts[row]!r:.70}"
        for row in rows
    )
