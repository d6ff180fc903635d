"""The engines that run an exported student: ONNX Runtime and OpenVINO, in turns on the same texts, one thread.

python benchmarks/engines.py --students STUDENT ... --data DATA
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from common import machine, write_rows

from eyas import export_model, load_data
from eyas.serve import OpenVINOPredictor, Predictor

HERE = Path(__file__).parent
TEXTS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", nargs="+", required=True, help="folders of students or teachers of single texts")
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", default=str(HERE / "results" / "engines.jsonl"))
    arguments = parser.parse_args()
    texts = load_data(arguments.data)["validation"]["text"][:TEXTS]
    rows = []
    for student in arguments.students:
        with tempfile.TemporaryDirectory() as place:
            folders = {precision: Path(place) / precision for precision in ("int8", "fp32")}
            for precision, folder in folders.items():
                export_model(student, folder, precision == "int8", min_agreement=0.8, openvino=precision == "fp32")
            engines = {
                "ONNX Runtime int8": Predictor(folders["int8"]),
                "ONNX Runtime fp32": Predictor(folders["fp32"]),
                "OpenVINO": OpenVINOPredictor(folders["fp32"]),
            }
            taken = {name: [] for name in engines}
            for _ in range(arguments.rounds):
                for name, predictor in engines.items():
                    started = time.perf_counter()
                    predictor(texts)
                    taken[name].append((time.perf_counter() - started) / len(texts) * 1e6)
        for name, times in taken.items():
            about = {"student": Path(student).name, "engine": name, "microseconds": statistics.median(times)}
            rows.append({**about, "rounds": times, **machine()})
            print(about, flush=True)
    write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
