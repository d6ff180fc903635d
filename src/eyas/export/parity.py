"""Compare an exported model with the original."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from eyas.errors import ExportError
from eyas.evaluation.evaluate import Predicts
from eyas.evaluation.metrics import cosines
from eyas.kinds import GENERATION

SHOWN = 5
# Digits of a regression's agreement; the rest is float32 noise.
KEPT_DIGITS = 6
# Cosine from which on vectors agree.
ALIKE = 0.99

# By task: what the agreement is a share of, and what the difference is in.
AGREEMENT_WORDS = {
    "regression": ("of the variance kept", "value"),
    "fields": ("of the variance kept", "probability"),
    "vectors": ("of the vectors agree", "value"),
    GENERATION: ("of the words agree", "the share of a text's words"),
}


@dataclass(frozen=True)
class Parity:
    """How far the exported model is from the original.

    Args:
        rows: number of compared decisions: one per text, word, aspect or label; of models that write, of texts.
        agreement: share of equal decisions; for regression, the share of the variance that is kept (R²); for vectors,
            the share with a cosine of at least 0.99; for written texts, the mean share of equal words.
        difference: largest difference in probability, or in value.
        task: the model's task, one of `eyas.tasks.KINDS`, "vectors" or "generation".
    """

    rows: int
    agreement: float
    difference: float
    task: str

    def __str__(self) -> str:
        what, of = AGREEMENT_WORDS.get(self.task, ("of the answers agree", "probability"))
        return f"{self.agreement:.2%} {what}, {self.rows:,} compared, largest difference in {of} {self.difference:.4f}"


def check_parity(
    original: Predicts,
    exported: Predicts,
    texts: list[Any],
    pairs: list[str] | None,
    smallest_agreement: float,
) -> Parity:
    """Compare two models on real texts.

    Raises:
        ExportError: the agreement is below `smallest_agreement`; the message shows some labels that differ.
    """
    task = original.task
    logits, others = original.logits(texts, pairs), exported.logits(texts, pairs)
    expected, found = task.probabilities(logits), task.probabilities(others)
    kept: float | None = None
    if task.reads_fields:  # whose answer is the probability: of rare clicks, all decisions are alike
        expected, found = expected[:, 1:], found[:, 1:]
    same = np.ones(expected.size, dtype=bool)
    if task.decides and not task.reads_fields:
        same = task.decisions(logits).argmax(1) == task.decisions(others).argmax(1)
    elif task.kind == "vectors":
        same = cosines(expected, found) >= ALIKE
    else:
        spread = max(float(expected.std()), 1e-3 * float(np.abs(expected).max()), 1e-6)
        kept = max(round(1 - float(np.square(expected - found).mean()) / spread**2, KEPT_DIGITS), 0.0)
    share = float(same.mean()) if kept is None else kept
    parity = Parity(len(same), share, float(np.abs(expected - found).max()), task.kind)
    if parity.agreement < smallest_agreement:
        differs = f" on {int((~same).sum())} of {len(same)} answers" if kept is None else ""
        raise ExportError(
            f"The exported model disagrees with the original{differs} (agreement {parity.agreement:.{KEPT_DIGITS}g}, "
            f"required {smallest_agreement:g}): {parity}. Nothing was exported. Export without --int8, --int4 "
            "or --ternary, or lower min_agreement (--min-agreement).\n"
            f"{_examples(texts, expected, found, ~same, original)}"
        )
    return parity


def _examples(texts: list[Any], expected: Any, found: Any, differs: Any, original: Predicts) -> str:
    if not original.task.is_classification or original.task.reads_fields:
        return ""
    names = original.label_names
    rows = np.flatnonzero(differs)[:SHOWN]
    return "\n".join(
        f"  {names[expected[row].argmax()]} {expected[row].max():.3f} became {names[found[row].argmax()]} "
        f"{found[row].max():.3f}: {texts[row]!r:.70}"
        for row in rows
    )
