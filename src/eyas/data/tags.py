"""Tags of any scheme -> BIO, before they are numbers; and tags that do not belong to it."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

import numpy as np
from datasets import Dataset, concatenate_datasets

from eyas.data.sources import Rows
from eyas.data.targets import names_in
from eyas.spans import MISSING, Scheme, broken_places, find_scheme, marks_starts, repaired, split_tag
from eyas.tasks import Task

logger = logging.getLogger("eyas")

# Examples of tags in a message.
SHOWN = 5


def as_bio(splits: dict[str, Dataset], opened: Mapping[str, Rows], source: str, repair: bool) -> dict[str, Dataset]:
    """The splits with their tags in BIO. The scheme is found from all tags, and logged.

    Args:
        splits: with tags by name.
        opened: the rows that the splits were read from, to name the place of odd tags.
        repair: change I- tags that do not continue a span to B-.
    """
    tags = set[str]().union(*map(names_in, splits.values()))
    scheme = find_scheme(tags)
    if scheme is None:
        if "O" in tags:
            logger.info("%s: the tags mark no start of a span (B-), so each tagged word is a span of its own.", source)
        missing = {"_", "-"} if "O" in tags else {"_"}  # "-" may be a part of speech
        if len(tags) < 3 or tags.isdisjoint(missing):
            return splits
        plain = Scheme("plain tags", {tag: tag for tag in tags - missing})
        _name_odd(tags & missing, plain, splits, opened, source)
        return {name: _converted(part, plain, repair=False) for name, part in splits.items()}
    prefixes = {split_tag(bio)[0] for bio in scheme.change.values()}
    if "B" not in prefixes:
        logger.info("%s: the tags are I- and O alone, so spans of one type that touch are read as one.", source)
    elif scheme.name == "IOB2" and "I" in prefixes:
        sentences = (scheme.to_bio([tag or "O" for tag in row]) for part in splits.values() for row in part["label"])
        if not marks_starts(sentences):
            scheme = replace(scheme, name="IOB1", marks_starts=False)
    changed = sorted(tag for tag, bio in scheme.change.items() if tag != bio)
    if not scheme.is_bio:
        examples = [f"{tag} = {scheme.change[tag]}" for tag in changed[:SHOWN]]
        if not scheme.marks_starts:
            examples.append("I- at the start of a span = B-")
        logger.info("%s: the tags are %s, converted to BIO (%s).", source, scheme.name, ", ".join(examples))
    _name_odd(tags - scheme.change.keys(), scheme, splits, opened, source)
    if scheme.is_bio and not repair and tags.isdisjoint(MISSING):
        return splits
    return {name: _converted(part, scheme, repair) for name, part in splits.items()}


def _converted(dataset: Dataset, scheme: Scheme, repair: bool) -> Dataset:
    column = dataset.data.column("label").combine_chunks()
    if column.null_count:
        return dataset
    missing, rows = set(MISSING) - scheme.change.keys(), []
    for tags in column.to_pylist():
        bio = scheme.to_bio([tag or "O" for tag in tags])
        bio = repaired(bio) if repair else bio
        rows.append([None if not tag or tag in missing else new for tag, new in zip(tags, bio, strict=True)])
    features = dataset.features
    labels = Dataset.from_dict({"label": rows}, features=features.__class__({"label": features["label"]}))
    return concatenate_datasets([dataset.remove_columns("label"), labels], axis=1)


def _name_odd(
    odd: set[str], scheme: Scheme, splits: dict[str, Dataset], opened: Mapping[str, Rows], source: str
) -> None:
    """Warn about tags that are not of the scheme, with the place of the first."""
    for tags, how in ((odd & set(MISSING), "words without a tag"), (odd - set(MISSING), "spans of one word")):
        if not tags:
            continue
        count, where = 0, ""
        for name, part in splits.items():
            for row, labels in enumerate(part["label"]):
                found = [word for word, tag in enumerate(labels) if tag in tags]
                if found and not where:
                    place = next(islice(opened[name], row, None))[0]
                    where = f"{place}, word {found[0] + 1} ({part[row]['tokens'][found[0]]!r:.40})"
                count += len(found)
        logger.warning(
            "%s: the tags %s are not of the scheme %s; %d words with them are read as %s, the first in %s.",
            source, ", ".join(sorted(tags)[:SHOWN]), scheme.name, count, how, where,
        )  # fmt: skip


def report_broken_tags(dataset: Dataset, task: Task, source: str) -> None:
    """Warn about I- tags that do not continue a span."""
    if {"B", "I"} - {split_tag(tag)[0] for tag in task.labels}:
        return
    names = [*task.labels, "O"]  # -1, a word without a tag, reads as O
    broken = [len(broken_places([names[i] for i in row])) for row in dataset["label"]]
    count = sum(broken)
    if count:
        logger.warning(
            "%s: %d I- tags do not continue a span, the first in sentence %d. Each is read as the start of a span; "
            "Columns(repair_tags=True) or --repair-tags makes them B-.",
            source, count, int(np.flatnonzero(broken)[0]) + 1,
        )  # fmt: skip
