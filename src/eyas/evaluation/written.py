"""BLEU, chrF and ROUGE of what a model writes."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from datasets import Dataset

from eyas.errors import MissingExtraError, install_hint

ROUGE = ("rouge1", "rouge2", "rougeL")


def evaluate(model: Any, dataset: Dataset, teacher: Any = None) -> dict[str, Any]:
    """Score a model on pairs: see `text_scores`.

    Args:
        model: a `TextGenerator` or an exported model.
        dataset: a split of `load_pairs`.
        teacher: adds its scores, such as `teacher_bleu`, and `retention` (the student's BLEU divided by the teacher's).

    Returns:
        Scores from 0 to 100, `rows` and `signature`, sacrebleu's for BLEU.

    Raises:
        MissingExtraError: sacrebleu or rouge-score is not installed.
    """
    bleu, *others = metrics()
    sources, targets = list(dataset["source"]), list(dataset["target"])
    found: dict[str, Any] = {"rows": len(dataset)}
    found |= text_scores(_written(model, sources), targets, (bleu, *others))
    found["signature"] = str(bleu.get_signature())
    if teacher is not None:
        found |= {f"teacher_{name}": score for name, score in text_scores(_written(teacher, sources), targets).items()}
        found["retention"] = found["bleu"] / found["teacher_bleu"] if found["teacher_bleu"] else float("nan")
    return found


def text_scores(
    written: Sequence[str], targets: Sequence[str], by: tuple[Any, Any, Any] | None = None
) -> dict[str, float]:
    """Scores from 0 to 100: `bleu` (Papineni et al. 2002) and `chrf` (Popović 2015) by sacrebleu at its defaults,
    `rouge1`, `rouge2` and `rougeL` (Lin 2004), means of F1 without stemming, by rouge-score, which reads Latin letters
    without accents only.

    Args:
        by: as from `metrics`.

    Raises:
        MissingExtraError: sacrebleu or rouge-score is not installed.
    """
    bleu, chrf, rouge = by or metrics()
    each = [rouge.score(target, text) for target, text in zip(targets, written, strict=True)]
    found = {name: by.corpus_score(written, [targets]).score for name, by in (("bleu", bleu), ("chrf", chrf))}
    return found | {name: 100 * sum(one[name].fmeasure for one in each) / len(each) for name in ROUGE}


def text_sums(written: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """[texts, 10] float64: the contribution of each text to BLEU; see `eyas.evaluation.bootstrap.score`."""
    bleu, *_ = metrics()
    bleu.effective_order = True  # says nothing of short texts
    each = [bleu.sentence_score(text, [target]) for text, target in zip(written, targets, strict=True)]
    return np.array([[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in each], dtype=np.float64)


def word_agreement(texts: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """[texts] the share of the words that each text and the other have in common, in the same order."""
    pairs = zip(texts, others, strict=True)
    return np.array([SequenceMatcher(None, a.split(), b.split(), autojunk=False).ratio() for a, b in pairs])


def metrics() -> tuple[Any, Any, Any]:
    """BLEU and chrF of sacrebleu, ROUGE of rouge-score.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu import BLEU, CHRF
    except ImportError as error:
        raise MissingExtraError(f"BLEU, chrF and ROUGE need {error.name}. {install_hint('generation')}") from None
    return BLEU(), CHRF(), RougeScorer(ROUGE)


def _written(model: Any, sources: list[str]) -> list[str]:
    return [answer["generated_text"] for answer in model(sources)]
