"""The exam of Nityasya et al. 2022 on IndoNLU's twelve sets: which student, against which teacher, at what cost?

Fine-tunes a teacher for each set, then runs the exam of indonlu.yaml, and keeps its rows. It goes on where it stopped.
The only encoder at hand is English, so the teachers are weak: see docs/benchmarks.md.

    python benchmarks/indonlu.py --shared SHARED --work FOLDER [--jobs 2] [--only smsa nergrit]
"""

import argparse
import shutil
from pathlib import Path

from common import machine, write_rows

from understudy import FinetuneSettings, finetune, load_data
from understudy.demo import encoder_folder
from understudy.exam.plan import read_plan
from understudy.exam.results import read_rows
from understudy.exam.run import run_exam
from understudy.report import write_page

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", required=True, help="the folder with data/indonlu")
    parser.add_argument("--work", required=True)
    parser.add_argument("--encoder", help="a pretrained encoder; by default the demo's, which is English")
    parser.add_argument("--steps", type=int, default=300, help="of a teacher, 16 texts each")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="names of data sets")
    parser.add_argument("--plan", default=str(HERE / "indonlu.yaml"))
    arguments = parser.parse_args()
    work = Path(arguments.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    for name in ("data", "teachers"):
        (work / name).mkdir(exist_ok=True)
    shutil.copy2(arguments.plan, work / "plan.yaml")
    steps = {"max_steps": arguments.steps, "per_device_train_batch_size": 16, "learning_rate": 2e-4}
    often = {"eval_strategy": "steps", "eval_steps": 100, "save_strategy": "steps", "save_steps": 100}
    for source in sorted((Path(arguments.shared) / "data" / "indonlu").resolve().iterdir()):
        if arguments.only and source.name not in arguments.only:
            continue
        if not (work / "data" / source.name).exists():
            (work / "data" / source.name).symlink_to(source)
        settings = FinetuneSettings(arguments={**steps, **often}, max_length=128)
        encoder = arguments.encoder or encoder_folder()
        finetune(encoder, load_data(source), work / "teachers" / source.name, settings)
    plan = read_plan(work / "plan.yaml")  # now that the teachers are there
    chosen = tuple(entry for entry in plan.data if entry.name in (arguments.only or {entry.name}))
    plan = plan.model_copy(update={"data": chosen})
    folder = run_exam(plan, work / "exam", arguments.jobs)
    write_page(folder)
    results = HERE / "results"
    write_rows(results / "indonlu.jsonl", [{**row, **machine()} for row in read_rows(folder / "results.jsonl")])
    shutil.copy2(folder / "costs.jsonl", results / "indonlu_costs.jsonl")


if __name__ == "__main__":
    main()
