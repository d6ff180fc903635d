"""Semantic textual similarity: does the cosine of sentence vectors reflect how similar two texts are?"""

from typing import Any

import numpy as np
from datasets import Dataset

from eyas.data.datasets import is_pair, labels_of, task_of
from eyas.errors import DataError
from eyas.evaluation.evaluate import Predicts
from eyas.evaluation.metrics import cosines, regression_metrics
from eyas.runtime.predict import PredictMixin


def evaluate_similarity(encoder: Predicts, dataset: Dataset, teacher: Predicts | None = None) -> dict[str, Any]:
    """Score the cosine of two texts' vectors against human similarity ratings (STS, Cer et al. 2017).

    Args:
        encoder: a model of sentence vectors.
        dataset: pairs with a numeric label.
        teacher: adds its score as `teacher_spearman`.

    Returns:
        `rows`, and Pearson's and Spearman's correlation.

    Raises:
        DataError: the model does not return vectors, or the data is not pairs with a numeric label.
    """
    if encoder.task.kind != "vectors":
        raise DataError(f"The model does {encoder.task.describe()}, expected sentence vectors.")
    if not is_pair(dataset) or task_of(dataset).kind != "regression":
        raise DataError(
            f"The data is {task_of(dataset).describe()}{' of pairs' if is_pair(dataset) else ''}, expected pairs of "
            "texts with a similarity score as label."
        )
    scores = regression_metrics(_similarities(encoder, dataset), labels_of(dataset))
    result = {"rows": len(dataset), "pearson": scores["pearson"], "spearman": scores["spearman"]}
    if teacher is not None:
        result["teacher_spearman"] = regression_metrics(_similarities(teacher, dataset), labels_of(dataset))["spearman"]
    return result


def _similarities(encoder: Predicts, dataset: Dataset) -> np.ndarray:
    before = encoder.cut if isinstance(encoder, PredictMixin) else 0
    first, second = (encoder.logits(list(dataset[column])) for column in ("text", "text_pair"))
    if isinstance(encoder, PredictMixin):
        encoder.report_cut(before)
    return cosines(first, second)
