"""The kinds of task, and what the outputs of each mean. No numpy: the command line lists them.

Every task but regression is a number of decisions, each one choice out of a few: one a text (classification), one a
word (tagging), one an aspect (aspects), yes or no for each label (multi-label). Scores, agreement and losses are
written once, for decisions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["classification", "tagging", "regression", "multi-label", "aspects", "vectors"]
# What data can be labeled for; a text's vector is its teacher's alone.
KINDS: tuple[str, ...] = get_args(Kind)[:-1]
# What one output stands for, in the names of a multi-aspect model: "service=positive".
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
    """What the outputs of a kind mean.

    Args:
        metric: the score that compares models; of tags that mark spans `span_f1`.
        units: what there are several of, for messages.
        groups: names of the outputs -> `Task.groups`.
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
    "vectors": Meaning("cosine", "dimensions", no_decision),
}
