"""BLEU and chrF of what a model writes."""

from typing import Any

from datasets import Dataset

from eyas.errors import MissingExtraError, install_hint


def evaluate(model: Any, dataset: Dataset, teacher: Any = None) -> dict[str, Any]:
    """Score a model on pairs by sacrebleu at its defaults: `bleu` (Papineni et al. 2002), `chrf` (Popović 2015).

    Args:
        model: a `TextGenerator` or an exported model.
        dataset: a split of `load_pairs`.
        teacher: adds `teacher_bleu`, `teacher_chrf` and `retention` (the student's BLEU divided by the teacher's).

    Returns:
        Scores from 0 to 100, `rows` and `signature`, sacrebleu's for BLEU.

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    try:
        from sacrebleu import BLEU, CHRF
    except ImportError:
        raise MissingExtraError(f"BLEU and chrF need sacrebleu. {install_hint('generation')}") from None
    references = [list(dataset["target"])]
    bleu, chrf = BLEU(), CHRF()

    def scores(writer: Any) -> dict[str, float]:
        written = [answer["generated_text"] for answer in writer(dataset["source"])]
        return {
            "bleu": bleu.corpus_score(written, references).score,
            "chrf": chrf.corpus_score(written, references).score,
        }

    found: dict[str, Any] = {"rows": len(dataset), **scores(model), "signature": str(bleu.get_signature())}
    if teacher is not None:
        found |= {f"teacher_{name}": score for name, score in scores(teacher).items()}
        found["retention"] = found["bleu"] / found["teacher_bleu"] if found["teacher_bleu"] else float("nan")
    return found
