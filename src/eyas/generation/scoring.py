"""BLEU, chrF and ROUGE of what a model writes."""

from typing import Any

from datasets import Dataset

from eyas.errors import MissingExtraError, install_hint

ROUGE = ("rouge1", "rouge2", "rougeL")


def evaluate(model: Any, dataset: Dataset, teacher: Any = None) -> dict[str, Any]:
    """Score a model on pairs: `bleu` (Papineni et al. 2002) and `chrf` (Popović 2015) by sacrebleu at its defaults,
    `rouge1`, `rouge2` and `rougeL` (Lin 2004), means of F1 without stemming, by rouge-score, which reads Latin letters
    without accents only.

    Args:
        model: a `TextGenerator` or an exported model.
        dataset: a split of `load_pairs`.
        teacher: adds its scores, such as `teacher_bleu`, and `retention` (the student's BLEU divided by the teacher's).

    Returns:
        Scores from 0 to 100, `rows` and `signature`, sacrebleu's for BLEU.

    Raises:
        MissingExtraError: sacrebleu or rouge-score is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu import BLEU, CHRF
    except ImportError as error:
        raise MissingExtraError(f"BLEU, chrF and ROUGE need {error.name}. {install_hint('generation')}") from None
    targets = list(dataset["target"])
    bleu, chrf, rouge = BLEU(), CHRF(), RougeScorer(ROUGE)

    def scores(writer: Any) -> dict[str, float]:
        written = [answer["generated_text"] for answer in writer(dataset["source"])]
        each = [rouge.score(target, text) for target, text in zip(targets, written, strict=True)]
        found = {name: 100 * sum(one[name].fmeasure for one in each) / len(each) for name in ROUGE}
        return {
            name: by.corpus_score(written, [targets]).score for name, by in (("bleu", bleu), ("chrf", chrf))
        } | found

    found: dict[str, Any] = {"rows": len(dataset), **scores(model), "signature": str(bleu.get_signature())}
    if teacher is not None:
        found |= {f"teacher_{name}": score for name, score in scores(teacher).items()}
        found["retention"] = found["bleu"] / found["teacher_bleu"] if found["teacher_bleu"] else float("nan")
    return found
