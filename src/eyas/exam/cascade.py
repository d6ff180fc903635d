"""Make a cascade: students that answer where they are sure, and the teacher for the rest."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from eyas._version import __version__
from eyas.data.datasets import data_fingerprint, is_labeled, labeled_rows, labels_of, task_of, word_counts_of
from eyas.data.readers import inputs_of
from eyas.data.targets import with_labels_of
from eyas.data.task_data import TaskData
from eyas.errors import DataError, ModelError
from eyas.evaluation.bootstrap import bracketed, ratio_interval, score, sums
from eyas.evaluation.deferral import CONFIDENCE, lowest_threshold, retention_bounds
from eyas.evaluation.evaluate import logits_and_order
from eyas.exam.cost import measure_costs
from eyas.outputs import OutputFolder
from eyas.runtime.cascade import Cascade, confidences
from eyas.runtime.manifest import CARD
from eyas.runtime.predictor import Predictor
from eyas.runtime.several_tasks import OneTask
from eyas.runtime.stages import Stages
from eyas.verbosity import without_bars

# Texts that speed is measured on.
COST_TEXTS = 200
# What the cascade scored, in its folder.
SCORED = "cascade.json"


@dataclass(frozen=True)
class Scored:
    """A cascade on a split.

    Args:
        split: its name.
        texts: how many.
        answered: the share of them that each model answers.
        retention: its score divided by the teacher's, and the 95 % interval.
        speed: times the teacher's.
    """

    split: str
    texts: int
    answered: list[float]
    retention: float
    interval: tuple[float, float] | None
    speed: float


@without_bars()
def make_cascade(
    students: Sequence[str | Path],
    teacher: str | Path,
    data: TaskData,
    out: str | Path,
    min_retention: float = 0.995,
    overwrite: bool = False,
    label_map: dict[str, str] | None = None,
) -> list[Scored]:
    """Find the lowest confidences from which the students may answer, and write the cascade to `out`.

    Thresholds are lowered step by step as long as the retention on validation texts is at least `min_retention` with
    95 % confidence (fixed sequence testing, Angelopoulos et al. 2021, section 3.2), by a bootstrap over texts. One more
    text of mean size, on which only the teacher is right, is added, so that no loss among few texts is no promise.

    Args:
        students: exported folders, the fastest first.
        teacher: an exported folder.
        data: as from `load_data`.
        min_retention: the share of the teacher's score to keep.
        label_map: {model's label name: data's label name}, if they cannot be matched automatically.

    Returns:
        The cascade on validation texts and, if they have labels, on test texts.

    Raises:
        ModelError: models of other labels or tasks, a teacher that is no better than a student, or no threshold keeps
            enough.
    """
    if not 0 < min_retention < 1:
        raise DataError(
            f"min_retention (--min-retention) is {min_retention:g}, expected between 0 and 1, such as 0.99."
        )
    folders = [Path(folder) for folder in (*students, teacher)]
    models = [Predictor(folder) for folder in folders]
    _check_alike(models, folders)
    data.check_validation()
    validation = labeled_rows(data["validation"])
    settings = {
        "command": "cascade",
        "models": [[str(folder.resolve()), _checksums(model)] for folder, model in zip(folders, models, strict=True)],
        "min_retention": min_retention,
        **({"label_map": label_map} if label_map else {}),
        "rows": {name: data_fingerprint(data[name]) for name in ("validation", "test") if name in data},
    }
    output = OutputFolder(out, settings, overwrite, resumable=False)
    if output.is_finished:
        rows = json.loads((output.path / SCORED).read_text())
        return [Scored(**{**row, "interval": row["interval"] and tuple(row["interval"])}) for row in rows]
    on_validation = _Answers(models, validation, label_map)
    for folder, better in zip(folders[:-1], on_validation.scores[:-1], strict=True):
        if better >= on_validation.scores[-1]:
            raise ModelError(
                f"On validation texts, {folder.name} scores {better:.3f}, the teacher {on_validation.scores[-1]:.3f}: "
                f"the student is enough. Serve it alone: eyas serve {folder}"
            )
    thresholds = _thresholds(on_validation, min_retention, [folder.name for folder in folders])
    sample = validation.select(range(min(COST_TEXTS, len(validation))))
    places = [f"stage-{number}" for number in range(1, len(folders) + 1)]
    inputs = [inputs_of(row) for row in sample]
    costs = measure_costs(dict(zip(places, folders, strict=True)), places[-1], inputs, 1)
    latencies = [float(costs[place]["latency_ms"] or 0) for place in places]
    found = [on_validation.scored("validation", thresholds, latencies)]
    if "test" in data and is_labeled(data["test"]).any():
        on_test = _Answers(models, labeled_rows(data["test"]), label_map)
        found.append(on_test.scored("test", thresholds, latencies))
    stages = [
        {"folder": place, "name": source.name, "least": least, "order": order}
        for place, source, least, order in zip(places, folders, [*thresholds, 0.0], on_validation.orders, strict=True)
    ]
    with output as folder:
        for stage, source, model in zip(stages, folders, models, strict=True):
            _copy(source, folder / str(stage["folder"]), model)
        models[0].manifest.of_stages(stages).write_alone(folder)
        (folder / SCORED).write_text(json.dumps([asdict(scored) for scored in found], indent=1) + "\n")
        (folder / CARD).write_text(_card(Path(out).name, stages, min_retention, found))
    return found


class _Answers:
    """What each model says of the texts of a split.

    Args:
        models: the students, then the teacher.

    Attributes:
        orders: of each model, [labels] its output for each output of the first.
    """

    def __init__(self, models: Sequence[Predictor], dataset: Dataset, label_map: dict[str, str] | None = None) -> None:
        dataset = with_labels_of(dataset, models[0].label_names, label_map)
        self.task = task_of(dataset)
        lengths = word_counts_of(dataset)
        counts = lengths if self.task.is_tagging else np.ones(len(dataset), dtype=np.int64)
        self.sure, self.sums = [], []
        orders = []
        for model in models:
            logits, order = logits_and_order(model, dataset, label_map)
            orders.append(order)
            logits = logits[:, order]
            self.sure.append(confidences(self.task, model.task.calibrated(logits), counts.tolist()))
            self.sums.append(sums(self.task, logits, labels_of(dataset), lengths))
        self.orders = [[order[label] for label in np.argsort(orders[0])] for order in orders]
        self.scores = [float(score(self.task.metric, part.sum(0))) for part in self.sums]

    def answering(self, thresholds: Sequence[float], first: int = 0) -> np.ndarray:
        """[texts] the model that answers each text, if the model `first` is asked first."""
        result = np.full(len(self.sure[0]), len(self.sure) - 1)
        for number in reversed(range(first, len(thresholds))):
            result[self.sure[number] >= thresholds[number]] = number
        return result

    def together(self, answering: np.ndarray) -> np.ndarray:
        """The contribution of each text to the score, by the model that answers it."""
        return np.asarray(np.stack(self.sums)[answering, np.arange(len(answering))])

    def scored(self, split: str, thresholds: Sequence[float], latencies: Sequence[float]) -> Scored:
        """The cascade with these thresholds."""
        who, metric = self.answering(thresholds), self.task.metric
        own, theirs = self.together(who), self.sums[-1]
        shares = [float((who == number).mean()) for number in range(len(latencies))]
        asked = [float((who >= number).mean()) for number in range(len(latencies))]
        spent = sum(share * latency for share, latency in zip(asked, latencies, strict=True))
        kept = float(score(metric, own.sum(0)) / score(metric, theirs.sum(0)))
        interval = ratio_interval([own], [theirs], metric)
        return Scored(split, len(who), shares, kept, interval, latencies[-1] / spent)


def _thresholds(answers: _Answers, min_retention: float, names: Sequence[str]) -> list[float]:
    """The lowest confidence for each student. They share the allowed loss; the last one gets its part first.

    Raises:
        ModelError: there is none for a student, of these `names`.
    """
    count = len(answers.sure) - 1
    thresholds = [np.inf] * count
    for number in reversed(range(count)):
        least = 1 - (1 - min_retention) * (count - number) / count
        rest = answers.together(answers.answering(thresholds, number + 1))
        sure, own, whole, metric = answers.sure[number], answers.sums[number], answers.sums[-1], answers.task.metric
        best = lowest_threshold(sure, own, rest, whole, metric, least)
        if best is None:
            safest = retention_bounds([whole], whole, metric)[0]
            what = f"No threshold for {names[number]} keeps {least:.2%} of the teacher with {CONFIDENCE:.0%} confidence"
            if safest < least:
                raise ModelError(
                    f"{what}: {len(sure):,} validation texts can promise {safest:.2%} at most. Ask for less with "
                    "min_retention (--min-retention), or label more validation texts."
                )
            raise ModelError(
                f"{what}: it errs where it is most certain. Ask for less with min_retention (--min-retention), or "
                "leave it out (--student)."
            )
        thresholds[number] = best
    return thresholds


def _check_alike(models: Sequence[Predictor], folders: Sequence[Path]) -> None:
    """Raises ModelError if the models differ in task, labels or input, or make no decisions."""
    for model, folder in zip(models, folders, strict=True):
        if isinstance(model, Cascade):
            raise ModelError(f"{folder} is a cascade itself. Name its models, --student by --student.")
        if isinstance(model, OneTask):
            raise ModelError(
                f"{folder} is one task of several, in one graph. Export it alone: eyas export --model "
                f"STUDENT/{folder.name}"
            )
    first, task = models[0], models[0].task
    if not task.decides or task.reads_fields:  # the scores of two models cannot be ranked together
        raise ModelError(f"{folders[0]} does {task.describe()}: it has no confidence that a cascade could go by.")
    for model, folder in zip(models[1:], folders[1:], strict=True):
        same = model.task.kind == task.kind and model.pair == first.pair
        if not same or len(model.label_names) != len(first.label_names):  # their names are matched with the data's
            alone = ", ".join(sorted(set(model.label_names) ^ set(first.label_names)))
            raise ModelError(
                f"{folder} does {model.task.describe()}, {folders[0]} does {task.describe()}"
                f"{f'; only one has {alone}' if alone else ''}. The models of a cascade need the same task, labels "
                "and inputs (single texts, or pairs)."
            )


def _checksums(model: Predictor) -> Any:
    """Those of a folder's files, or of those of its stages."""
    return [_checksums(stage) for stage in model.stages] if isinstance(model, Stages) else model.manifest.sha256


