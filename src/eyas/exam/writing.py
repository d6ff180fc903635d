"""The scores of a trial of a student that writes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from eyas.evaluation.bootstrap import score
from eyas.evaluation.differences import FLIPS, shown, slices_of_texts
from eyas.evaluation.written import metrics, text_scores, text_sums, word_agreement
from eyas.exam.entries import known_words
from eyas.exam.loaded import LoadedPairs
from eyas.exam.results import DIFFERENCES, PREDICTIONS
from eyas.exam.trials import Trial
from eyas.outputs import write_atomically

# Of chrF, from 0 to 100: texts that are closer to the target than this are equally good.
EVEN = 1.0


def score_texts(trial: Trial, loaded: LoadedPairs, model: Any, folder: Path) -> dict[str, Any]:
    """The columns of the scores; writes the predictions and the differences from the teacher."""
    split, validation = loaded.data[loaded.split], loaded.data["validation"]
    sources, targets = list(split["source"]), list(split["target"])
    written = model.predict(sources)
    own, theirs = text_sums(written, targets), text_sums(loaded.written, targets)
    whole = text_sums(model.predict(list(validation["source"])), list(validation["target"]))
    alike = word_agreement(written, loaded.written)
    columns = {"example_id": split["example_id"], "sums": list(own), "prediction": written}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / PREDICTIONS)
    slices = [
        {
            "group": group,
            "name": name,
            "rows": int(mask.sum()),
            "student_accuracy": _bleu(own[mask]),
            "teacher_accuracy": _bleu(theirs[mask]),
            "agreement": float(alike[mask].mean()),
        }
        for group, name, mask in slices_of_texts(sources, known_words(trial.dataset))
        if mask.any()
    ]
    lost = {"slices": slices, "flips": _widest(sources, targets, written, loaded.written)}
    write_atomically(folder / DIFFERENCES, json.dumps(lost, ensure_ascii=False))
    scores = {name: value / 100 for name, value in text_scores(written, targets).items()}
    return {
        "rows": len(split),
        "score": scores["bleu"],
        "validation_score": _bleu(whole),
        **scores,
        "agreement": float(alike.mean()),
    }


def _bleu(sums: np.ndarray) -> float:
    return float(score(LoadedPairs.task.metric, sums.sum(0)))


def _widest(
    sources: Sequence[str], targets: Sequence[str], student: Sequence[str], teacher: Sequence[str]
) -> list[dict[str, Any]]:
    """The texts with the widest differences of chrF, and which of the two is closer to the target."""
    _, chrf, _ = metrics()
    ours, theirs = (
        np.array([chrf.sentence_score(text, [target]).score for text, target in zip(texts, targets, strict=True)])
        for texts in (student, teacher)
    )
    gaps = ours - theirs
    wide = [row for row in np.argsort(-np.abs(gaps), kind="stable")[:FLIPS] if abs(gaps[row]) > EVEN]
    return [
        {
            "text": shown(sources[row]),
            "label": shown(targets[row]),
            "student": shown(student[row]),
            "student_score": None,
            "teacher": shown(teacher[row]),
            "teacher_score": None,
            "kind": "won" if gaps[row] > 0 else "lost",
        }
        for row in wide
    ]
