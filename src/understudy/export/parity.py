"""Does the exported model say what the model says?"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.errors import ExportError
from understudy.evaluation.evaluate import Predicts
from understudy.runtime.predictor import softmax

SHOWN = 5


@dataclass(frozen=True)
class Parity:
    """How far the exported model is from the original.

    Args:
        rows: texts compared.
        agreement: share of texts with the same label.
        difference: largest difference of a probability.
    """

    rows: int
    agreement: float
    difference: float


def check_parity(
    original: Predicts,
    exported: Predicts,
    texts: list[str],
    pairs: list[str] | None,
    smallest_agreement: float,
) -> Parity:
    """Compare on real texts.

    Raises:
        ExportError: the labels agree on fewer than `smallest_agreement` of the texts; shows some that differ.
    """
    ours, theirs = softmax(original.logits(texts, pairs)), softmax(exported.logits(texts, pairs))
    same = ours.argmax(1) == theirs.argmax(1)
    parity = Parity(len(texts), float(same.mean()), float(np.abs(ours - theirs).max()))
    if parity.agreement < smallest_agreement:
        raise ExportError(
            f"The exported model gives another label than the model on {int((~same).sum())} of {len(texts)} texts; "
            f"agreement {parity.agreement:.4f}, at least {smallest_agreement} was asked for. Nothing was exported. "
            f"Export without --int8, or lower --min-agreement.\n{_examples(texts, ours, theirs, ~same, original)}"
        )
    return parity


def _examples(texts: list[str], ours: Any, theirs: Any, differs: Any, original: Predicts) -> str:
    names = original.label_names
    rows = np.flatnonzero(differs)[:SHOWN]
    return "\n".join(
        f"  {names[ours[row].argmax()]} {ours[row].max():.3f} became {names[theirs[row].argmax()]} "
        f"{theirs[row].max():.3f}: {texts[row]!r:.70}"
        for row in rows
    )
