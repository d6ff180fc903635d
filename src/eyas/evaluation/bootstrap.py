"""The bootstrap over texts: how certain is a score, and is model A better than model B?"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from eyas.kinds import Kind
from eyas.spans import Span, spans_of
from eyas.tasks import Task

SAMPLES, BLOCK = 2000, 100
# What the linear model of rows of fields reads.
VALUES = "values"
ENCODER = ", or start it from an encoder that has read texts like these"
# A ratio of scores has an interval if the divisor is above 0 in more than this share of the samples.
RELIABLE = 0.975
# Largest number of draw counts cached between comparisons: 200 MB.
MOST_KEPT = 50_000_000


@dataclass(frozen=True)
class Comparison:
    """A minus B: the difference, its 95 % interval, and the share of samples in which A is not better."""

    difference: float
    low: float
    high: float
    p: float


def compare(a: Sequence[np.ndarray], b: Sequence[np.ndarray], metric: str, seed: int = 0) -> Comparison:
    """Paired bootstrap of two models' score (Efron & Tibshirani 1993, section 16.4; Koehn 2004).

    Args:
        a, b: one result of `sums` per seed of a model, for the same texts; its score is the mean over seeds.
        metric: a `Task.metric`.
    """
    return comparison(mean_score(a, metric) - mean_score(b, metric), *samples([a, b], metric, seed))


def comparison(difference: float, first: np.ndarray, second: np.ndarray) -> Comparison:
    """A comparison from the scores of two models on the same samples, as from `samples`."""
    low, high = interval_of(first - second)
    return Comparison(difference, low, high, float((first <= second).mean()))


def score_interval(parts: Sequence[np.ndarray], metric: str, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a model's score; arguments as for `compare`."""
    return interval_of(samples([parts], metric, seed)[0])


def ratio_interval(
    a: Sequence[np.ndarray], b: Sequence[np.ndarray], metric: str, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % interval of A's score divided by B's, as in retention; see `ratio_of`; arguments as for `compare`."""
    return ratio_of(*samples([a, b], metric, seed))


def ratio_of(first: np.ndarray, second: np.ndarray) -> tuple[float, float] | None:
    """The 95 % interval of a ratio of scores on the same samples; None if the second is often not above 0."""
    positive = second > 0
    return interval_of(first[positive] / second[positive]) if positive.mean() > RELIABLE else None


def interval_of(samples: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of what was computed on samples of texts."""
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(low), float(high)


def bracketed(interval: tuple[float, float] | None) -> str:
    """The 95 % interval of a share behind it in a sentence; empty for None."""
    return "" if interval is None else f" (95 % interval {interval[0]:.1%} to {interval[1]:.1%})"


def mean_score(parts: Sequence[np.ndarray], metric: str) -> float:
    """A model's score, the mean over its seeds; arguments as for `compare`."""
    return float(score(metric, np.stack([part.sum(0) for part in parts])).mean())


def samples(models: Sequence[Sequence[np.ndarray]], metric: str, seed: int = 0) -> list[np.ndarray]:
    """For each model [samples] the mean score over its seeds, on samples of texts that are the same for all models."""
    blocks: list[list[np.ndarray]] = [[] for _ in models]
    for block in _blocks(len(models[0][0]), seed):
        for scores, parts in zip(blocks, models, strict=True):
            scores.append(np.mean([score(metric, block @ part) for part in parts], axis=0))
    return [np.concatenate(scores) for scores in blocks]


def doubt(teacher: float, linear: float, gap: Comparison, inputs: str = "words and characters") -> str:
    """A sentence if a teacher is not certainly better than a linear model; empty if it is, or perfect.

    Args:
        teacher, linear: scores.
        gap: the teacher minus the linear model.
        inputs: of the linear model.
    """
    if gap.low > 0 or teacher >= 1:
        return ""
    return (
        f"The teacher ({100 * teacher:.1f}) is not certainly better than a linear model on {inputs} "
        f"({100 * linear:.1f}): the difference is {100 * gap.difference:+.1f} (95 % interval "
        f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}). A student has little to learn from it: fine-tune the teacher "
        f"longer or with more labels{'' if inputs.endswith(VALUES) else ENCODER}."
    )