def _copy(source: Path, place: Path, model: Predictor) -> None:
    """Copy the files of an exported folder and, of several models, their folders."""
    place.mkdir()
    for file in source.iterdir():
        if file.is_file():
            shutil.copy2(file, place / file.name)
    for stage in model.stages if isinstance(model, Stages) else ():
        _copy(stage.folder, place / stage.folder.name, stage)


def _card(name: str, stages: Sequence[dict[str, Any]], min_retention: float, found: Sequence[Scored]) -> str:
    rows = "".join(f"| {number} | {stage['name']} | {stage['least']:.4f} |\n" for number, stage in enumerate(stages, 1))
    said = "".join(f"- {sentence(scored, min_retention, [stage['name'] for stage in stages])}\n" for scored in found)
    return f"""---
library_name: eyas
license: unknown
tags:
- eyas
- knowledge-distillation
- onnx
---
# {name}

A cascade, made by eyas {__version__}: each model answers the texts on which its confidence reaches its threshold; the
next one answers the others. Thresholds were chosen on validation texts, to keep {min_retention:.1%} of the teacher's
score with 95 % confidence.

| | model | answers from a confidence of |
|---|---|---|
{rows}
{said}
```python
from eyas.serve import Predictor

print(Predictor("{name}")(["some text"]))
```

The models themselves, and their cards, are in the folders stage-1, stage-2 ... Their licenses and limits apply.
"""


def sentence(scored: Scored, min_retention: float, names: Sequence[str]) -> str:
    """The retention, speed and shares of a cascade on a split, and whether it misses `min_retention`."""
    shares = ", ".join(f"{name} {share:.1%}" for name, share in zip(names, scored.answered, strict=True))
    failed = "" if scored.retention >= min_retention else f" That is less than the {min_retention:.1%} asked for."
    return (
        f"On {scored.texts:,} {scored.split} texts: {scored.retention:.1%} of the teacher{bracketed(scored.interval)} "
        f"at {scored.speed:.1f} times its speed. Texts answered: {shares}.{failed}"
    )
