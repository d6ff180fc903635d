"""Words per second of an exported tagger and of its teacher, one thread, alignment and tokenization counted in.

Both run in ONNX Runtime, in turns. What alignment alone takes is measured on the same sentences.

    python benchmarks/tagging_speed.py --student STUDENT --teacher TEACHER --data DATA
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from common import machine, write_rows

from eyas import Predictor, export_model, load_data
from eyas.data.datasets import texts_of


def _seconds(model: Predictor, sentences: list[list[str]]) -> float:
    started = time.perf_counter()
    for words in sentences:
        model.logits([words])
    return time.perf_counter() - started


def _alignment(model: Predictor, sentences: list[list[str]]) -> float:
    started = time.perf_counter()
    for words in sentences:
        list(model.words.windows([words], model.manifest.max_length))
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True, help="a tagger's folder")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="benchmarks/results/tagging_speed.jsonl")
    arguments = parser.parse_args()
    test = load_data(arguments.data)["test"]
    sentences = texts_of(test.select(range(min(arguments.sentences, len(test)))))
    words = sum(map(len, sentences))
    with tempfile.TemporaryDirectory() as folder:
        folders = {}
        for who, int8 in (("student", True), ("student", False), ("teacher", False), ("teacher", True)):
            name = f"{who} {'int8' if int8 else 'fp32'}"
            folders[name] = Path(folder) / name.replace(" ", "-")
            export_model(getattr(arguments, who), folders[name], int8=int8, min_agreement=0.8)
        models = {name: Predictor(path) for name, path in folders.items()}
        times: dict[str, list[float]] = {name: [] for name in models}
        shares = []
        for _ in range(arguments.rounds):
            for name, model in models.items():
                times[name].append(_seconds(model, sentences))
            shares.append(_alignment(models["student int8"], sentences) / times["student int8"][-1])
    reference = np.array(times["teacher fp32"])
    rows = [
        {
            "model": name,
            "words_per_second": round(words / float(np.median(taken))),
            "times_teacher": round(float(np.median(reference / np.array(taken))), 2),
            "rounds": [round(float(ratio), 2) for ratio in reference / np.array(taken)],
            "alignment_share": round(float(np.median(shares)), 4) if name == "student int8" else None,
            "words": words,
            **machine(),
        }
        for name, taken in times.items()
    ]
    write_rows(Path(arguments.out), rows)
    for row in rows:
        print(row["model"], row["words_per_second"], row["times_teacher"], row["alignment_share"])


if __name__ == "__main__":
    main()