def sums(task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The contribution of each text to the score. `score` takes their sum over any sample of texts.

    Args:
        logits, labels: as for `task_metrics`, all texts labeled.
        lengths: [texts] number of words for tagging; ones for the other tasks.

    Returns:
        [texts, parts] float64: accuracy (correct, all); F1 (true positives, predicted, gold); Pearson's correlation
        (1, x, y, x squared, y squared, x y); area under the ROC curve (positive, its rank among the negatives,
        negative, its rank among the positives, 1, the area), with the ranks of all texts (DeLong et al. 1988). Of BLEU
        it is `eyas.evaluation.written.text_sums`.
    """
    return SUMS[task.kind](task, logits, labels, lengths)


def _correct(task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    known = task.decided(labels) >= 0
    right = (task.decisions(logits).argmax(1) == task.decided(labels)) & known
    rows = np.repeat(np.arange(len(lengths)), lengths * len(task.groups))
    counts = [np.bincount(rows, part, minlength=len(lengths)) for part in (right, known)]
    return np.stack(counts, 1)


def _tags(task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return (_span_counts if task.metric == "span_f1" else _correct)(task, logits, labels, lengths)


def _moments(task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    # Standardizing does not change the correlation; float32 could not tell large numbers apart.
    x, y = _standardized(logits.reshape(-1)), _standardized(labels)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], 1)


def _ranks(task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    scores, positive = logits[:, 1] - logits[:, 0], labels > 0
    inside = np.empty(len(scores))
    for own in (positive, ~positive):
        inside[own] = rankdata(scores[own])
    others = np.where(positive, (~positive).sum(), positive.sum())
    below = (rankdata(scores) - inside) / np.maximum(others, 1)
    above = np.where(positive, 0, 1 - below)
    area = below[positive].mean() if positive.any() else 0.5
    return np.stack([positive, positive * below, ~positive, above, np.ones(len(scores)), np.full(len(scores), area)], 1)


def _label_counts(task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    found, gold = logits > 0, labels > 0
    return np.stack([(found & gold).sum(1), found.sum(1), gold.sum(1)], 1).astype(np.float64)


def _standardized(values: np.ndarray) -> np.ndarray:
    centered = values.astype(np.float64) - values.mean(dtype=np.float64)
    return np.asarray(centered / max(float(centered.std()), 1e-12))


def score(metric: str, total: np.ndarray) -> np.ndarray:
    """The score from sums over texts [..., parts]."""
    if metric == "pearson":
        n, x, y, xx, yy, xy = np.moveaxis(total.astype(np.float64), -1, 0)
        spread = np.sqrt(np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0))
        return np.asarray((n * xy - x * y) / np.maximum(spread, 1e-12))
    if metric == "auc":
        positives, below, negatives, above, n, area = np.moveaxis(total.astype(np.float64), -1, 0)
        return np.asarray(below / np.maximum(positives, 1) + above / np.maximum(negatives, 1) - area / n)
    if metric == "bleu":
        return _bleu(total.astype(np.float64))
    if metric in ("span_f1", "micro_f1"):
        return np.asarray(2 * total[..., 0] / np.maximum(total[..., 1] + total[..., 2], 1))
    return np.asarray(total[..., 0] / np.maximum(total[..., 1], 1))


def _bleu(total: np.ndarray) -> np.ndarray:
    """BLEU from 0 to 1 (Papineni et al. 2002), smoothed as by default in sacrebleu (Chen & Cherry 2014, method 3).

    Args:
        total: [..., 10] n-grams that match a target's, for n = 1 to 4; all that were written; words written, and of the
            targets.
    """
    matches, count, written, wanted = total[..., :4], total[..., 4:8], total[..., 8], total[..., 9]
    halved = 0.5 ** np.cumsum(matches == 0, -1)
    precisions = np.where(matches > 0, matches, halved) / np.maximum(count, 1)
    brevity = np.exp(np.minimum(1 - wanted / np.maximum(written, 1), 0))
    defined = (matches > 0).any(-1) & (count > 0).all(-1)
    return np.asarray(defined * brevity * np.exp(np.log(precisions).mean(-1)))


def _span_counts(task: Task, logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    counts = np.zeros((len(lengths), 3))
    names, best = task.labels, logits.argmax(1)
    start = 0
    for row, length in enumerate(lengths):
        known = [place for place in range(start, start + length) if labels[place] >= 0]
        gold: set[Span] = set(spans_of([names[labels[place]] for place in known]))
        found = set(spans_of([names[best[place]] for place in known]))
        counts[row] = len(gold & found), len(found), len(gold)
        start += length
    return counts


SUMS: dict[Kind, Callable[[Task, np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "classification": _correct,
    "tagging": _tags,
    "regression": _moments,
    "multi-label": _label_counts,
    "aspects": _correct,
    "fields": _ranks,
}


def _blocks(rows: int, seed: int) -> Iterable[np.ndarray]:
    """Draw counts of each text in blocks of [samples, rows], the same for all comparisons on a split."""
    return _kept(rows, seed) if rows * SAMPLES <= MOST_KEPT else _draw(rows, seed)


@lru_cache(maxsize=1)
def _kept(rows: int, seed: int) -> list[np.ndarray]:
    return list(_draw(rows, seed))


def _draw(rows: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    for _ in range(0, SAMPLES, BLOCK):
        counts = (np.bincount(random.integers(0, rows, rows), minlength=rows) for _ in range(BLOCK))
        yield np.stack([row.astype(np.float32) for row in counts])
