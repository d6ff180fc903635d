"""The last lines of a command: what it made, how good that is, and the next step."""

import logging
import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eyas.cli.options import open_classifier, read_data
from eyas.settings import Columns

logger = logging.getLogger("eyas")

# Texts that are scored at most: enough for an interval of some points, read in seconds.
MOST_TEXTS = 1000
# Writing takes longer.
MOST_WRITTEN = 200
SEED = 0


def say_trained(
    what: str,
    out: Path,
    data: str,
    columns: Columns,
    next_step: str | None,
    teacher: str | None = None,
    label_map: dict[str, str] | None = None,
) -> None:
    """Log the checkpoint that was kept, its score on test or validation texts, and the next step.

    Args:
        what: "teacher" or "student".
        teacher: adds retention.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    import numpy as np

    from eyas.data.datasets import is_labeled
    from eyas.evaluation.evaluate import evaluate
    from eyas.training.folders import read_history

    logger.info("The %s is in %s%s.", what, os.path.relpath(out), _kept(read_history(out)))
    logger.disabled = True  # what there is to say of the data has been said
    try:
        loaded = read_data(data, columns)
    finally:
        logger.disabled = False
    labeled = {name: np.flatnonzero(is_labeled(loaded[name])) for name in ("test", "validation") if name in loaded}
    split = next((name for name, rows in labeled.items() if len(rows)), None)
    if split is not None:
        rows = np.random.default_rng(SEED).permutation(labeled[split])[:MOST_TEXTS]
        classifier, other = open_classifier(str(out)), open_classifier(teacher) if teacher else None
        scores = evaluate(classifier, loaded[split].select(np.sort(rows)), other, label_map)
        few = f"{len(rows):,} of {len(labeled[split]):,}" if len(rows) < len(labeled[split]) else f"{len(rows):,}"
        logger.info("On %s %s texts: %s.", few, split, score_text(classifier.task.metric, scores))
    if next_step:
        logger.info("Next: %s", next_step)


def say_writing(what: str, out: Path, data: str, columns: Columns, next_step: str, teacher: str | None = None) -> None:
    """As `say_trained`, for models that write texts; without sacrebleu there is no score."""
    if not logger.isEnabledFor(logging.INFO):
        return
    import numpy as np

    from eyas.errors import MissingExtraError
    from eyas.generation import TextGenerator, evaluate, load_pairs

    logger.info("The %s is in %s.", what, os.path.relpath(out))
    logger.disabled = True
    try:
        loaded = load_pairs(data, columns)
        split = "test" if "test" in loaded else "validation"
        rows = np.sort(np.random.default_rng(SEED).permutation(len(loaded[split]))[:MOST_WRITTEN])
        other = TextGenerator.from_pretrained(teacher) if teacher else None
        scores = evaluate(TextGenerator.from_pretrained(out), loaded[split].select(rows), other)
        of = f", the teacher's {scores['teacher_bleu']:.1f}" if teacher else ""
        said = f"On {len(rows):,} {split} texts: BLEU {scores['bleu']:.1f}{of}, chrF {scores['chrf']:.1f}."
    except MissingExtraError as error:
        said = str(error)
    finally:
        logger.disabled = False
    logger.info("%s", said)
    logger.info("Next: %s", next_step)


def score_text(metric: str, scores: dict[str, Any]) -> str:
    """A score with its interval, and the share of the teacher's."""
    text = f"{metric.replace('_', ' ')} {100 * scores[metric]:.1f}"
    if "interval" in scores:
        low, high = scores["interval"]
        text += f" (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    if f"teacher_{metric}" in scores:
        text += f", {100 * scores['retention']:.1f} % of the teacher's {100 * scores[f'teacher_{metric}']:.1f}"
    return text


def command(name: str, options: dict[str, Any], columns: Columns | None = None, argument: Path | None = None) -> str:
    """A command line, such as `eyas export --model student --out shipped --int8`."""
    given = {**options, **{key: value for key, value in asdict(columns or Columns()).items() if value}}
    words = ["eyas", name] if argument is None else ["eyas", name, os.path.relpath(argument)]
    for key, values in given.items():
        flag = f"--{key.replace('_', '-')}"
        for value in values if isinstance(values, list) else [values]:
            shown = [] if value is True else [os.path.relpath(value) if isinstance(value, Path) else str(value)]
            words += [flag, *shown]
    return shlex.join(words)


def beside(folder: Path, name: str) -> Path:
    """A folder of this name next to `folder`, for the example of the next step."""
    return folder.parent / name


def _kept(history: list[dict[str, Any]]) -> str:
    """Which epoch of the last stage was kept, if its scores are known."""
    last = max((row["stage"] for row in history), default=0)
    rows = [row for row in history if row["stage"] == last and "eval_score" in row]
    if not rows:
        return ""
    best = max(rows, key=lambda row: row["eval_score"])
    return f", of epoch {best['epoch']:.3g} of {rows[-1]['epoch']:.3g} (validation {100 * best['eval_score']:.1f})"
