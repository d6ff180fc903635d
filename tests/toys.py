"""Small data sets that tiny models can learn, one per task; equal arguments give equal data."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tagging import sentences, write_conll

POSITIVE = ["great", "lovely", "superb", "charming", "moving", "witty"]
NEGATIVE = ["awful", "boring", "dreadful", "clumsy", "tedious", "flat"]
FRAMES = [
    "a {} film",
    "the plot is {} and the cast is {}",
    "i found it {}",
    "{} from start to finish , with a {} ending",
    "not a minute of it is anything but {}",
]
SPLITS = {"train": (240, 0), "validation": (60, 1000), "test": (60, 2000)}


def toy_rows(count: int, start: int = 0) -> list[dict[str, str]]:
    """Sentences with the sentiment of their adjectives."""
    rows = []
    for number in range(start, start + count):
        label, words = ("positive", POSITIVE) if number % 2 else ("negative", NEGATIVE)
        frame = FRAMES[number // 2 % len(FRAMES)]
        first, second = words[number // 3 % len(words)], words[number // 7 % len(words)]
        rows.append({"text": f"{frame.format(first, second)} {number}", "label": label})
    return rows


def pair_rows(count: int, start: int = 0) -> list[dict[str, str]]:
    """Pairs with the sentiment of the second text, whatever the first says."""
    names = {"positive": "liked", "negative": "disliked"}
    seconds = toy_rows(count, start)
    firsts = [seconds[number * 7 % count] for number in range(count)]
    rows = zip(firsts, seconds, strict=True)
    return [{"text1": a["text"], "text2": b["text"], "label": names[b["label"]]} for a, b in rows]


def score_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Pairs with a number: 2 for a good first text, and a tenth of the second."""
    return [
        {"text1": row["text"], "text2": str(n % 5), "score": 2.0 * (row["label"] == "positive") + n % 5 / 10}
        for n, row in enumerate(toy_rows(count, start))
    ]


def topic_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Sentences with several labels."""
    rows = toy_rows(count, start)
    return [{"text": row["text"], "labels": [row["label"]] + ["film"] * ("film" in row["text"])} for row in rows]


def aspect_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Sentences with two aspects."""
    return [
        {"text": row["text"], "mood": row["label"], "about": "film" if "film" in row["text"] else "other"}
        for row in toy_rows(count, start)
    ]


def field_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows of categorical fields: a user clicks on the items of the same parity; the site is always the same."""
    drawn = random.Random(start)
    pairs = [(drawn.randrange(10), drawn.randrange(10)) for _ in range(count)]
    return [{"user": u, "item": f"i{i}", "site": "s", "click": int(u % 2 == i % 2)} for u, i in pairs]


ROWS = {
    "films": toy_rows,
    "pairs": pair_rows,
    "regression": score_rows,
    "multi-label": topic_rows,
    "aspects": aspect_rows,
}


def write_jsonl(path: Path, rows: Sequence[Mapping[str, object] | str]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_toy(kind: str, folder: Path) -> Path:
    """A data set of `ROWS`, or of tags, with 240 training, 60 validation and 60 test rows."""
    folder.mkdir()
    for name, (count, start) in SPLITS.items():
        if kind == "tags":
            write_conll(folder / f"{name}.conll", sentences(count * 2 // 3, start))
        else:
            write_jsonl(folder / f"{name}.jsonl", ROWS[kind](count, start))
    return folder
