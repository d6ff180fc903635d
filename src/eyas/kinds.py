"""The kinds of task and the meaning of their outputs. Imports no numpy, so `--help` stays fast.

Every task but regression, vectors and generation consists of decisions, each a choice among a few options: one per text
(classification) or row of fields (fields), one per word (tagging), one per aspect (aspects), yes or no per label
(multi-label). Scores, agreement and losses are written once, for decisions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["classification", "tagging", "regression", "multi-label", "aspects", "fields", "vectors", "generation"]
# The task of models that write texts. It has no outputs to compare, only a score; see `eyas.generation`.
GENERATION: Kind = "generation"
# The tasks that data can be labeled for; sentence vectors come from a teacher only.
KINDS: tuple[str, ...] = tuple(kind for kind in get_args(Kind) if kind not in ("vectors", GENERATION))
# Separates aspect and value in the output names of the aspects task: "service=positive".
IS = "="
Groups = list[list[int]]


def no_decision(labels: Sequence[str]) -> Groups:
    return []


def one_decision(labels: Sequence[str]) -> Groups:
    return [list(range(len(labels)))]


def yes_or_no(labels: Sequence[str]) -> Groups:
    return [[column, len(labels) + column] for column in range(len(labels))]


def one_an_aspect(labels: Sequence[str]) -> Groups:
    aspects: dict[str, list[int]] = {}
    for column, name in enumerate(labels):
        aspects.setdefault(name.split(IS, 1)[0], []).append(column)
    return list(aspects.values())


@dataclass(frozen=True)
class Meaning:
    """The meaning of a task's outputs.

    Args:
        metric: the score that compares models; for tags that mark spans, `span_f1` instead.
        units: the noun for the outputs in messages.
        groups: output names -> `Task.groups`.
    """

    metric: str
    units: str
    groups: Callable[[Sequence[str]], Groups]


MEANINGS: dict[Kind, Meaning] = {
    "classification": Meaning("accuracy", "labels", one_decision),
    "tagging": Meaning("accuracy", "tags", one_decision),
    "regression": Meaning("pearson", "number", no_decision),
    "multi-label": Meaning("micro_f1", "labels", yes_or_no),
    "aspects": Meaning("accuracy", "aspects", one_an_aspect),
    "fields": Meaning("auc", "labels", one_decision),
    "vectors": Meaning("cosine", "dimensions", no_decision),
    "generation": Meaning("bleu", "texts", no_decision),
}
